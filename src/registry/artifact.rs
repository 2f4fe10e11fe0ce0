//! An artifact and the files in which it keeps tensors, pinned as one.
//!
//! What a version is known by is its artifact's digest. Where there are other
//! files it is a digest over all of them: that of the lines which
//! `sha256sum model.onnx FILE…` prints, the files in the order of their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::{ExternalFile, external_files};
use crate::registry::blobs::{Blobs, Copied, PinError, digest};
use crate::registry::scan::{ARTIFACT, INNER_FOLDERS_MAX};
use crate::types::Digest;

/// The digests of an artifact and its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Whole {
    pub(super) artifact: Digest,
    /// The files in which it keeps tensors, by their paths in the folder.
    pub(super) files: BTreeMap<String, Digest>,
}

impl Whole {
    /// What the version is known by.
    pub(super) fn digest(&self) -> Digest {
        if self.files.is_empty() {
            return self.artifact;
        }
        let mut lines = String::new();
        let files = self.files.iter().map(|(name, digest)| (&**name, digest));
        for (name, digest) in std::iter::once((ARTIFACT, &self.artifact)).chain(files) {
            let _ = writeln!(lines, "{}  {name}", digest.hex());
        }
        Digest::new(Sha256::digest(lines).into())
    }
}

/// Copies that are not in the store yet; they go when they are dropped.
pub(super) struct Copies {
    artifact: Copied,
    files: BTreeMap<String, Copied>,
}

/// Copies an artifact, and the files beside it that it names. `bytes_max`
/// bounds all of them together.
pub(super) fn copy(blobs: &Blobs, artifact: &Path, bytes_max: u64) -> Result<Copies, PinError> {
    let folder = artifact.parent().unwrap_or(artifact);
    let artifact = blobs.copy(artifact, bytes_max)?;
    let named = named_by(artifact.path())?;
    let mut left = bytes_max.saturating_sub(artifact.bytes()?);
    let mut files = BTreeMap::new();
    for file in named {
        let source = find(folder, &file)?;
        let size = size(&source, &file)?;
        let rest = left.checked_sub(size).ok_or_else(|| {
            PinError::Refused(format!(
                "{ARTIFACT} and the files that it names have more than {bytes_max} bytes, the \
                 limit (repository.artifact_max)"
            ))
        })?;
        // More than it has now: a file that grows is one that moves.
        files.insert(file.location, blobs.copy(&source, left)?);
        left = rest;
    }
    Ok(Copies { artifact, files })
}

impl Copies {
    pub(super) fn digests(&self) -> Whole {
        let files = self.files.iter().map(|(name, copied)| (name.clone(), copied.digest));
        Whole { artifact: self.artifact.digest, files: files.collect() }
    }

    /// Takes them into the store. Returns the artifact's path there: beside
    /// its files, where it has any.
    pub(super) fn keep(self, blobs: &Blobs) -> Result<PathBuf, PinError> {
        let digest = self.digests().digest();
        let artifact = blobs.keep(self.artifact)?.path;
        if self.files.is_empty() {
            return Ok(artifact);
        }
        let mut files = vec![(ARTIFACT.to_owned(), artifact)];
        for (location, copied) in self.files {
            files.push((location, blobs.keep(copied)?.path));
        }
        Ok(blobs.assemble(digest, &files)?.join(ARTIFACT))
    }
}

/// The artifact's path in the store, once more, for what was taken into it before.
/// All of it is read: an earlier process may have left it.
pub(super) fn again(blobs: &Blobs, whole: &Whole, bytes_max: u64) -> Result<PathBuf, PinError> {
    let artifact = blobs.check(whole.artifact, bytes_max)?;
    if whole.files.is_empty() {
        return Ok(artifact);
    }
    let mut files = vec![(ARTIFACT.to_owned(), artifact)];
    for (location, digest) in &whole.files {
        files.push((location.clone(), blobs.check(*digest, bytes_max)?));
    }
    Ok(blobs.assemble(whole.digest(), &files)?.join(ARTIFACT))
}

