//! The content-addressed store: `<state_dir>/blobs/sha256/<hex>`, and
//! `<state_dir>/versions/<hex>/` for artifacts that need their files beside
//! them: links to the same blobs, under the names that the artifact knows.
//!
//! A version's bytes are copied here while they are hashed, and only these
//! bytes are checked and loaded: a file that is overwritten in the watched
//! folder while it is mapped would kill the process.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::registry::scan::Stamp;
use crate::types::Digest;

/// Locked by the process that uses the state folder.
const LOCK_FILE: &str = "lock";
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A file that was copied into the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pinned {
    pub(super) digest: Digest,
    pub(super) path: PathBuf,
}

/// A copy that is not in the store yet; it goes when it is dropped. Or, where none
/// could be made, what is in the store already and was found to be the same.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) digest: Digest,
    file: Copy,
}

#[derive(Debug)]
enum Copy {
    New(NamedTempFile),
    Known(PathBuf),
}

/// Why a file was not pinned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PinError {
    /// It changed while it was read, or is gone: look again later.
    Moving(String),
    /// It cannot be taken as it is.
    Refused(String),
    /// The store cannot take it, as a full disk cannot: try again later.
    NoRoom(String),
}

impl PinError {
    /// Why, for people.
    pub(super) fn why(self) -> String {
        match self {
            Self::Moving(why) | Self::Refused(why) | Self::NoRoom(why) => why,
        }
    }
}

impl Copied {
    /// Where the copy is until it is kept.
    pub(super) fn path(&self) -> &Path {
        match &self.file {
            Copy::New(file) => file.path(),
            Copy::Known(path) => path,
        }
    }

    /// Its size.
    pub(super) fn bytes(&self) -> Result<u64, PinError> {
        let metadata = fs::metadata(self.path());
        let metadata = metadata.map_err(|e| PinError::Refused(format!("a copy is lost: {e}")))?;
        Ok(metadata.len())
    }
}

/// The store's folders.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    versions: PathBuf,
    /// The folders that were assembled in the life of this process.
    assembled: Arc<Mutex<HashSet<Digest>>>,
    /// Held as long as the store is used.
    _lock: Arc<File>,
}

impl Blobs {
    /// Opens the store below `state_dir`, creating it if needed, and removes
    /// what an interrupted copy left. It has one user at a time: another
    /// process would remove what it does not need itself.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("blobs").join("sha256");
        let versions = state_dir.join("versions");
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(&versions)?;
        let lock = Arc::new(lock(&state_dir.join(LOCK_FILE))?);
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        for entry in fs::read_dir(&versions)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                gone(fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(Self { folder, versions, assembled: Arc::default(), _lock: lock })
    }

