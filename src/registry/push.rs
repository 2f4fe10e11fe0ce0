//! Puts a new version into the repository.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::Lineage;
use crate::registry::blobs::{PinError, digest, read_text};
use crate::registry::scan::{ARTIFACT, VERSION_FILE};
use crate::registry::settings::TOML_BYTES_MAX;
use crate::types::{Digest, ModelName, VersionId};

/// Others may push at the same time: so often a lost race is run again.
const ATTEMPTS_MAX: usize = 100;

/// Copies an artifact (and its lineage) into the repository as the next
/// version of `model`. The version appears whole, by one rename; the model's
/// folder is created if needed.
///
/// # Errors
/// The files cannot be read or do not fit each other, or the repository
/// cannot be written.
pub fn push(
    models_dir: &Path,
    model: &ModelName,
    artifact: &Path,
    version_file: Option<&Path>,
) -> Result<VersionId> {
    if !models_dir.is_dir() {
        let message = format!("models folder {} does not exist", models_dir.display());
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    let found = digest(artifact, u64::MAX).map_err(|error| unreadable(artifact, error))?;
    let lineage = version_file.map(|path| checked_lineage(path, found)).transpose()?;
    let folder = models_dir.join(model.as_str());
    let written = |error: io::Error| {
        let folder = folder.display();
        Error::invalid(format!("folder {folder} cannot be written: {error}"))
    };
    fs::create_dir_all(&folder).map_err(written)?;
    // Hidden, so that the watcher does not see it before it is whole.
    let hidden = tempfile::Builder::new().prefix(".push-").tempdir_in(&folder).map_err(written)?;
    readable_by_all(hidden.path()).map_err(written)?;
    let target = hidden.path().join(ARTIFACT);
    fs::copy(artifact, &target).map_err(written)?;
    sync(&target).map_err(written)?;
    if digest(&target, u64::MAX).ok() != Some(found) {
        let message = format!("{} changed while it was copied; try again", artifact.display());
        return Err(Error::new(ErrorCode::Conflict, message));
    }
    if let Some(text) = lineage {
        let target = hidden.path().join(VERSION_FILE);
        fs::write(&target, text).and_then(|()| sync(&target)).map_err(written)?;
    }
    sync(hidden.path()).map_err(written)?;
    let version = claim(&folder, hidden.path()).map_err(written)?;
    // What was a temporary folder is the version now.
    let _ = hidden.keep();
    sync(&folder).map_err(written)?;
    Ok(version)
}

/// The text of a `version.toml` that parses and fits the artifact.
fn checked_lineage(path: &Path, found: Digest) -> Result<String> {
    let text = read_text(path, TOML_BYTES_MAX).map_err(|error| unreadable(path, error))?;
    let text = text.ok_or_else(|| {
        Error::new(ErrorCode::NotFound, format!("{} does not exist", path.display()))
    })?;
    let lineage = Lineage::parse(&text).map_err(Error::invalid)?;
    if let Some(stated) = &lineage.artifact_digest
        && stated.parse::<Digest>()? != found
    {
        return Err(Error::invalid(format!(
            "{}: artifact_digest is {stated}, but the artifact has {found}",
            path.display()
        )));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: PinError) -> Error {
    let (PinError::Moving(why) | PinError::Refused(why)) = error;
    Error::invalid(format!("{}: {why}", path.display()))
}

/// Temporary folders are private; a version is for the gateway's user.
fn readable_by_all(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames `hidden` to the next number. Making the folder claims the number,
/// and a rename replaces an empty folder in one step.
fn claim(folder: &Path, hidden: &Path) -> io::Result<VersionId> {
    for _ in 0..ATTEMPTS_MAX {
        let version = next(folder)?;
        let target = folder.join(version.to_string());
        match fs::create_dir(&target) {
            Ok(()) => {
                return fs::rename(hidden, &target).map(|()| version).inspect_err(|_| {
                    let _ = fs::remove_dir(&target);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many others push at the same time"))
}

/// One above the highest number there is.
fn next(folder: &Path) -> io::Result<VersionId> {
    let mut highest = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Ok(version) = name.to_string_lossy().parse::<VersionId>() {
            highest = highest.max(version.get());
        }
    }
    let next = highest.checked_add(1).and_then(VersionId::new);
    next.ok_or_else(|| io::Error::other(format!("no number above {highest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn model() -> ModelName {
        ModelName::new("churn").unwrap()
    }

    fn numbers(versions: &[VersionId]) -> Vec<u64> {
        versions.iter().map(|v| v.get()).collect()
    }

    #[test]
    fn versions_get_the_next_number() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        fs::write(&artifact, "abc").unwrap();
        let lineage = root.path().join("v.toml");
        fs::write(&lineage, format!("author = \"me\"\nartifact_digest = \"{ABC}\"")).unwrap();
        let push = |file| push(root.path(), &model(), &artifact, file).unwrap();
        assert_eq!(push(None).get(), 1);
        assert_eq!(push(Some(&*lineage)).get(), 2);
        fs::create_dir(root.path().join("churn/41")).unwrap();
        assert_eq!(push(None).get(), 42);
        let folder = root.path().join("churn/2");
        assert_eq!(fs::read_to_string(folder.join(ARTIFACT)).unwrap(), "abc");
        assert!(fs::read_to_string(folder.join(VERSION_FILE)).unwrap().contains("author"));
        let names: Vec<_> = fs::read_dir(root.path().join("churn"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        let lineage = root.path().join("v.toml");
        let push = || push(root.path(), &model(), &artifact, Some(&lineage)).unwrap_err();
        assert!(push().message().contains("a.onnx"));
        fs::write(&artifact, "abc").unwrap();
        assert!(push().message().contains("does not exist"));
        fs::write(&lineage, "autor = \"me\"").unwrap();
        assert!(push().message().contains("`autor`"));
        fs::write(&lineage, format!("artifact_digest = \"{}\"", "0".repeat(64))).unwrap();
        assert!(push().message().contains("but the artifact has sha256:ba7816bf"));
        assert!(!root.path().join("churn").exists());
    }

    #[test]
    fn pushes_at_the_same_time_get_different_numbers() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        fs::write(&artifact, "abc").unwrap();
        let mut versions: Vec<_> = std::thread::scope(|scope| {
            let one = || push(root.path(), &model(), &artifact, None).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        versions.sort_unstable();
        assert_eq!(numbers(&versions), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
