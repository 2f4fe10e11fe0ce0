//! A file under a hidden name until it is whole.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

use crate::cli::failure::Failure;
use crate::cli::output::folder_of;

/// What the hidden names begin with.
const PREFIX: &str = ".dataset-";

/// The file: it is written on one thread, and a signal ends another one.
#[derive(Default)]
pub(super) struct Hidden(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Made(TempPath),
    /// None is made any more.
    Over,
}

impl Hidden {
    /// Makes it, beside where it is to be. For this user alone: what people sent is in it.
    ///
    /// # Errors
    /// It cannot be made, or it is over.
    pub(super) fn make(&self, out: &Path) -> Result<File, Failure> {
        let mut state = self.lock();
        if matches!(*state, State::Over) {
            return Err(cannot(out, &"it was ended"));
        }
        let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder_of(out));
        let (file, path) = file.map_err(|error| cannot(out, &error))?.into_parts();
        *state = State::Made(path);
        Ok(file)
    }

    /// Gives it its name, whatever had it before.
    ///
    /// # Errors
    /// It cannot have it: a folder has, maybe.
    pub(super) fn keep(&self, out: &Path) -> Result<(), Failure> {
        match std::mem::replace(&mut *self.lock(), State::Over) {
            State::Made(path) => path.persist(out).map_err(|error| cannot(out, &error.error)),
            State::Nothing | State::Over => Err(cannot(out, &"it was not made")),
        }
    }

    /// Removes it, unless it has its name; none is made afterwards.
    pub(super) fn remove(&self) {
        *self.lock() = State::Over;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cannot(out: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}", out.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("t.csv");
        let hidden = Hidden::default();
        hidden.make(&out).unwrap().write_all(b"a\n").unwrap();
        assert!(names(folder.path())[0].starts_with(PREFIX));
        hidden.keep(&out).unwrap();
        hidden.remove();
        assert_eq!(names(folder.path()), ["t.csv"]);

        let other = Hidden::default();
        let _file = other.make(&out).unwrap();
        other.remove();
        assert_eq!(names(folder.path()), ["t.csv"]);
        let failure = other.make(&out).unwrap_err().to_string();
        assert!(failure.contains("it was ended"), "{failure}");

        let nowhere = folder.path().join("none/t.csv");
        let failure = Hidden::default().make(&nowhere).unwrap_err().to_string();
        assert!(failure.contains("none/t.csv cannot be written"), "{failure}");
    }
}