    /// Everything that is stored.
    pub(super) fn list(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.folder)?.chain(fs::read_dir(&self.versions)?) {
            // Other names are not ours.
            digests
                .extend(entry?.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    /// Removes what is stored under a digest, if anything is. What is mapped
    /// stays readable until it is unmapped.
    pub(super) fn remove(&self, digest: Digest) {
        let mut assembled = self.assembled.lock().unwrap_or_else(PoisonError::into_inner);
        assembled.remove(&digest);
        let (file, folder) = (self.path(digest), self.versions.join(digest.hex()));
        for (path, removed) in
            [(&file, fs::remove_file(&file)), (&folder, fs::remove_dir_all(&folder))]
        {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "a pinned file cannot be removed");
                }
                _ => {}
            }
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// A folder with these blobs under these names; `digest` stands for all of
    /// them. One that an earlier process left is replaced: like the blobs, what
    /// it holds was hashed in the life of this one.
    pub(super) fn assemble(
        &self,
        digest: Digest,
        files: &[(String, PathBuf)],
    ) -> Result<PathBuf, PinError> {
        let mut assembled = self.assembled.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.versions.join(digest.hex());
        if assembled.contains(&digest) {
            return Ok(target);
        }
        if let Err(error) = self.link_all(&target, files) {
            // Where none can be made, one that is there and holds the same will do.
            if !holds(&target, files) {
                return Err(error);
            }
        }
        assembled.insert(digest);
        Ok(target)
    }

    /// A new folder in the place of `target`, or no change.
    fn link_all(&self, target: &Path, files: &[(String, PathBuf)]) -> Result<(), PinError> {
        let own = |error| self.not_copied(&error);
        let hidden = tempfile::Builder::new().prefix(".").tempdir_in(&self.versions);
        let hidden = hidden.map_err(own)?;
        for (name, blob) in files {
            let path = hidden.path().join(name);
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(own)?;
            link(blob, &path).map_err(own)?;
        }
        if target.exists() {
            fs::remove_dir_all(target).map_err(own)?;
        }
        fs::rename(hidden.path(), target).map_err(own)?;
        // What was a temporary folder is the version's now.
        let _ = hidden.keep();
        Ok(())
    }

    /// Copies `source` next to the store. Nothing is left of it unless it is
    /// kept. If the disk is full, or can only be read, what is in the store already
    /// will do: whoever served before a restart serves after it.
    pub(super) fn copy(&self, source: &Path, bytes_max: u64) -> Result<Copied, PinError> {
        match self.copy_anew(source, bytes_max) {
            Err(PinError::NoRoom(why)) => match self.known(source, bytes_max) {
                // It is not there, or damaged: what is missing is the room for a new one.
                Err(PinError::Refused(_)) => Err(PinError::NoRoom(why)),
                known => known,
            },
            copied => copied,
        }
    }

    /// What is in the store already of a source's content. Both are read.
    fn known(&self, source: &Path, bytes_max: u64) -> Result<Copied, PinError> {
        let digest = digest(source, bytes_max)?;
        let path = self.check(digest, bytes_max)?;
        Ok(Copied { digest, file: Copy::Known(path) })
    }

    fn copy_anew(&self, source: &Path, bytes_max: u64) -> Result<Copied, PinError> {
        let input = open(source, bytes_max)?;
        let own = |error| self.not_copied(&error);
        let mut output =
            tempfile::Builder::new().prefix(".").tempfile_in(&self.folder).map_err(own)?;
        let digest = hash(input, source, bytes_max, |chunk| output.write_all(chunk).map_err(own))?;
        Ok(Copied { digest, file: Copy::New(output) })
    }

    /// Takes a copy into the store.
    pub(super) fn keep(&self, copied: Copied) -> Result<Pinned, PinError> {
        let own = |error| self.not_copied(&error);
        let digest = copied.digest;
        let file = match copied.file {
            Copy::New(file) => file,
            Copy::Known(path) => return Ok(Pinned { digest, path }),
        };
        file.as_file().sync_all().map_err(own)?;
        let path = self.path(digest);
        // Replaces a former copy of the same content: what the store holds
        // was hashed in the life of this process.
        file.persist(&path).map_err(|error| own(error.error))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(own)?;
        Ok(Pinned { digest, path })
    }

    /// The path of what is stored under a digest, if it still is that.
    pub(super) fn check(&self, expected: Digest, bytes_max: u64) -> Result<PathBuf, PinError> {
        let path = self.path(expected);
        let refused = |why: &str| PinError::Refused(format!("its copy {} {why}", path.display()));
        match digest(&path, bytes_max) {
            Ok(found) if found == expected => Ok(path),
            Ok(found) => Err(refused(&format!("is damaged: its digest is {found}"))),
            Err(error) => Err(refused(&format!("cannot be used: {}", error.why()))),
        }
    }

    /// Bytes of what is stored under these digests; what is not there has none.
    pub(super) fn bytes(&self, digests: impl Iterator<Item = Digest>) -> u64 {
        let digests: HashSet<Digest> = digests.collect();
        let sizes = digests.into_iter().map(|digest| self.path(digest).metadata());
        sizes.flatten().map(|metadata| metadata.len()).sum()
    }

    fn not_copied(&self, error: &io::Error) -> PinError {
        PinError::NoRoom(format!("could not be copied into {}: {error}", self.folder.display()))
    }
}

/// What is left of an interrupted copy on a disk that can only be read harms nobody.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        _ => Err(error),
    })
}

/// Whether a folder holds the contents of these blobs under these names. All of it is
/// read: an earlier process left it.
fn holds(folder: &Path, files: &[(String, PathBuf)]) -> bool {
    files.iter().all(|(name, blob)| {
        let there = digest(&folder.join(name), u64::MAX);
        there.is_ok_and(|there| blob.file_name().is_some_and(|name| *name == *there.hex()))
    })
}

