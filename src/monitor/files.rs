//! Profiles that were learnt, kept in the state folder by the digest of the artifact that
//! they are of: so they survive a restart.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::types::{Digest, ModelName, Profile};

/// The most that are kept; those that were not used for the longest time go, and none of
/// a loaded version.
const KEPT_MAX: usize = 256;
/// The largest file, in bytes. A profile of the most columns and bins has less.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How the name of one begins that is not written whole. This thread alone writes.
const HALF_WRITTEN: &str = ".tmp";

/// The folder.
pub(super) struct Files {
    folder: PathBuf,
    /// Of loaded versions.
    in_use: BTreeSet<PathBuf>,
}

impl Files {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, in_use: BTreeSet::new() }
    }

    /// Says of which artifacts versions are loaded.
    pub(super) fn use_those<'a>(&mut self, all: impl Iterator<Item = (&'a ModelName, Digest)>) {
        self.in_use = all.map(|(model, digest)| self.path(model, digest)).collect();
    }

    fn path(&self, model: &ModelName, digest: Digest) -> PathBuf {
        self.folder.join(format!("{model}-{}.json", digest.hex()))
    }

    /// What is kept for this artifact as this model's; the error says what is wrong with it.
    pub(super) fn load(
        &self,
        model: &ModelName,
        digest: Digest,
    ) -> Result<Option<Profile>, String> {
        let path = self.path(model, digest);
        let at = |why: String| format!("{}: {why}", path.display());
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error.to_string())),
        };
        if size > BYTES_MAX {
            return Err(at(format!("expected at most {BYTES_MAX} bytes, got {size}")));
        }
        let text = fs::read(&path).map_err(|error| at(error.to_string()))?;
        let profile: Profile =
            serde_json::from_slice(&text).map_err(|error| at(error.to_string()))?;
        profile.check().map_err(|error| at(error.message().to_owned()))?;
        // It is used: the oldest go first. Where that cannot be told, it goes sooner.
        let file = fs::File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(profile))
    }

    /// Keeps none for this artifact any more.
    pub(super) fn forget(&self, model: &ModelName, digest: Digest) -> io::Result<()> {
        match fs::remove_file(self.path(model, digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps one in place of a former one; whole, or not at all.
    pub(super) fn save(&self, profile: &Profile) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(&self.folder)?;
        serde_json::to_writer_pretty(&mut file, profile)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(self.path(&profile.model, profile.artifact))?;
        Ok(())
    }

    /// Removes what is too many, and what a crash left half written.
    pub(super) fn prune(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(HALF_WRITTEN.as_bytes()) {
                fs::remove_file(path)?;
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let used = (self.in_use.contains(&path), modified(&path));
                kept.push((used, path));
            }
        }
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let too_many = kept.into_iter().skip(KEPT_MAX).filter(|((in_use, _), _)| !in_use);
        too_many.map(|(_, path)| path).try_for_each(fs::remove_file)
    }
}

/// When it was written; one that cannot be asked is the oldest.
fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(digest: u8) -> Profile {
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([digest; 32]),
            source: "live traffic".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 0,
            inputs: vec![],
            missing_together: None,
            outputs: vec![],
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_what_is_broken_is_told() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path().join("profiles"));
        let model = ModelName::new("m").unwrap();
        assert_eq!(files.load(&model, Digest::new([1; 32])), Ok(None));
        files.save(&profile(1)).unwrap();
        assert_eq!(files.load(&model, Digest::new([1; 32])), Ok(Some(profile(1))));
        let other = ModelName::new("other").unwrap();
        assert_eq!(files.load(&other, Digest::new([1; 32])), Ok(None));
        let path = files.path(&model, Digest::new([1; 32]));
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let problem = files.load(&model, Digest::new([1; 32])).unwrap_err();
        assert!(problem.contains("EOF") && problem.contains("profiles"), "{problem}");
    }

    #[test]
    fn the_oldest_go_and_none_that_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let mut files = Files::new(root.path().to_owned());
        let model = ModelName::new("m").unwrap();
        for i in 0..KEPT_MAX {
            fs::write(root.path().join(format!("m-{i}.json")), "{}").unwrap();
        }
        let age = |path: &Path, seconds| {
            let file = fs::File::options().write(true).open(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        };
        let oldest = root.path().join("m-7.json");
        age(&oldest, 2);
        files.save(&profile(1)).unwrap();
        // The oldest of all, but it is used.
        let used = files.path(&model, Digest::new([1; 32]));
        age(&used, 1);
        files.use_those([(&model, Digest::new([1; 32]))].into_iter());
        fs::write(root.path().join(".tmpabc"), "{").unwrap();
        files.prune().unwrap();
        assert!(!oldest.exists() && used.exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), KEPT_MAX);
        // What is loaded is used.
        files.use_those(std::iter::empty());
        files.load(&model, Digest::new([1; 32])).unwrap().unwrap();
        fs::write(root.path().join("m-7.json"), "{}").unwrap();
        age(&oldest, 2);
        files.prune().unwrap();
        assert!(!oldest.exists() && used.exists());
        files.forget(&model, Digest::new([1; 32])).unwrap();
        files.forget(&model, Digest::new([1; 32])).unwrap();
        assert!(!used.exists());
    }
}
