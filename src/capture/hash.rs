//! The keyed hash that is stored in place of a value.
//!
//! Equal values of columns with the same name have equal hashes, over all files and models
//! of one state folder: rows can be joined and counted by them. Who does not have the key
//! can neither tell the value from the hash nor try one out. Who has the key can try out
//! all that there are, and how often a value comes is told to everybody: it is a
//! pseudonym, and the data are still personal.

use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::path::Path;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::capture::folder::sync;

/// The secret of one state folder.
#[derive(Clone, Copy)]
pub(super) struct Key([u8; 16]);

impl Key {
    #[cfg(test)]
    pub(super) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key that is kept in a file. One is made where there is none: whole, for this
    /// user alone, and never in place of another.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let opened = Self::read_or_make(path);
        opened.map_err(|error| {
            let at = format!("the key of hashes, {}: {error}", path.display());
            io::Error::new(error.kind(), at)
        })
    }

    fn read_or_make(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return Self::parse(&read?),
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            // Hashes are stored only once their key is there to stay.
            Ok(_) => sync(folder).map(|()| Self(bytes)),
            // Somebody was faster.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Self::parse(&std::fs::read(path)?)
            }
            Err(error) => Err(error.error),
        }
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let key = bytes.try_into().map_err(|_| {
            let got = bytes.len();
            io::Error::other(format!("expected a key of 16 bytes, got {got} bytes"))
        })?;
        Ok(Self(key))
    }

    /// 32 hex digits.
    pub(super) fn hash(self, column: &str, value: &[u8]) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(column.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(value);
        format!("{:032x}", hasher.finish128().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_equal_under_one_key_only() {
        let (one, two) = (Key::new([1; 16]), Key::new([2; 16]));
        let hash = one.hash("email", b"eve@example.org");
        assert_eq!(hash, one.hash("email", b"eve@example.org"));
        assert!(hash.len() == 32 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(hash, two.hash("email", b"eve@example.org"));
        assert_ne!(hash, one.hash("email", b"eva@example.org"));
        assert_ne!(hash, one.hash("name", b"eve@example.org"));
    }

    #[test]
    fn a_key_stays_and_a_broken_one_is_no_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state/.key");
        let hash = || Key::open(&path).unwrap().hash("a", b"b");
        assert_eq!(hash(), hash());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        std::fs::write(&path, b"short").unwrap();
        let problem = Key::open(&path).map(drop).unwrap_err().to_string();
        assert!(problem.ends_with(".key: expected a key of 16 bytes, got 5 bytes"), "{problem}");
    }
}