/// The digests of what an artifact and its files are now, where it had `files`
/// when it was pinned: another artifact differs anyway.
pub(super) fn digests<'a>(
    artifact: &Path,
    files: impl Iterator<Item = &'a String>,
    bytes_max: u64,
) -> Result<Whole, PinError> {
    let folder = artifact.parent().unwrap_or(artifact);
    let artifact = digest(artifact, bytes_max)?;
    let one = |location: &String| {
        let file = ExternalFile { location: location.clone(), bytes_min: 0 };
        Ok((location.clone(), digest(&find(folder, &file)?, bytes_max)?))
    };
    Ok(Whole { artifact, files: files.map(one).collect::<Result<_, PinError>>()? })
}

/// The files that an artifact names.
pub(super) fn named_by(artifact: &Path) -> Result<Vec<ExternalFile>, PinError> {
    let named = external_files(artifact);
    let named = named.map_err(|error| PinError::Refused(format!("{ARTIFACT}: {error}")))?;
    for ExternalFile { location, .. } in &named {
        if location == ARTIFACT {
            return Err(PinError::Refused(format!("{ARTIFACT} names itself as external data")));
        }
        // What lies deeper is not watched: nobody would see it come.
        if location.matches('/').count() > INNER_FOLDERS_MAX {
            return Err(PinError::Refused(format!(
                "external data at {location:?}: expected at most {INNER_FOLDERS_MAX} folders"
            )));
        }
    }
    Ok(named)
}

/// Where a file that the artifact names lies. Links are followed inside the
/// folder, and not out of it.
pub(super) fn find(folder: &Path, file: &ExternalFile) -> Result<PathBuf, PinError> {
    let location = &file.location;
    let unreadable =
        |error: io::Error| PinError::Moving(format!("{location} cannot be read: {error}"));
    let root = folder.canonicalize().map_err(unreadable)?;
    let found = folder.join(location).canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PinError::Moving(format!(
            "waits for {location}, in which {ARTIFACT} keeps tensors, and which is not there"
        )),
        _ => unreadable(error),
    })?;
    if found.starts_with(&root) {
        return Ok(found);
    }
    Err(PinError::Refused(format!(
        "{location} leads out of the version's folder, to {}; expected a file in it",
        found.display()
    )))
}

