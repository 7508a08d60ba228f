//! Resolving, on real files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::super::{Config, Protect};
use super::*;

struct Tree {
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Tree {
    /// A canonical directory with files of these names, and the directories they need.
    fn new(files: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), b"x").unwrap();
        }
        Self { _directory: directory, root }
    }

    fn config(&self, tables: &[(&[&str], bool)]) -> Config {
        let mut config = Config::default();
        config.daemon.state = self.root.join("state");
        config.protect = tables
            .iter()
            .map(|(paths, immutable)| Protect {
                paths: paths.iter().map(|p| format!("{}/{p}", self.root.display())).collect(),
                policy: Policy { immutable: *immutable, ..Policy::default() },
            })
            .collect();
        config
    }

    /// What `paths` resolve to, relative to the root, and the problems.
    fn resolve(&self, paths: &[&str]) -> (Vec<String>, Vec<Unresolved>) {
        let resolution = resolve(&self.config(&[(paths, true)]));
        let relative = |path: &Path| escape_path(path.strip_prefix(&self.root).unwrap_or(path));
        (resolution.files.iter().map(|(path, _)| relative(path)).collect(), resolution.problems)
    }
}

#[test]
fn a_directory_is_itself_and_all_below_it() {
    let tree = Tree::new(&["d/a", "d/e/b", "c"]);
    symlink("/nowhere", tree.root.join("d/link")).unwrap();
    assert_eq!(tree.resolve(&["d"]).0, ["d", "d/a", "d/e", "d/e/b", "d/link"]);
}

#[test]
fn patterns_find_files_and_never_follow_a_linked_directory() {
    let tree = Tree::new(&["n/a.conf", "n/s/b.conf", "n/s/c.txt", "out/d.conf"]);
    symlink(tree.root.join("out"), tree.root.join("n/link")).unwrap();
    assert_eq!(tree.resolve(&["n/**/*.conf"]).0, ["n/a.conf", "n/s/b.conf"]);
    assert_eq!(tree.resolve(&["n/*.conf"]).0, ["n/a.conf"]);
    assert_eq!(tree.resolve(&["n/?"]).0, ["n/s", "n/s/b.conf", "n/s/c.txt"]);
    assert_eq!(tree.resolve(&["{n,out}/[ad].conf"]).0, ["n/a.conf", "out/d.conf"]);
}

#[test]
fn a_pattern_that_matches_nothing_is_a_warning_and_a_missing_path_is_not() {
    let tree = Tree::new(&["a"]);
    let (files, problems) = tree.resolve(&["*.conf", "gone/*.conf", "b", "a/b"]);
    assert!(files.is_empty());
    let warnings: Vec<_> = problems.iter().map(Unresolved::is_warning).collect();
    assert_eq!(warnings, [true, true, false, false]);
    assert!(problems[2].message.contains("does not exist"), "{}", problems[2]);
    assert_eq!(problems[2].path, tree.root.join("b"));
    assert_eq!(problems[3].obstacle, Obstacle::Missing);
}

#[test]
fn parents_lose_their_links_and_dots() {
    let tree = Tree::new(&["real/a"]);
    symlink("real", tree.root.join("way")).unwrap();
    assert_eq!(tree.resolve(&["way/a"]).0, ["real/a"]);
    assert_eq!(tree.resolve(&["way/*"]).0, ["real/a"]);
    assert_eq!(tree.resolve(&["real/../way/./a"]).0, ["real/a"]);
    assert_eq!(canonical_path(&tree.root.join("way/gone/../x")), tree.root.join("real/x"));
    assert_eq!(canonical_path(Path::new("/..")), Path::new("/"));
}

#[test]
fn a_link_that_is_named_brings_every_step_to_its_file() {
    let tree = Tree::new(&["real/a"]);
    symlink("real/a", tree.root.join("one")).unwrap();
    symlink("one", tree.root.join("two")).unwrap();
    assert_eq!(tree.resolve(&["two"]).0, ["one", "real/a", "two"]);
    symlink("lost", tree.root.join("dangling")).unwrap();
    let (files, problems) = tree.resolve(&["dangling"]);
    assert_eq!((files.len(), problems[0].obstacle), (1, Obstacle::Missing));
    symlink("ring", tree.root.join("ring")).unwrap();
    assert!(tree.resolve(&["ring"]).1[0].message.contains("circle"));
}

#[test]
fn the_later_table_wins() {
    let tree = Tree::new(&["a", "b"]);
    let resolution = resolve(&tree.config(&[(&["*"], true), (&["b"], false)]));
    let policies: Vec<_> = resolution.files.iter().map(|(_, policy)| policy.immutable).collect();
    assert_eq!(policies, [true, false]);
}

#[test]
fn special_files_the_state_and_the_kernels_own_are_refused_when_named() {
    let tree = Tree::new(&["state/baseline.db", "a"]);
    nix::unistd::mkfifo(&tree.root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let (_, problems) = tree.resolve(&["pipe", "state/baseline.db", "state/*"]);
    assert!(problems[0].message.contains("is a named pipe"), "{}", problems[0]);
    assert!(problems[1].message.contains("own state"), "{}", problems[1]);
    assert!(problems[2].message.contains("own state"), "{}", problems[2]);
    assert_eq!(tree.resolve(&["*"]).0, ["a"]);
    for path in ["/proc/self/status", "/sys/kernel", "/dev/null", "/", "/.."] {
        let refused = resolve_path(Path::new(path), Path::new("/s")).unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Refused, "{path}");
    }
}

#[test]
fn a_literal_path_may_hold_stars_and_any_bytes() {
    let tree = Tree::new(&["*", "b"]);
    let odd = tree.root.join(OsStr::from_bytes(b"\xff\n"));
    fs::write(&odd, b"x").unwrap();
    let state = tree.root.join("state");
    assert_eq!(resolve_path(&tree.root.join("*"), &state), Ok(vec![tree.root.join("*")]));
    assert_eq!(resolve_path(&odd, &state), Ok(vec![odd.clone()]));
    assert_eq!(tree.resolve(&["*"]).0, ["*", "b", "\\xff\\n"]);
    let message = resolve_path(&odd.join("x"), &state).unwrap_err().message;
    assert!(!message.contains('\n'), "{message:?}");
}
