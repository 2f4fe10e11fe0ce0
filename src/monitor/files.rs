//! Profiles that are kept in the state folder, by the digest of the artifact that they
//! are of: what was learnt survives a restart, and what a version's folder had survives
//! the folder.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::types::{Digest, ModelName, Profile};

/// The most that are kept; the oldest go.
const KEPT_MAX: usize = 256;
/// The largest file, in bytes. A profile of the most columns and bins has less.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The folder.
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
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
        Ok(Some(profile))
    }

    /// Keeps one in place of a former one; whole, or not at all.
    pub(super) fn save(&self, profile: &Profile) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer_pretty(&mut file, profile)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(self.path(&profile.model, profile.artifact))?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                kept.push((modified(&path), path));
            }
        }
        kept.sort_unstable_by(|a, b| b.cmp(a));
        kept.into_iter().skip(KEPT_MAX).try_for_each(|(_, path)| fs::remove_file(path))
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
    fn the_oldest_go() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path().to_owned());
        for i in 0..KEPT_MAX {
            fs::write(root.path().join(format!("m-{i}.json")), "{}").unwrap();
        }
        let oldest = root.path().join("m-7.json");
        let file = fs::File::options().write(true).open(&oldest).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        files.save(&profile(1)).unwrap();
        assert!(!oldest.exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), KEPT_MAX);
    }
}
