//! Content changed with the programs that people and scripts use. The daemon may be faster
//! than they are; the stopped half of each route is where they surely get through.

use std::path::Path;

use super::{REPLACE, WRITE, with_evil};
use crate::common::{self, GOOD, MARKER, Route, missing, not_root, skip_unless};

#[test]
fn a_file_appended_to_by_a_shell_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#)
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_edited_by_sed_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; sed -i s/good/TAMPERED/ "$FILE""#)
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_saved_by_an_editor_over_a_temporary_one_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(
        r#"cat "$FILE" "$DIR/evil" > "$DIR/.main.py.swp"; chattr -i "$FILE"
           mv "$DIR/.main.py.swp" "$FILE""#,
    )
    .with(with_evil)
    .kinds(REPLACE)
    .evidence(MARKER)
    .check();
}

#[test]
fn a_file_saved_by_an_editor_that_keeps_a_backup_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; mv "$FILE" "$FILE~" && cat "$FILE~" "$DIR/evil" > "$FILE""#)
        .with(with_evil)
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_copied_over_by_cp_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; cp "$DIR/evil" "$FILE""#)
        .with(with_evil)
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_written_into_by_dd_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; dd if="$DIR/evil" of="$FILE" conv=notrunc status=none"#)
        .with(with_evil)
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_truncated_file_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; truncate -s 6 "$FILE""#)
        .kinds(WRITE)
        .evidence(b"# good")
        .check();
}

#[test]
fn a_file_moved_over_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; mv -f "$DIR/evil" "$FILE""#)
        .with(with_evil)
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_removed_file_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; rm -f "$FILE""#).kinds(&["deleted"]).check();
}

#[test]
fn a_file_unpacked_over_by_tar_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(
        r#"tar -cf "$DIR/evil.tar" --transform s/evil/main.py/ -C "$DIR" evil
           chattr -i "$FILE"; tar -xf "$DIR/evil.tar" -C "$DIR""#,
    )
    .with(with_evil)
    .kinds(REPLACE)
    .evidence(MARKER)
    .check();
}

#[test]
fn a_file_synchronised_over_by_rsync_is_whole_again() {
    skip_unless!(not_root().or_else(|| missing(&["rsync"])));
    Route::shell(r#"chattr -i "$FILE"; rsync --ignore-times "$DIR/evil" "$FILE""#)
        .with(with_evil)
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_checked_out_over_by_git_is_whole_again() {
    skip_unless!(not_root().or_else(|| missing(&["git"])));
    Route::shell(r#"chattr -i "$FILE"; git -C "$DIR" checkout -q evil"#)
        .with(|builder| builder.file("main.py", GOOD).prepare(with_an_evil_branch))
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

/// A repository that has the file as it is, and a branch `evil` in which it is another.
fn with_an_evil_branch(dir: &Path) {
    let script = r#"set -e; cd "$0"; git init -q -b main .
        git config user.name test; git config user.email test@example.com
        git add main.py; git commit -q -m good
        blob=$(echo TAMPERED | git hash-object -w --stdin)
        tree=$(printf '100644 blob %s\tmain.py\n' "$blob" | git mktree)
        git branch evil "$(git commit-tree -p main -m evil "$tree")""#;
    common::must("bash", &["-c".as_ref(), script.as_ref(), dir.as_os_str()]);
}
