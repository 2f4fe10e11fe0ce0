//! Reports of candidates that passed, on disk: a restart does not try again
//! what passed. `<folder>/<key>.json`, one file for each.
//!
//! Failures are not kept: another machine, more memory or a calmer moment may
//! let the same version pass, and a restart is how one asks. For the same reason
//! a report is removed whose version is refused for its cost.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use object::Object as _;
use object::read::ReadCache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::registry::preflight::report::REPORT_BYTES_MAX;
use crate::registry::preflight::{Candidate, Limits, Report};
use crate::types::{Declared, Digest};

/// Files that are kept; the least recently used ones go first.
const FILES_MAX: usize = 1024;
/// Bytes that they may have together.
const BYTES_MAX: u64 = 64 << 20;
/// The shortest digest that linkers write (xxhash).
const BUILD_ID_BYTES_MIN: usize = 8;
/// The first line of a file is the digest of the rest.
const HEAD_BYTES: usize = "sha256:".len() + 64 + 1;

/// A folder of reports.
pub(super) struct Cache {
    folder: PathBuf,
    /// This program's identity: another one may find something else.
    program: OnceLock<Option<Digest>>,
}

/// What a report depends on, besides the candidate and this program.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Conditions {
    /// What the engine consists of.
    pub(super) engine_identity: String,
    pub(super) limits: Limits,
}

/// All that a report depends on.
#[derive(Serialize)]
struct Key<'a> {
    artifact: Digest,
    golden: Option<Digest>,
    engine: &'a str,
    declared: Option<&'a Declared>,
    program: Digest,
    conditions: &'a Conditions,
}

/// A file's content.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// For people who look at the file.
    model: String,
    version: u64,
    report: Report,
}