/// Makes `path` another name of a blob; a copy where the file system has no
/// links. Never over a file that is there: it could be the blob itself.
fn link(blob: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(blob, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::copy(blob, path).map(drop),
        Ok(()) => Ok(()),
    }
}

/// Takes the lock that goes with the process, or fails if another has it.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.or_else(|error| match error.kind() {
        // The lock needs no more than that.
        io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        _ => Err(error),
    })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let message = "another gateway uses it; give each its own with --state";
            return Err(io::Error::other(message));
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error,
                "no lock on the state folder; see that no other gateway uses it");
        }
    }
    Ok(file)
}

/// The digest of a file, without a copy.
pub(super) fn digest(source: &Path, bytes_max: u64) -> Result<Digest, PinError> {
    hash(open(source, bytes_max)?, source, bytes_max, |_| Ok(()))
}

/// Reads a small text file whole; `None` if it is not there.
pub(super) fn read_text(source: &Path, bytes_max: u64) -> Result<Option<String>, PinError> {
    if !source.exists() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    hash(open(source, bytes_max)?, source, bytes_max, |chunk| {
        bytes.extend_from_slice(chunk);
        Ok(())
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| PinError::Refused(format!("{}: {error}", name(source))))?;
    Ok(Some(text))
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn moving(source: &Path, error: &io::Error) -> PinError {
    PinError::Moving(format!("{} cannot be read: {error}", name(source)))
}

fn open(source: &Path, bytes_max: u64) -> Result<File, PinError> {
    // Without waiting, so that a named pipe cannot hold us.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(source);
    let file = file.map_err(|error| moving(source, &error))?;
    let metadata = file.metadata().map_err(|error| moving(source, &error))?;
    if !metadata.is_file() {
        return Err(PinError::Refused(format!("{} is no regular file", name(source))));
    }
    if metadata.len() > bytes_max {
        return Err(too_large(source, bytes_max));
    }
    Ok(file)
}

fn too_large(source: &Path, bytes_max: u64) -> PinError {
    PinError::Refused(format!("{} has more than {bytes_max} bytes, the limit", name(source)))
}

/// Hashes a file and hands its chunks on; fails if it changes meanwhile.
fn hash(
    mut file: File,
    source: &Path,
    bytes_max: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), PinError>,
) -> Result<Digest, PinError> {
    let stamp = |file: &File| file.metadata().map(|metadata| Stamp::of(&metadata));
    let before = stamp(&file).map_err(|error| moving(source, &error))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK.min(usize::try_from(before.size).unwrap_or(CHUNK) + 1)];
    let mut read = 0_u64;
    loop {
        let n = match file.read(&mut chunk) {
            // By the timer that makes this thread give way; some file systems
            // pass it on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| moving(source, &error))?,
        };
        if n == 0 {
            break;
        }
        read += n as u64;
        if read > bytes_max {
            return Err(too_large(source, bytes_max));
        }
        hasher.update(&chunk[..n]);
        each(&chunk[..n])?;
    }
    let after = stamp(&file).map_err(|error| moving(source, &error))?;
    if before != after || read != after.size {
        return Err(PinError::Moving(format!("{} changed while it was read", name(source))));
    }
    Ok(Digest::new(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn pin(blobs: &Blobs, source: &Path) -> Result<Pinned, PinError> {
        blobs.keep(blobs.copy(source, 3)?)
    }

    #[test]
    fn bytes_are_found_under_their_digest() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        let pinned = pin(&blobs, &source).unwrap();
        assert_eq!(pinned.digest, ABC.parse().unwrap());
        assert_eq!(pinned.path, state.path().join("blobs/sha256").join(ABC));
        fs::write(&source, "xyz").unwrap();
        assert_eq!(fs::read(&pinned.path).unwrap(), b"abc");
        fs::write(&source, "abc").unwrap();
        assert_eq!(pin(&blobs, &source).unwrap(), pinned);
        assert_eq!(blobs.list().unwrap(), [pinned.digest]);
        blobs.remove(pinned.digest);
        assert!(!pinned.path.exists());
        assert_eq!(digest(&source, 3).unwrap(), pinned.digest);
    }

    #[test]
    fn what_is_there_already_will_do_if_it_is_whole() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        assert!(matches!(blobs.known(&source, 3), Err(PinError::Refused(_))));
        let pinned = pin(&blobs, &source).unwrap();
        let known = blobs.known(&source, 3).unwrap();
        assert_eq!((known.path(), known.bytes().unwrap()), (&*pinned.path, 3));
        assert_eq!(blobs.keep(known).unwrap(), pinned);
        let files = [("w.bin".to_owned(), pinned.path.clone())];
        let folder = blobs.assemble(Digest::new([7; 32]), &files).unwrap();
        assert!(holds(&folder, &files));
        // What one process hashed, the next one does not believe.
        fs::remove_file(&pinned.path).unwrap();
        fs::write(&pinned.path, "abd").unwrap();
        assert!(matches!(blobs.known(&source, 3), Err(PinError::Refused(_))));
        fs::remove_file(folder.join("w.bin")).unwrap();
        assert!(!holds(&folder, &files));
        fs::write(folder.join("w.bin"), "abd").unwrap();
        assert!(!holds(&folder, &files));
    }

    #[test]
    fn two_names_of_one_file_do_not_empty_its_blob() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("w.bin");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        let pinned = pin(&blobs, &source).unwrap();
        let names = ["sub/w.bin", "sub//w.bin"];
        let files = names.map(|name| (name.to_owned(), pinned.path.clone()));
        assert!(blobs.assemble(Digest::new([7; 32]), &files).is_err());
        assert_eq!(fs::read(&pinned.path).unwrap(), b"abc");
    }

    #[test]
    fn a_copy_that_is_not_kept_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        assert_eq!(blobs.copy(&source, 3).unwrap().digest, ABC.parse().unwrap());
        assert_eq!(fs::read_dir(&blobs.folder).unwrap().count(), 0);
    }

    #[test]
    fn the_state_folder_has_one_user() {
        let state = tempfile::tempdir().unwrap();
        let first = Blobs::open(state.path()).unwrap();
        let error = Blobs::open(state.path()).unwrap_err();
        assert!(error.to_string().contains("another gateway"), "{error}");
        drop(first);
        Blobs::open(state.path()).unwrap();
    }

    #[test]
    fn a_damaged_copy_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        let path = pin(&blobs, &source).unwrap().path;
        fs::remove_file(&path).unwrap();
        fs::write(&path, "damaged").unwrap();
        pin(&blobs, &source).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn what_an_earlier_process_left_is_read_before_it_is_used() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        fs::write(&source, "abc").unwrap();
        let blobs = Blobs::open(state.path()).unwrap();
        let Pinned { digest, path } = pin(&blobs, &source).unwrap();
        assert_eq!(blobs.check(digest, 3).unwrap(), path);
        assert_eq!(blobs.bytes([digest, digest, Digest::new([7; 32])].into_iter()), 3);
        fs::write(&path, "abd").unwrap();
        let why = |checked: Result<PathBuf, PinError>| match checked {
            Err(PinError::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(blobs.check(digest, 3)).contains("is damaged"));
        fs::remove_file(&path).unwrap();
        assert!(why(blobs.check(digest, 3)).contains("cannot be used"));
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let state = tempfile::tempdir().unwrap();
        let source = state.path().join("model.onnx");
        let blobs = Blobs::open(state.path()).unwrap();
        assert!(
            matches!(pin(&blobs, &source), Err(PinError::Moving(m)) if m.contains("model.onnx"))
        );
        fs::write(&source, "abcd").unwrap();
        assert!(matches!(pin(&blobs, &source), Err(PinError::Refused(m)) if m.contains("3 bytes")));
        let refused = pin(&blobs, state.path());
        assert!(matches!(refused, Err(PinError::Refused(m)) if m.contains("regular")));
    }

    #[test]
    fn what_an_interrupted_copy_left_is_removed() {
        let state = tempfile::tempdir().unwrap();
        Blobs::open(state.path()).unwrap();
        let left = state.path().join("blobs/sha256/.abc");
        fs::write(&left, "half").unwrap();
        Blobs::open(state.path()).unwrap();
        assert!(!left.exists());
    }
}
