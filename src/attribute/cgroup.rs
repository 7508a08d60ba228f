//! What a cgroup path says about where a process belongs: its systemd unit, its container.
//!
//! Pure. A user may make cgroups below their own and name them like somebody else's service
//! or container, so of several names the first one, nearest to the root, is taken: systemd
//! made that one, and `systemctl status PID` says the same.

use std::path::{Component, Path};

/// The cgroup path out of `/proc/PID/cgroup`: the unified hierarchy's, or systemd's own where
/// the host still uses version 1.
#[must_use]
pub fn path_in(text: &str) -> Option<&str> {
    let by_hierarchy = |wanted: &str| {
        text.lines().find_map(|line| {
            let (id, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let matches = controllers == wanted && (id == "0" || !wanted.is_empty());
            (matches && path != "/").then_some(path)
        })
    };
    let root = || text.lines().find_map(|line| line.strip_prefix("0::"));
    by_hierarchy("").or_else(|| by_hierarchy("name=systemd")).or_else(root)
}

/// The systemd unit: the first service, scope or socket of the path.
#[must_use]
pub fn unit_in(path: &str) -> Option<&str> {
    parts(path).find(|part| is_unit(part))
}

/// The unit of the user's own systemd, where the process is in one: what a user calls it.
#[must_use]
pub fn user_unit_in(path: &str) -> Option<&str> {
    unit_in(path).filter(|unit| is_user_manager(unit))?;
    let mut below = parts(path).skip_while(|part| !is_user_manager(part)).skip(1);
    below.find(|part| is_unit(part) && *part != "init.scope")
}

/// The id of the container, as its runtime prints it; of LXC and nspawn the name.
#[must_use]
pub fn container_in(path: &str) -> Option<&str> {
    let parents = std::iter::once("").chain(parts(path));
    parents.zip(parts(path)).find_map(|(parent, part)| {
        from_prefix(part).or_else(|| from_parent(parent, part)).or_else(|| from_name(part))
    })
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

/// `user@1000.service`
fn is_user_manager(part: &str) -> bool {
    part.starts_with("user@") && part.ends_with(".service")
}

fn is_unit(part: &str) -> bool {
    [".service", ".scope", ".socket"]
        .iter()
        .any(|kind| part.strip_suffix(kind).is_some_and(|name| !name.is_empty()))
}

/// `docker-ID.scope` and its kind, with or without the suffix.
fn from_prefix(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = ["docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-", "containerd-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    is_id(id).then_some(id)
}

/// `machine-NAME.scope` of nspawn and libvirt, whose virtual machines are no containers;
/// `systemd-nspawn@NAME.service`; `….slice:cri-containerd:ID`.
fn from_name(part: &str) -> Option<&str> {
    let machine = part.strip_prefix("machine-").and_then(|part| part.strip_suffix(".scope"));
    let machine = machine.filter(|name| !name.starts_with("qemu"));
    let nspawn =
        part.strip_prefix("systemd-nspawn@").and_then(|part| part.strip_suffix(".service"));
    let id = part.rsplit_once(':').map(|(_, id)| id).filter(|id| is_id(id));
    machine.or(nspawn).filter(|name| !name.is_empty()).or(id)
}

/// `/docker/ID`, `/lxc/NAME`, `/kubepods/…/podUID/ID`. Below `/libpod_parent` an id is a pod's.
fn from_parent<'a>(parent: &str, part: &'a str) -> Option<&'a str> {
    match parent {
        "docker" => is_id(part).then_some(part),
        "lxc" | "lxc.payload" => Some(part),
        _ if is_pod(parent) => is_id(part).then_some(part),
        _ => None,
    }
    .or_else(|| part.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()))
}

/// `podUID`, or `kubepods-burstable-podUID.slice` where systemd makes the groups.
fn is_pod(part: &str) -> bool {
    part.starts_with("pod") || (part.starts_with("kubepods") && part.contains("-pod"))
}

/// Runtimes use 64 hexadecimal digits; none uses less than twelve.
fn is_id(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1d0c3b2a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff0";

    #[test]
    fn the_unified_hierarchy_is_preferred_and_systemds_own_comes_next() {
        assert_eq!(path_in("0::/system.slice/cron.service\n"), Some("/system.slice/cron.service"));
        let first = "12:pids:/x\n1:name=systemd:/user.slice/session-2.scope\n0::/\n";
        assert_eq!(path_in(first), Some("/user.slice/session-2.scope"));
        assert_eq!(path_in("1:cpu:/a\n0::/b:c\n"), Some("/b:c"));
        assert_eq!(path_in("0::/\n"), Some("/"));
        assert_eq!(path_in("rubbish\n"), None);
        assert_eq!(path_in(""), None);
    }

    #[test]
    fn the_unit_is_the_first_one_of_the_path_whatever_was_made_below_it() {
        for (path, unit) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
                Some("user@1000.service"),
            ),
            ("/system.slice/cups.socket", Some("cups.socket")),
            ("/system.slice/docker.service/sub/group", Some("docker.service")),
            ("/user.slice/user-7.slice/session-1.scope/nginx.service", Some("session-1.scope")),
            ("/user.slice", None),
            ("/.service", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(unit_in(path), unit, "{path}");
        }
    }

    #[test]
    fn a_users_own_unit_is_told_beside_the_manager_that_runs_it() {
        let manager = "/user.slice/user-7.slice/user@7.service";
        let own = |below: &str| user_unit_in(&format!("{manager}{below}")).map(str::to_owned);
        assert_eq!(own("/app.slice/backup.service").as_deref(), Some("backup.service"));
        assert_eq!(own("/app.slice/app-x.scope/sub").as_deref(), Some("app-x.scope"));
        assert_eq!(own("/init.scope"), None);
        assert_eq!(own(""), None);
        assert_eq!(user_unit_in("/system.slice/cron.service/user@7.service/a.service"), None);
        assert_eq!(user_unit_in("/user.slice/user-7.slice/session-3.scope"), None);
    }

    #[test]
    fn containers_are_recognised_by_every_runtimes_way_of_naming() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/docker/{ID}/init.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/libpod_parent/{}/libpod-{ID}", ID.replace('4', "a")),
            format!("/machine.slice/machine-libpod_pod_00.slice/libpod-{ID}.scope"),
            format!(
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"
            ),
            format!("/system.slice/containerd.service/kubepods-pod1_2.slice:cri-containerd:{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod1_2.slice/crio-{ID}.scope"),
            format!("/kubepods/besteffort/pod0f-1c/{ID}"),
            format!("/system.slice/docker-{ID}.scope/system.slice/cron.service"),
        ] {
            assert_eq!(container_in(&path), Some(ID), "{path}");
        }
        assert_eq!(container_in("/lxc/web1/init"), Some("web1"));
        assert_eq!(container_in("/lxc.payload.web1/x"), Some("web1"));
        assert_eq!(container_in("/machine.slice/machine-web1.scope/payload"), Some("web1"));
        let service = "/machine.slice/systemd-nspawn@web1.service/payload/init.scope";
        assert_eq!(container_in(service), Some("web1"));
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/system.slice/docker.service",
            "/system.slice/docker-compose.service",
            "/user.slice/docker-x.scope",
            "/podman/abc",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
            "/machine.slice/machine-.scope",
            "/docker/not-an-id",
            "/machine.slice/libpod-conmon-4f1d0c3b2a596877.scope",
            "/",
        ] {
            assert_eq!(container_in(path), None, "{path}");
        }
    }
}
