//! Patterns in `paths`: `*`, `?`, `[…]`, `{a,b}` and `**`, as shells and git have them.
//!
//! `*` and `?` never match a slash; `**` as a whole component matches any number of
//! directories. A backslash takes the meaning from the character behind it.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::text::escape;

/// Whether `text` is a pattern; a path with such a character in its name has to escape it.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// A pattern: the directory above the first component that has a meaning, and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// Where to start looking.
    pub base: PathBuf,
    /// What to match below.
    rest: String,
}

impl Glob {
    /// Takes an absolute pattern apart.
    pub fn new(text: &str) -> Result<Self, String> {
        let shown = escape(text.as_bytes());
        if text.split('/').any(|component| component == "..") {
            return Err(format!("`{shown}` has `..` in a pattern: write the directory it means"));
        }
        let is_special = |component: &&str| is_glob(component) || component.contains('\\');
        let components: Vec<_> = text.split('/').filter(|c| !c.is_empty() && *c != ".").collect();
        let plain = components.iter().position(is_special).unwrap_or(components.len());
        let (base, rest) = components.split_at(plain);
        let glob = Self { base: Path::new("/").join(base.join("/")), rest: rest.join("/") };
        glob.matcher().map_err(|error| {
            format!("`{shown}` is not a pattern: {}", escape(error.kind().to_string().as_bytes()))
        })?;
        Ok(glob)
    }

    /// Matches paths relative to `base`: its own name needs no escaping, may be spelt otherwise
    /// than in the pattern and need not be UTF-8.
    pub fn matcher(&self) -> Result<GlobMatcher, globset::Error> {
        let glob =
            GlobBuilder::new(&self.rest).literal_separator(true).backslash_escape(true).build()?;
        Ok(glob.compile_matcher())
    }

    /// How many levels below the base a match can lie; `None` for any number.
    pub fn depth(&self) -> Option<usize> {
        let endless = self.rest.contains("**") || self.rest.contains('{');
        (!endless).then(|| self.rest.split('/').count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_starts_at_the_last_plain_directory() {
        let glob = Glob::new("/etc//nginx/./**/*.conf").unwrap();
        assert_eq!(glob.base, Path::new("/etc/nginx"));
        assert_eq!(glob.depth(), None);
        assert_eq!(Glob::new("/*").unwrap().base, Path::new("/"));
        assert_eq!(Glob::new("/a/[bc]/d/*").unwrap().depth(), Some(3));
        assert_eq!(Glob::new("/a\\*/b*").unwrap().base, Path::new("/"));
    }

    #[test]
    fn a_star_keeps_to_its_directory_and_two_stars_do_not() {
        let matches = |glob: &str, path: &str| {
            Glob::new(glob).unwrap().matcher().unwrap().is_match(Path::new(path))
        };
        assert!(matches("/b/*.conf", "x.conf"));
        assert!(!matches("/b/*.conf", "c/x.conf"));
        assert!(matches("/b/**/*.conf", "x.conf"));
        assert!(matches("/b/**/*.conf", "c/d/x.conf"));
        assert!(matches("/b/\\*{x,y}", "*y"));
        assert!(matches("/b/*", ".hidden"));
    }

    #[test]
    fn a_pattern_that_climbs_or_makes_no_sense_is_refused() {
        for bad in ["/a/../*", "/a/[", "/a/{b", "/a/[z-a]", "/a/**b/{"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