impl Cache {
    /// Reports below `folder`, which is made when it is needed.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, program: OnceLock::new() }
    }

    /// The report of a candidate that passed under the same conditions.
    pub(super) fn get(&self, candidate: &Candidate, conditions: &Conditions) -> Option<Report> {
        let path = self.path(candidate, conditions)?;
        match read(&path) {
            Ok(report) => {
                // Used now: others are older.
                let touched = File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
                if let Err(error) = touched {
                    tracing::debug!(path = %path.display(), %error, "cannot be touched");
                }
                Some(report)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error,
                    "a kept report cannot be used; the version is tried again");
                None
            }
        }
    }

    /// Keeps a report. A failure costs nothing but another trial.
    pub(super) fn put(&self, candidate: &Candidate, conditions: &Conditions, report: &Report) {
        let Some(path) = self.path(candidate, conditions) else { return };
        let kept = Kept {
            model: candidate.model.to_string(),
            version: candidate.version.get(),
            report: report.clone(),
        };
        let kept = self.write(&path, &kept).and_then(|()| self.bound());
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "a report cannot be kept");
        }
    }

    /// Keeps a report no longer, if one is kept.
    pub(super) fn remove(&self, candidate: &Candidate, conditions: &Conditions) {
        let Some(path) = self.path(candidate, conditions) else { return };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a kept report cannot be removed");
            }
            _ => {}
        }
    }

    fn path(&self, candidate: &Candidate, conditions: &Conditions) -> Option<PathBuf> {
        let key = Key {
            artifact: candidate.digest,
            golden: candidate.golden.as_ref().map(|(_, digest)| *digest),
            engine: &candidate.engine,
            declared: candidate.declared.as_ref(),
            program: (*self.program.get_or_init(program))?,
            conditions,
        };
        let key = digest(&serde_json::to_vec(&key).ok()?).to_string();
        Some(self.folder.join(format!("{}.json", key.trim_start_matches("sha256:"))))
    }

    /// Writes a file that is there whole or not at all.
    fn write(&self, path: &Path, kept: &Kept) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let text = serde_json::to_vec(kept)?;
        let mut file = NamedTempFile::with_prefix_in(".", &self.folder)?;
        writeln!(file, "{}", digest(&text))?;
        file.write_all(&text)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Removes the oldest files while there are too many.
    fn bound(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort_unstable();
        let mut count = files.len();
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if count <= FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            (count, bytes) = (count - 1, bytes - len);
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Report> {
    let mut text = Vec::new();
    let limit = u64::try_from(REPORT_BYTES_MAX).unwrap_or(u64::MAX).saturating_mul(2);
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    let (head, body) = text.split_at(HEAD_BYTES.min(text.len()));
    if String::from_utf8_lossy(head).trim_end() != digest(body).to_string() {
        return Err(io::Error::other("it is damaged: its content has not the digest it states"));
    }
    Ok(serde_json::from_slice::<Kept>(body)?.report)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// What tells the running program from every other: its linker's build ID, or
/// the digest of its bytes where it has none. `None` where it cannot be read.
fn program() -> Option<Digest> {
    let identity = File::open("/proc/self/exe").and_then(|file| match build_id(&file) {
        Some(id) => Ok(digest(&id)),
        None => digest_of(file),
    });
    identity
        .inspect_err(|error| {
            tracing::warn!(%error, "this program cannot be read; no reports are kept");
        })
        .ok()
}

/// A digest of the whole program, which the linker made. Reads a few pages, where
/// the whole would take a tenth of a second of each start.
fn build_id(program: &File) -> Option<Vec<u8>> {
    let read = ReadCache::new(program);
    let file = object::File::parse(&read).ok()?;
    // A digest, not a number that somebody gives: those have fewer bytes.
    file.build_id().ok()?.filter(|id| id.len() >= BUILD_ID_BYTES_MIN).map(<[u8]>::to_vec)
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest::new(hasher.finalize().into())),
            n => hasher.update(&chunk[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::{ModelName, VersionId};

    const HERE: Conditions = Conditions {
        engine_identity: String::new(),
        limits: Limits { memory_bytes_max: 1, time_max: Duration::from_secs(1) },
    };

    fn candidate() -> Candidate {
        Candidate {
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(1).unwrap(),
            artifact: "/nowhere".into(),
            digest: Digest::new([1; 32]),
            golden: Some(("/nowhere".into(), Digest::new([2; 32]))),
            engine: "tract".into(),
            declared: None,
        }
    }

    fn report() -> Report {
        Report { engine: "tract".into(), load_seconds: Some(0.1), ..Report::default() }
    }

    #[test]
    fn a_report_is_found_under_the_same_conditions_only() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("preflight");
        let cache = Cache::new(folder.clone());
        assert_eq!(cache.get(&candidate(), &HERE), None);
        cache.put(&candidate(), &HERE, &report());
        // As after a restart, for another number of another model.
        let again = Candidate { version: VersionId::new(2).unwrap(), ..candidate() };
        assert_eq!(Cache::new(folder).get(&again, &HERE), Some(report()));
        let others = [
            Candidate { digest: Digest::new([9; 32]), ..candidate() },
            Candidate { golden: None, ..candidate() },
            Candidate { golden: Some(("/nowhere".into(), Digest::new([9; 32]))), ..candidate() },
            Candidate { engine: "other".into(), ..candidate() },
            Candidate { declared: Some(Declared::default()), ..candidate() },
        ];
        for other in others {
            assert_eq!(cache.get(&other, &HERE), None, "{other:?}");
        }
        let limits = Limits { memory_bytes_max: 2, ..HERE.limits };
        let others = [
            Conditions { limits, ..HERE },
            Conditions { engine_identity: "another library".into(), ..HERE },
        ];
        for other in others {
            assert_eq!(cache.get(&candidate(), &other), None, "{other:?}");
        }
        let program = OnceLock::from(Some(Digest::new([9; 32])));
        let other = Cache { folder: cache.folder.clone(), program };
        assert_eq!(other.get(&candidate(), &HERE), None, "another program");
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let state = tempfile::tempdir().unwrap();
        let cache = Cache::new(state.path().to_owned());
        let path = cache.path(&candidate(), &HERE).unwrap();
        cache.put(&candidate(), &HERE, &report());
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&b""[..], b"half", &whole[..whole.len() - 1], &flipped] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get(&candidate(), &HERE), None);
        }
        cache.put(&candidate(), &HERE, &report());
        assert_eq!(cache.get(&candidate(), &HERE), Some(report()));
        let files = fs::read_dir(state.path()).unwrap().count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let state = tempfile::tempdir().unwrap();
        let cache = Cache::new(state.path().to_owned());
        cache.put(&candidate(), &HERE, &report());
        let kept = cache.path(&candidate(), &HERE).unwrap();
        let old = SystemTime::UNIX_EPOCH;
        for i in 0..FILES_MAX {
            let file = File::create(state.path().join(format!("{i}.json"))).unwrap();
            let age = Duration::from_secs(u64::try_from(i).unwrap());
            file.set_modified(old + age).unwrap();
        }
        // Used: the youngest of all.
        File::open(&kept).unwrap().set_modified(old).unwrap();
        assert!(cache.get(&candidate(), &HERE).is_some());
        cache.bound().unwrap();
        assert!(kept.exists() && !state.path().join("0.json").exists());
        assert!(state.path().join("1.json").exists());
        // Or when they are too large.
        let large = File::create(state.path().join("large.json")).unwrap();
        large.set_len(BYTES_MAX).unwrap();
        large.set_modified(old).unwrap();
        cache.bound().unwrap();
        assert!(kept.exists() && !state.path().join("large.json").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_failure() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::new(file);
        cache.put(&candidate(), &HERE, &report());
        assert_eq!(cache.get(&candidate(), &HERE), None);
    }

    #[test]
    fn a_program_is_known_by_what_its_linker_says_or_by_its_bytes() {
        let program = File::open("/proc/self/exe").unwrap();
        assert!(build_id(&program).is_some_and(|id| id.len() >= BUILD_ID_BYTES_MIN));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "#!/bin/sh").unwrap();
        assert_eq!(build_id(&File::open(&path).unwrap()), None);
        assert_eq!(digest_of(File::open(&path).unwrap()).unwrap(), digest(b"#!/bin/sh"));
    }
}
