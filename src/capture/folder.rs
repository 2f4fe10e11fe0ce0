//! What lies in the folder: leftovers of a crash, and files that are whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What the name of a file begins with that is not whole.
pub(super) const HIDDEN: &str = ".capture-";

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) model: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// When it was finished.
    pub(super) time: SystemTime,
}

/// The files that are left, by model, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    pub(super) left: BTreeMap<String, Vec<Kept>>,
    /// The first thing that could not be looked at or removed. What else is too old is gone
    /// all the same.
    pub(super) problem: Option<io::Error>,
}

/// Keeps the first failure, with its place, and lets the rest go on.
#[derive(Default)]
struct First(Option<io::Error>);

impl First {
    /// The value, if there is one. What somebody else has just removed is no failure.
    fn of<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::NotFound {
            let at = || io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            self.0.get_or_insert_with(at);
        }
        None
    }

    /// What lies in a folder.
    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let Some(entries) = self.of(folder, fs::read_dir(folder)) else { return Vec::new() };
        entries.filter_map(|entry| Some(self.of(folder, entry)?.path())).collect()
    }

    /// What lies in each model's folder.
    fn of_models(&mut self, folder: &Path) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        for of_model in self.entries(folder).into_iter().filter(|path| path.is_dir()) {
            if let Some(model) = of_model.file_name().and_then(|name| name.to_str()) {
                let entries = self.entries(&of_model).into_iter();
                found.extend(entries.map(|path| (model.to_owned(), path)));
            }
        }
        found
    }

    fn or(self) -> io::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Makes the names in a folder outlive a crash.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes what a process left behind that was killed.
///
/// # Errors
/// The first of what could not be removed; the rest is gone.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    let mut first = First::default();
    for (_, path) in first.of_models(folder) {
        if is_hidden(&path) {
            first.of(&path, fs::remove_file(&path));
        }
    }
    first.or()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(HIDDEN))
}

/// The files that are whole, the oldest first.
fn list(folder: &Path, now: SystemTime, first: &mut First) -> Vec<Kept> {
    let mut kept = Vec::new();
    for (model, path) in first.of_models(folder) {
        let whole = path.extension().is_some_and(|extension| extension == "parquet")
            && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !whole {
            continue;
        }
        if let Some(metadata) = first.of(&path, fs::metadata(&path)) {
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if let Some(now) = present(time, now) {
                first.of(&path, File::open(&path).and_then(|file| file.set_modified(now)));
            }
            kept.push(Kept { model, path, bytes: metadata.len(), time: time.min(now) });
        }
    }
    kept.sort_unstable_by(|a, b| (a.time, &a.path).cmp(&(b.time, &b.path)));
    kept
}

/// What a file's time is to be instead, if it is from the future: the clock was put back,
/// and the file would be new until that time has come. Pure.
fn present(time: SystemTime, now: SystemTime) -> Option<SystemTime> {
    (time > now).then_some(now)
}

/// How many of the oldest have to go. Pure.
fn surplus(kept: &[Kept], now: SystemTime, keep_for: Duration, keep_bytes: u64) -> usize {
    let age = |file: &Kept| now.duration_since(file.time).unwrap_or_default();
    let old = kept.iter().take_while(|file| age(file) > keep_for).count();
    let mut bytes: u64 = kept.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let large = kept.iter().take_while(|file| {
        let too_many = bytes > keep_bytes;
        bytes = bytes.saturating_sub(file.bytes);
        too_many
    });
    old.max(large.count())
}

/// Removes the oldest files that are too old or too many.
pub(super) fn prune(folder: &Path, now: SystemTime, keep_for: Duration, keep_bytes: u64) -> Pruned {
    let mut first = First::default();
    let mut old = list(folder, now, &mut first);
    let mut left = old.split_off(surplus(&old, now, keep_for, keep_bytes));
    old.retain(|file| {
        first.of(&file.path, fs::remove_file(&file.path));
        // What cannot be removed is shown, too.
        file.path.exists()
    });
    old.append(&mut left);
    let mut pruned = Pruned::default();
    for file in old {
        pruned.left.entry(file.model.clone()).or_default().push(file);
    }
    pruned.problem = first.0;
    pruned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go() {
        let hour = Duration::from_secs(3600);
        let at = |hours: u32| SystemTime::UNIX_EPOCH + hour * hours;
        let file =
            |hours, bytes| Kept { model: "m".into(), path: PathBuf::new(), bytes, time: at(hours) };
        let kept = [file(1, 50), file(2, 10), file(3, 10)];
        for (keep_hours, keep_bytes, gone) in
            [(9, 1000, 0), (9, 70, 0), (9, 69, 1), (9, 15, 2), (9, 9, 3), (2, 1000, 2), (0, 0, 3)]
        {
            let surplus =
                surplus(&kept, at(4) + Duration::from_secs(1), hour * keep_hours, keep_bytes);
            assert_eq!(surplus, gone, "{keep_hours} h, {keep_bytes} bytes");
        }
    }

    #[test]
    fn leftovers_go_and_what_is_whole_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("captures");
        clear(&folder).unwrap();
        fs::create_dir_all(folder.join("m")).unwrap();
        for name in ["m/.capture-x", "m/a.parquet", "m/note.txt", "note.txt"] {
            fs::write(folder.join(name), "12345").unwrap();
        }
        clear(&folder).unwrap();
        assert!(!folder.join("m/.capture-x").exists());
        let keep = |bytes| prune(&folder, SystemTime::now(), Duration::MAX, bytes);
        assert_eq!(keep(5).left["m"][0].bytes, 5);
        assert!(keep(4).left.is_empty() && keep(4).problem.is_none());
        assert!(folder.join("m/note.txt").exists() && folder.join("note.txt").exists());
    }

    #[test]
    fn what_cannot_be_removed_does_not_keep_the_rest() {
        let root = tempfile::tempdir().unwrap();
        // Folders, which no one removes as files, for root may remove everything else.
        for name in ["a/1.parquet", "a/.capture-1"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        fs::create_dir(root.path().join("b")).unwrap();
        for name in ["b/2.parquet", "b/.capture-2"] {
            fs::write(root.path().join(name), "12345").unwrap();
        }
        let problem = clear(root.path()).unwrap_err().to_string();
        assert!(problem.contains("a/.capture-1: "), "{problem}");
        assert!(!root.path().join("b/.capture-2").exists());
        let pruned = prune(root.path(), SystemTime::now(), Duration::MAX, 0);
        let problem = pruned.problem.unwrap().to_string();
        assert!(problem.contains("a/1.parquet: "), "{problem}");
        assert!(!root.path().join("b/2.parquet").exists());
        assert_eq!(pruned.left.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_file_from_the_future_is_of_now_and_grows_old() {
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now();
        assert_eq!(present(now + hour, now), Some(now));
        assert_eq!((present(now, now), present(now - hour, now)), (None, None));
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m/a.parquet");
        fs::create_dir(root.path().join("m")).unwrap();
        fs::write(&path, "12345").unwrap();
        File::open(&path).unwrap().set_modified(now + hour * 1000).unwrap();
        let left = |now| prune(root.path(), now, hour, u64::MAX).left.len();
        assert_eq!((left(now), left(now + hour * 2)), (1, 0));
    }
}
