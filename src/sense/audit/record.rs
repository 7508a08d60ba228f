//! One audit record: `audit(SECONDS.MILLIS:SERIAL): name=value …`.
//!
//! The kernel writes text that somebody else chose either in quotes, where it is harmless, or
//! as hexadecimal digits, where it is not: so a process called `a" pid=1` can forge no field.
//! Anything else is taken as it comes, never believed to be well-formed, and never panicked on.

use crate::judge::FileTime;
use crate::text::hex_decode;

/// A record that was taken apart. Borrows from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the system call began, to the millisecond; the clock is the one of file times.
    pub time: FileTime,
    /// The same for all records of one system call.
    pub serial: u64,
    body: &'a str,
}

impl<'a> Record<'a> {
    /// Takes a record apart; `None` if it is none.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?.trim_end_matches(['\0', '\n']);
        let (stamp, body) = text.strip_prefix("audit(")?.split_once("):")?;
        let (time, serial) = stamp.split_once(':')?;
        let (sec, millis) = time.split_once('.')?;
        let millis: u32 = millis.parse().ok().filter(|millis| *millis < 1000)?;
        Some(Self {
            time: FileTime { sec: sec.parse().ok()?, nsec: millis * 1_000_000 },
            serial: serial.parse().ok()?,
            body,
        })
    }

    /// The value of the first field with this name, as it stands.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// A decimal number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// A hexadecimal number.
    #[must_use]
    pub fn hex(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.get(name)?, 16).ok()
    }

    /// An id, of which all bits set stand for none.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<u32> {
        self.number(name).filter(|id| *id != u32::MAX)
    }

    /// Bytes that somebody else chose: in quotes, or hexadecimal. `(null)` is none.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.get(name)?;
        if let Some(quoted) = value.strip_prefix('"') {
            return Some(quoted.strip_suffix('"').unwrap_or(quoted).as_bytes().to_vec());
        }
        match value {
            "(null)" | "(none)" | "?" => None,
            digits => Some(hex_decode(digits).unwrap_or_else(|| digits.as_bytes().to_vec())),
        }
    }

    fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            rest = rest.trim_start_matches(' ');
            let (name, after) = rest.split_once('=')?;
            // A word without a value: what follows the last space is the name.
            let name = name.rsplit(' ').next().unwrap_or(name);
            let length = match after.strip_prefix('"') {
                Some(quoted) => quoted.find('"').map_or(after.len(), |end| end + 2),
                None => after.find(' ').unwrap_or(after.len()),
            };
            let (value, left) = after.split_at_checked(length)?;
            rest = left;
            Some((name, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::hex_encode;

    const CALL: &str = "audit(1795251496.345:5): arch=c000003e syscall=268 success=yes exit=0 \
        a0=ffffff9c a1=55c1deea3c20 a2=180 a3=7f074f07dfb8 items=1 ppid=8179 pid=8180 \
        auid=4294967295 uid=0 euid=0 tty=(none) ses=3 comm=\"chmod\" exe=\"/usr/bin/chmod\" \
        key=\"steadfast-1\"\0";

    #[test]
    fn a_record_of_the_kernel_is_taken_apart() {
        let record = Record::parse(CALL.as_bytes()).unwrap();
        assert_eq!(record.time, FileTime { sec: 1_795_251_496, nsec: 345_000_000 });
        assert_eq!((record.serial, record.number("pid")), (5, Some(8180)));
        assert_eq!(record.number::<u32>("ppid"), Some(8179));
        assert_eq!((record.id("auid"), record.id("ses")), (None, Some(3)));
        assert_eq!(record.hex("a0"), Some(0xffff_ff9c));
        assert_eq!(record.bytes("comm").unwrap(), b"chmod");
        assert_eq!(record.bytes("key").unwrap(), b"steadfast-1");
        assert_eq!(record.bytes("tty"), None);
        assert_eq!(record.get("absent"), None);
    }

    #[test]
    fn a_name_that_would_forge_a_field_is_only_a_name() {
        let evil = b"x\" pid=1 (a)\n";
        let text = format!("audit(1.002:3): comm={} pid=9", hex_encode(evil).to_uppercase());
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.bytes("comm").unwrap(), evil);
        assert_eq!(record.number::<u32>("pid"), Some(9));
        // Spaces and signs that the kernel leaves in quotes.
        let record = Record::parse(b"audit(1.002:3): cwd=\"/a b=c\" pid=9").unwrap();
        assert_eq!(record.bytes("cwd").unwrap(), b"/a b=c");
        assert_eq!(record.number::<u32>("pid"), Some(9));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "audit(", "audit(1:2): a=b", "audit(1.1000:2): ", "audit(x.1:2): ", "a=b"]
        {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_process_is_called_its_name_is_read(
            name in proptest::collection::vec(1_u8.., 0..16),
        ) {
            // As audit_log_untrustedstring writes it.
            let plain = name.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'"');
            let written = match plain {
                true => format!("\"{}\"", String::from_utf8(name.clone()).unwrap()),
                false => hex_encode(&name).to_uppercase(),
            };
            let text = format!("audit(1.002:3): pid=9 comm={written} exe=\"/x\" uid=4");
            let record = Record::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(record.bytes("comm").unwrap(), name);
            prop_assert_eq!(record.number::<u32>("uid"), Some(4));
        }

        #[test]
        fn rubbish_never_panics(text in "audit\\([0-9.:]{0,8}\\): [a-z= \"\\(\\)0-9é]{0,80}") {
            if let Some(record) = Record::parse(text.as_bytes()) {
                let _ = (record.bytes("a"), record.hex("a"), record.id("a"), record.get("pid"));
            }
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&bytes);
        }
    }
}
