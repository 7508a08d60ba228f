//! What a container is called, from what its runtime keeps on disk.
//!
//! For the thread that writes the journal, and never for the permission thread: files are
//! opened. They belong to root, but what is in them was chosen by whoever started the container:
//! sizes are bounded, symlinks are not followed, text is escaped. The runtime is not asked, for
//! it may be stopped, slow, or waiting for us.
//!
//! Podman's monitor `conmon`, above each of its containers, has the name in its command line.
//! That also serves rootless containers, whose state is in some user's home, and containers that
//! are gone with their state before anybody could look.
//!
//! Limits: a name is only found under the default directories and the ones that
//! `/etc/docker/daemon.json` and `/etc/containers/storage.conf` name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Actor;
use crate::sys::read::read_bounded;
use crate::text::escape;

/// The longest state file that is read.
const STATE: usize = 8 << 20;
/// Names that are remembered.
const KNOWN: usize = 256;
/// The longest name that is kept, in characters.
const NAME: usize = 128;
/// Podman keeps its list beside the images, under the name of the storage driver.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];

/// Where the runtimes keep their state.
#[derive(Clone, Debug)]
pub struct Places {
    docker: PathBuf,
    podman: Vec<PathBuf>,
    containerd: PathBuf,
}

impl Places {
    /// This host's.
    #[must_use]
    pub fn of_host() -> Self {
        let docker = daemon_json().unwrap_or_else(|| "/var/lib/docker".into());
        let (storage, run) = storage_conf();
        let podman = vec![
            storage.unwrap_or_else(|| "/var/lib/containers/storage".into()),
            run.unwrap_or_else(|| "/run/containers/storage".into()),
        ];
        Self { docker, podman, containerd: "/run/containerd/io.containerd.runtime.v2.task".into() }
    }

    /// The name of the container `id`.
    #[must_use]
    pub fn name(&self, id: &str) -> Option<String> {
        // An id becomes part of a path.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let found = self.docker(id).or_else(|| self.podman(id)).or_else(|| self.kubernetes(id));
        found.as_deref().and_then(presentable)
    }

    /// `containers/ID/config.v2.json` has `"Name": "/web"`.
    fn docker(&self, id: &str) -> Option<String> {
        let state = json(&self.docker.join("containers").join(id), "config.v2.json")?;
        let name = state.get("Name")?.as_str()?;
        Some(name.strip_prefix('/').unwrap_or(name).to_owned())
    }

    /// `overlay-containers/containers.json`: a list with `id` and `names`. Containers that are
    /// not to survive a reboot stand in another list below the run root.
    fn podman(&self, id: &str) -> Option<String> {
        let lists = self.podman.iter().flat_map(|root| {
            DRIVERS.iter().flat_map(move |driver| {
                let dir = root.join(format!("{driver}-containers"));
                ["containers.json", "volatile-containers.json"].map(|name| (dir.clone(), name))
            })
        });
        lists.filter_map(|(dir, name)| json(&dir, name)).find_map(|list| {
            let is_it = |one: &&Value| one.get("id").and_then(Value::as_str) == Some(id);
            let one = list.as_array()?.iter().find(is_it)?;
            Some(one.get("names")?.get(0)?.as_str()?.to_owned())
        })
    }

    /// `k8s.io/ID/config.json` has annotations; what a person calls it is pod and container.
    fn kubernetes(&self, id: &str) -> Option<String> {
        let bundle = json(&self.containerd.join("k8s.io").join(id), "config.json")?;
        let annotation = |name: &str| {
            let key = format!("io.kubernetes.cri.{name}");
            Some(bundle.get("annotations")?.get(&key)?.as_str()?.to_owned())
        };
        let parts = ["sandbox-namespace", "sandbox-name", "container-name"].map(annotation);
        let named: Vec<_> = parts.into_iter().flatten().collect();
        (!named.is_empty()).then(|| named.join("/"))
    }
}

/// Names that were found, for when the container is gone and its state with it.
#[derive(Debug)]
pub struct Names {
    places: Places,
    known: BTreeMap<String, String>,
}

impl Names {
    /// None yet.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self { places, known: BTreeMap::new() }
    }

    /// Gives `actor` the name of its container, if it is in one and that can be found.
    pub fn complete(&mut self, actor: &mut Actor) {
        let Some(id) = &actor.container else { return };
        if let Some(name) = self.known.get(id) {
            actor.container_name = Some(name.clone());
            return;
        }
        let Some(name) = self.places.name(id).or_else(|| from_monitor(actor, id)) else { return };
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(id.clone(), name.clone());
        actor.container_name = Some(name);
    }
}

/// `conmon … -c ID … -n NAME …`, above every container of podman.
fn from_monitor(actor: &Actor, id: &str) -> Option<String> {
    let is_monitor = |exe: &str| {
        ["/usr/bin/conmon", "/usr/libexec/podman/conmon", "/usr/local/bin/conmon"].contains(&exe)
    };
    let monitors = actor.ancestry.iter().filter(|one| one.exe.as_deref().is_some_and(is_monitor));
    monitors.map(|one| &one.cmdline).find_map(|cmdline| {
        let option = |wanted: &str| {
            let at = cmdline.iter().position(|word| word == wanted)?;
            // The last argument may be cut off.
            cmdline.get(at + 1).filter(|_| at + 2 < cmdline.len())
        };
        (option("-c")? == id).then(|| presentable(option("-n")?))?
    })
}