/// Its size, if that suffices.
fn size(source: &Path, file: &ExternalFile) -> Result<u64, PinError> {
    let location = &file.location;
    let metadata = source.metadata();
    let metadata = metadata
        .map_err(|error| PinError::Moving(format!("{location} cannot be read: {error}")))?;
    if metadata.len() < file.bytes_min {
        return Err(PinError::Moving(format!(
            "waits until {location} has the {} bytes that {ARTIFACT} needs of it; now it has {}",
            file.bytes_min,
            metadata.len()
        )));
    }
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::registry::testing::onnx_with_files;

    /// A state folder, and a version's folder whose artifact names `files`
    /// and how many bytes it needs of each.
    fn version(files: &[(&str, u64)]) -> (tempfile::TempDir, PathBuf, Blobs) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("1");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join(ARTIFACT), onnx_with_files(files)).unwrap();
        let blobs = Blobs::open(&root.path().join("state")).unwrap();
        (root, folder, blobs)
    }

    #[test]
    fn files_are_pinned_beside_the_artifact() {
        let (_root, folder, blobs) = version(&[("w.bin", 3), ("sub/v.bin", 0)]);
        fs::write(folder.join("w.bin"), "abc").unwrap();
        fs::write(folder.join("sub/v.bin"), "xyz").unwrap();
        let copies = copy(&blobs, &folder.join(ARTIFACT), 1 << 20).unwrap();
        let digests = copies.digests();
        assert_eq!(digests.files.keys().collect::<Vec<_>>(), ["sub/v.bin", "w.bin"]);
        let artifact = copies.keep(&blobs).unwrap();
        let pinned = artifact.parent().unwrap();
        assert_eq!(fs::read(pinned.join("w.bin")).unwrap(), b"abc");
        assert_eq!(fs::read(pinned.join("sub/v.bin")).unwrap(), b"xyz");
        fs::write(folder.join("w.bin"), "abd").unwrap();
        assert_eq!(fs::read(pinned.join("w.bin")).unwrap(), b"abc");
        let files = digests.files.clone();
        let now = super::digests(&folder.join(ARTIFACT), files.keys(), 1 << 20).unwrap();
        assert_ne!(now.digest(), digests.digest());
        // Everything of it is listed, and goes.
        let listed = blobs.list().unwrap();
        let mut all = vec![digests.digest(), digests.artifact];
        all.extend(digests.files.values());
        assert!(all.iter().all(|digest| listed.contains(digest)) && listed.len() == 4);
        all.into_iter().for_each(|digest| blobs.remove(digest));
        assert!(!pinned.exists() && blobs.list().unwrap().is_empty());
    }

    #[test]
    fn the_digest_is_that_of_the_lines_of_sha256sum() {
        let abc: Digest =
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
        let alone = Whole { artifact: abc, files: BTreeMap::new() };
        assert_eq!(alone.digest(), abc);
        let whole = Whole { artifact: abc, files: [("w.bin".to_owned(), abc)].into() };
        // cd "$(mktemp -d)"; printf abc > model.onnx; printf abc > w.bin
        // sha256sum model.onnx w.bin | sha256sum
        let expected = "459d96961575130576e7d14cd3058ec5fc0774ff6bb6c678a4a6be0d548bf4f4";
        assert_eq!(whole.digest().hex(), expected);
    }

    #[test]
    fn what_is_not_whole_is_waited_for() {
        let (_root, folder, blobs) = version(&[("w.bin", 3)]);
        let wait = || match copy(&blobs, &folder.join(ARTIFACT), 1 << 20).err() {
            Some(PinError::Moving(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(wait().contains("waits for w.bin"), "{}", wait());
        fs::write(folder.join("w.bin"), "ab").unwrap();
        assert!(wait().contains("the 3 bytes") && wait().contains("now it has 2"), "{}", wait());
    }

    #[test]
    fn what_leads_out_of_the_folder_is_refused_with_its_name() {
        let refused =
            |blobs: &Blobs, folder: &Path| match copy(blobs, &folder.join(ARTIFACT), 1 << 20).err()
            {
                Some(PinError::Refused(why)) => why,
                other => panic!("{other:?}"),
            };
        for location in [
            "/etc/hostname",
            "../w.bin",
            "sub/../../w.bin",
            "",
            "sub//w.bin",
            "sub/./w.bin",
            "w.bin/",
        ] {
            let (_root, folder, blobs) = version(&[(location, 0)]);
            let why = refused(&blobs, &folder);
            assert!(why.contains(&format!("{location:?}")), "{why}");
        }
        let (root, folder, blobs) = version(&[("sub/w.bin", 0)]);
        fs::write(root.path().join("w.bin"), "abc").unwrap();
        symlink(root.path().join("w.bin"), folder.join("sub/w.bin")).unwrap();
        assert!(refused(&blobs, &folder).contains("sub/w.bin leads out"));
        // A link inside the folder is as good as the file.
        fs::remove_file(folder.join("sub/w.bin")).unwrap();
        fs::write(folder.join("data"), "abc").unwrap();
        symlink("../data", folder.join("sub/w.bin")).unwrap();
        copy(&blobs, &folder.join(ARTIFACT), 1 << 20).unwrap();
        let (_root, folder, blobs) = version(&[(ARTIFACT, 0)]);
        assert!(refused(&blobs, &folder).contains("names itself"));
        // Nobody would see that one come.
        let (_root, folder, blobs) = version(&[("a/b/c/d/e/w.bin", 0)]);
        assert!(refused(&blobs, &folder).contains("at most 4 folders"));
    }

    #[test]
    fn the_limit_is_for_all_files_together() {
        let (_root, folder, blobs) = version(&[("w.bin", 3)]);
        fs::write(folder.join("w.bin"), "abc").unwrap();
        let size = folder.join(ARTIFACT).metadata().unwrap().len();
        assert!(copy(&blobs, &folder.join(ARTIFACT), size + 3).is_ok());
        let why = copy(&blobs, &folder.join(ARTIFACT), size + 2).err();
        assert!(matches!(why, Some(PinError::Refused(why)) if why.contains("artifact_max")));
    }
}
