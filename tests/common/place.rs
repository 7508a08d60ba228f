//! Filesystems to work on, made for one test and gone with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{clear_everything, missing, must, not_root, quiet};

/// A directory on some filesystem.
pub struct Place {
    dir: PathBuf,
    /// Where it is mounted, if it was mounted for this test; and the options to do it again.
    mount: Option<(PathBuf, Vec<String>)>,
    /// Holds the image and the mount point.
    scratch: TempDir,
}

impl Place {
    /// A directory on the disk of the machine.
    pub fn disk() -> Self {
        let scratch = scratch();
        let dir = scratch.path().join("files");
        std::fs::create_dir(&dir).unwrap();
        Self { dir, mount: None, scratch }
    }

    /// A new filesystem of this kind: `ext4`, `xfs` or `btrfs` in an image, `tmpfs`, `ramfs`,
    /// or `overlay` over the machine's disk. `Err` says why this machine cannot.
    pub fn new(kind: &str) -> Result<Self, String> {
        not_root().map_or(Ok(()), Err)?;
        if !std::fs::read_to_string("/proc/filesystems").unwrap_or_default().contains(kind) {
            let _ = quiet("modprobe", &[OsStr::new(kind)]);
        }
        let scratch = scratch();
        let at = scratch.path().join("mount");
        std::fs::create_dir(&at).unwrap();
        let options = match kind {
            "ext4" | "xfs" | "btrfs" => image_options(kind, scratch.path())?,
            "overlay" => overlay_options(scratch.path()),
            _ => ["-t", kind, "none"].map(str::to_owned).to_vec(),
        };
        let mut place = Self { dir: at.join("files"), mount: Some((at, options)), scratch };
        place.mount()?;
        std::fs::create_dir(&place.dir).map_err(|error| error.to_string())?;
        Ok(place)
    }

    /// Where the test's files go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The mount point, of a filesystem that was made for the test.
    pub fn mount_point(&self) -> &Path {
        &self.mount.as_ref().expect("a place that was mounted").0
    }

    /// Mounts it again, as it was.
    pub fn mount(&mut self) -> Result<(), String> {
        let (at, options) = self.mount.as_ref().expect("a place that was mounted");
        let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        args.push(at.as_os_str());
        let output = quiet("mount", &args);
        output.status.success().then_some(()).ok_or_else(|| super::text(&output.stderr))
    }

    /// Mounts it with further `options`, as for `mount -o remount,…`.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        must("mount", &["-o".as_ref(), options.as_ref(), self.mount_point().as_os_str()]);
    }

    /// Unmounts it; what `umount` says where that is refused.
    pub fn unmount(&self) -> Result<(), String> {
        let output = quiet("umount", &[self.mount_point().as_os_str()]);
        output.status.success().then_some(()).ok_or_else(|| super::text(&output.stderr))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear_mounts_below(self.scratch.path());
        clear_everything(self.scratch.path());
    }
}

/// A new directory on disk, by its real name.
fn scratch() -> TempDir {
    let root = std::fs::canonicalize("/var/tmp").unwrap();
    tempfile::Builder::new().prefix("steadfast-test-").tempdir_in(root).unwrap()
}

/// Unmounts everything below `root`, last first: also what a tamperer put there. A loop device
/// of `mount -o loop` detaches itself with its mount.
pub fn clear_mounts_below(root: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = root.to_string_lossy().into_owned();
    let inside = |point: &&str| point.starts_with(&format!("{root}/"));
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).filter(inside);
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        let point = unescape(point);
        clear_everything(&point);
        let _ = quiet("umount", &["-l".as_ref(), point.as_os_str()]);
    }
}

/// The octal escapes of the mount table.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut out = Vec::new();
    let mut bytes = field.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            let digits: Vec<u8> = bytes.by_ref().take(3).collect();
            out.push(digits.iter().fold(0_u8, |sum, d| (sum << 3) | (d - b'0')));
        } else {
            out.push(byte);
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

fn image_options(kind: &str, scratch: &Path) -> Result<Vec<String>, String> {
    let mkfs = format!("mkfs.{kind}");
    missing(&[&mkfs]).map_or(Ok(()), Err)?;
    let image = scratch.join("image");
    // Sparse: the smallest that every one of the three takes.
    std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let quietly = if kind == "btrfs" { "-f" } else { "-q" };
    must(&mkfs, &[quietly.as_ref(), image.as_os_str()]);
    let image = image.to_string_lossy().into_owned();
    Ok(["-t", kind, "-o", "loop", &image].map(str::to_owned).to_vec())
}

fn overlay_options(scratch: &Path) -> Vec<String> {
    for layer in ["lower", "upper", "work"] {
        std::fs::create_dir(scratch.join(layer)).unwrap();
    }
    let root = scratch.to_string_lossy();
    let layers = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work");
    ["-t", "overlay", "overlay", "-o", &layers].map(str::to_owned).to_vec()
}

/// Takes all the room that the filesystem has left.
pub fn fill_up(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    let (mut at, mut piece) = (0, 64 << 20);
    while piece >= 1 << 10 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), at, piece) {
            Ok(()) => at += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(error) => panic!("{error}"),
        }
    }
}