/// Escaped, and no longer than a name should be.
fn presentable(name: &str) -> Option<String> {
    let short: String = name.chars().take(NAME).collect();
    (!short.is_empty()).then(|| escape(short.as_bytes()))
}

fn json(dir: &Path, name: &str) -> Option<Value> {
    serde_json::from_slice(&read_bounded(dir, OsStr::new(name), STATE).ok()?).ok()
}

fn daemon_json() -> Option<PathBuf> {
    let root = json(Path::new("/etc/docker"), "daemon.json")?;
    Some(PathBuf::from(root.get("data-root")?.as_str()?))
}

/// The storage root and the run root that the administrator has chosen.
fn storage_conf() -> (Option<PathBuf>, Option<PathBuf>) {
    let read = || {
        let bytes = read_bounded(Path::new("/etc/containers"), OsStr::new("storage.conf"), STATE);
        toml::from_slice::<toml::Table>(&bytes.ok()?).ok()
    };
    let table = read();
    let key = |name: &str| {
        let value = table.as_ref()?.get("storage")?.get(name)?.as_str()?;
        Some(PathBuf::from(value))
    };
    (key("graphroot"), key("runroot"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::attribute::Ancestor;
    use crate::sys::test::disk;

    const ID: &str = "4f1d0c3b2a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff0";

    fn room() -> (TempDir, Places) {
        let room = disk();
        let at = |name: &str| room.path().join(name);
        let places =
            Places { docker: at("d"), podman: vec![at("p"), at("r")], containerd: at("c") };
        (room, places)
    }

    fn write(path: &Path, text: impl AsRef<[u8]>) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn each_runtime_tells_the_name_in_its_own_way() {
        let (room, places) = room();
        assert_eq!(places.name(ID), None);
        let bundle = room.path().join("c/k8s.io").join(ID).join("config.json");
        let annotations = json!({"annotations": {
            "io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.sandbox-name": "web-1",
            "io.kubernetes.cri.sandbox-namespace": "shop",
        }});
        write(&bundle, annotations.to_string());
        assert_eq!(places.name(ID).as_deref(), Some("shop/web-1/app"));
        let volatile = room.path().join("r/overlay-containers/volatile-containers.json");
        write(&volatile, json!([{"id": ID, "names": ["passing"]}]).to_string());
        assert_eq!(places.name(ID).as_deref(), Some("passing"));
        let list = json!([{"id": "00", "names": ["other"]}, {"id": ID, "names": ["web\n", "b"]}]);
        write(&room.path().join("p/vfs-containers/containers.json"), list.to_string());
        assert_eq!(places.name(ID).as_deref(), Some("web\\n"));
        let docker = room.path().join("d/containers").join(ID).join("config.v2.json");
        write(&docker, json!({"ID": ID, "Name": "/front"}).to_string());
        assert_eq!(places.name(ID).as_deref(), Some("front"));
    }

    #[test]
    fn an_id_cannot_lead_elsewhere_and_a_link_is_not_followed() {
        let (room, places) = room();
        let outside = room.path().join("outside");
        write(&outside, json!({"Name": "/trap"}).to_string());
        let dir = room.path().join("d/containers").join(ID);
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("config.v2.json")).unwrap();
        assert_eq!(places.name(ID), None);
        write(&room.path().join("d/config.v2.json"), json!({"Name": "/trap"}).to_string());
        for id in ["..", ".", "", "a/b", "web1"] {
            assert_eq!(places.name(id), None, "{id}");
        }
    }

    #[test]
    fn podmans_monitor_tells_the_name_of_its_own_container_only() {
        let (_room, places) = room();
        let monitor = |exe: &str, words: &str| Actor {
            container: Some(ID.to_owned()),
            ancestry: vec![Ancestor {
                exe: Some(exe.to_owned()),
                cmdline: words.split(' ').map(str::to_owned).collect(),
                ..Ancestor::default()
            }],
            ..Actor::default()
        };
        let named = |exe: &str, words: &str| {
            let mut actor = monitor(exe, words);
            Names::new(places.clone()).complete(&mut actor);
            actor.container_name
        };
        let words = format!("conmon -c {ID} -u {ID} -n web --exit-dir /x");
        assert_eq!(named("/usr/bin/conmon", &words).as_deref(), Some("web"));
        assert_eq!(named("/tmp/conmon", &words), None);
        assert_eq!(named("/usr/bin/conmon", &words.replace(ID, "00")), None);
        assert_eq!(named("/usr/bin/conmon", &format!("conmon -c {ID} -n we")), None);
    }

    #[test]
    fn a_name_outlives_the_state_that_it_was_read_from() {
        let (room, places) = room();
        let docker = room.path().join("d/containers").join(ID).join("config.v2.json");
        write(&docker, json!({"Name": "/front"}).to_string());
        let mut names = Names::new(places);
        let mut actor = Actor { container: Some(ID.to_owned()), ..Actor::default() };
        names.complete(&mut actor);
        std::fs::remove_file(docker).unwrap();
        actor.container_name = None;
        names.complete(&mut actor);
        assert_eq!(actor.container_name.as_deref(), Some("front"));
    }

    proptest! {
        #[test]
        fn rubbish_on_disk_has_no_name_and_does_no_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9]{0,60}",
        ) {
            let (room, places) = room();
            let docker = room.path().join("d/containers").join(ID).join("config.v2.json");
            write(&docker, &bytes);
            write(&room.path().join("p/overlay-containers/containers.json"), &text);
            let _ = places.name(ID);
        }
    }
}
