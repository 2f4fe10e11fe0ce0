//! The models folder that the gateway watches, as far as scenarios add to it.
//!
//! What was added is removed again, also after an error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// One model's folder, and the versions that were added to it.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    next: u64,
    added: Vec<u64>,
    /// Whether the model itself was added.
    whole: bool,
}

impl Repository {
    /// The folder of `model` in a models folder.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(models: &Path, model: &str) -> Result<Self, Error> {
        let folder = models.join(model);
        let wrong = |error: io::Error| {
            Error::new(format!(
                "{}: {error}; --models names the folder that the gateway watches",
                folder.display()
            ))
        };
        let mut last = 0;
        for entry in fs::read_dir(&folder).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name();
            last = last.max(name.to_str().and_then(|name| name.parse().ok()).unwrap_or(0));
        }
        Ok(Self { folder, next: last + 1, added: Vec::new(), whole: false })
    }

    /// A new model's folder, which is removed again in the end.
    ///
    /// # Errors
    /// If it is there already, or cannot be made.
    pub fn create(models: &Path, model: &str) -> Result<Self, Error> {
        let folder = models.join(model);
        let wrong = |error: io::Error| {
            let why = "a folder left by a run that was killed may be removed";
            Error::new(format!("{}: {error}; {why}", folder.display()))
        };
        fs::create_dir(&folder).map_err(wrong)?;
        Ok(Self { folder, next: 1, added: Vec::new(), whole: true })
    }

    /// The artifact of a version.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn artifact(&self, version: u64) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(version.to_string()).join("model.onnx");
        fs::read(&path).map_err(|error| Error::new(format!("{}: {error}", path.display())))
    }

    /// Adds a version, which appears whole. Its number.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, artifact: &[u8]) -> Result<u64, Error> {
        self.add_with(artifact, &[])
    }

    /// Adds a version with further files, which are linked, not copied.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_with(&mut self, artifact: &[u8], files: &[(&str, &Path)]) -> Result<u64, Error> {
        let version = self.next;
        let hidden = self.folder.join(format!(".new-{version}"));
        let whole = self.folder.join(version.to_string());
        let write = || {
            fs::create_dir(&hidden)?;
            for (name, file) in files {
                fs::hard_link(file, hidden.join(name))?;
            }
            fs::write(hidden.join("model.onnx"), artifact)?;
            fs::rename(&hidden, &whole)
        };
        self.next += 1;
        self.added.push(version);
        write().map_err(|error| Error::new(format!("{}: {error}", whole.display())))?;
        Ok(version)
    }

    /// Removes a version that was added.
    ///
    /// # Errors
    /// If it was not added, or cannot be removed.
    pub fn remove(&mut self, version: u64) -> Result<(), Error> {
        let folder = self.folder.join(version.to_string());
        let wrong = |why: String| Error::new(format!("{}: {why}", folder.display()));
        if !self.added.contains(&version) {
            return Err(wrong("it was not added by this run, and is not removed".to_owned()));
        }
        fs::remove_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
        self.added.retain(|added| *added != version);
        Ok(())
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        for version in &self.added {
            // What is gone already needs no removing.
            let _ = fs::remove_dir_all(self.folder.join(format!(".new-{version}")));
            let _ = fs::remove_dir_all(self.folder.join(version.to_string()));
        }
        if self.whole {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_removed_and_the_rest_stays() {
        let models = std::env::temp_dir().join(format!("loadtest-{}", std::process::id()));
        let folder = models.join("m");
        fs::create_dir_all(folder.join("7")).unwrap();
        fs::write(folder.join("7/model.onnx"), "seven").unwrap();
        let mut repository = Repository::open(&models, "m").unwrap();
        assert_eq!(repository.artifact(7).unwrap(), b"seven");
        let eight = repository.add(b"eight").unwrap();
        let nine = repository.add(b"nine").unwrap();
        assert_eq!((eight, nine), (8, 9));
        assert_eq!(fs::read(folder.join("8/model.onnx")).unwrap(), b"eight");
        assert!(repository.remove(7).is_err());
        repository.remove(8).unwrap();
        drop(repository);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["7"]);
        assert!(Repository::open(&models, "other").is_err());
        fs::remove_dir_all(models).unwrap();
    }
}
