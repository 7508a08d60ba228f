//! Lines of a file that somebody else may be writing, cutting or filling with rubbish.
//!
//! A line is handed out once its newline is there. What has none yet is left for the next
//! call, from its first byte, since it may be gone by then. No more than [`MAX_LINE`] bytes
//! are ever in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::chain::MAX_LINE;

/// What there is at the place where a line should begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line, without its newline.
    Whole(&'a [u8]),
    /// A line of more than [`MAX_LINE`] bytes; it is skipped.
    TooLong,
    /// This many bytes without a newline, and then the end.
    Torn(u64),
    /// The end.
    End,
}

pub(super) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    offset: u64,
    number: u64,
}

impl Lines {
    /// From the beginning of `file`, wherever it stands.
    pub(super) fn new(mut file: File) -> io::Result<Self> {
        file.rewind()?;
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(Self { reader, line: Vec::new(), offset: 0, number: 0 })
    }

    /// The next line. After [`Line::End`] and [`Line::Torn`] more can come, and the next call
    /// looks again.
    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        let limit = MAX_LINE as u64 + 1;
        let got = (&mut self.reader).take(limit).read_until(b'\n', &mut self.line)? as u64;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            self.advance(got);
            return Ok(Line::Whole(&self.line));
        }
        if got == limit {
            let rest = self.reader.skip_until(b'\n')? as u64;
            self.advance(got + rest);
            return Ok(Line::TooLong);
        }
        if got == 0 {
            return Ok(Line::End);
        }
        self.reader.seek(SeekFrom::Start(self.offset))?;
        Ok(Line::Torn(got))
    }

    /// Number of the line that was handed out last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where the next line begins, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn file(&self) -> &File {
        self.reader.get_ref()
    }

    /// Goes back to the beginning.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.number = 0;
        self.reader.seek(SeekFrom::Start(0)).map(|_| ())
    }

    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        self.number += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(content: &[u8]) -> (File, Lines) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let lines = Lines::new(file.try_clone().unwrap()).unwrap();
        (file, lines)
    }

    #[test]
    fn a_line_without_its_newline_is_handed_out_once_it_is_whole() {
        let (file, mut lines) = lines(b"one\n\ntw");
        assert_eq!(lines.next().unwrap(), Line::Whole(b"one"));
        assert_eq!(lines.next().unwrap(), Line::Whole(b""));
        assert_eq!(lines.next().unwrap(), Line::Torn(2));
        assert_eq!((lines.number(), lines.offset()), (2, 5));
        std::os::unix::fs::FileExt::write_all_at(&file, b"o\n", 7).unwrap();
        assert_eq!(lines.next().unwrap(), Line::Whole(b"two"));
        assert_eq!(lines.next().unwrap(), Line::End);
    }

    #[test]
    fn a_torn_line_that_was_taken_back_leaves_no_trace() {
        let (file, mut lines) = lines(b"one\ngone");
        lines.next().unwrap();
        assert_eq!(lines.next().unwrap(), Line::Torn(4));
        file.set_len(4).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"other\n", 4).unwrap();
        assert_eq!(lines.next().unwrap(), Line::Whole(b"other"));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_without_being_kept() {
        let long = vec![b'x'; MAX_LINE * 3];
        let (_file, mut lines) = lines(&[&long, &b"\nnext\n"[..]].concat());
        assert_eq!(lines.next().unwrap(), Line::TooLong);
        assert!(lines.line.capacity() <= MAX_LINE * 2 + 2);
        assert_eq!(lines.next().unwrap(), Line::Whole(b"next"));
        assert_eq!(lines.number(), 2);
    }

    #[test]
    fn the_longest_line_allowed_is_handed_out_whole() {
        let long = vec![b'x'; MAX_LINE];
        let (_file, mut lines) = lines(&[&long, &b"\n"[..]].concat());
        assert_eq!(lines.next().unwrap(), Line::Whole(&long));
    }
}
