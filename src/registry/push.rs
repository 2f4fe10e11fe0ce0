//! Puts a new version into the repository.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorCode, Result};
use crate::registry::Lineage;
use crate::registry::artifact::{Whole, find, named_by};
use crate::registry::blobs::{PinError, digest, read_text};
use crate::registry::scan::{ARTIFACT, GOLDEN_FILE, TRITON_FILE, VERSION_FILE};
use crate::registry::settings::TOML_BYTES_MAX;
use crate::registry::triton::{self, TritonFile};
use crate::types::{Digest, ModelName, VersionId};

/// Others may push at the same time: so often a lost race is run again.
const ATTEMPTS_MAX: usize = 100;

/// Copies an artifact into the repository as the next version of `model`: with
/// the files beside it in which it keeps tensors, and with its lineage. A
/// folder is taken as a version's: its `model.onnx`, `version.toml` and
/// `golden.json`. There the artifact is called as the model's `config.pbtxt` has
/// it, if it has one. The version appears whole, by one rename; the model's folder
/// is created if needed.
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
    let folder = models_dir.join(model.as_str());
    let source = Source::find(artifact, version_file, &artifact_of(&folder, model)?)?;
    let written = |error: io::Error| {
        let folder = folder.display();
        Error::invalid(format!("folder {folder} cannot be written: {error}"))
    };
    fs::create_dir_all(&folder).map_err(written)?;
    // Hidden, so that the watcher does not see it before it is whole.
    let hidden = tempfile::Builder::new().prefix(".push-").tempdir_in(&folder).map_err(written)?;
    readable_by_all(hidden.path()).map_err(written)?;
    for (name, (path, found)) in &source.files {
        let target = hidden.path().join(name);
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(written)?;
        fs::copy(path, &target).and_then(|_| sync(&target)).map_err(written)?;
        if digest(&target, u64::MAX).ok() != Some(*found) {
            let message = format!("{} changed while it was copied; try again", path.display());
            return Err(Error::new(ErrorCode::Conflict, message));
        }
    }
    if let Some(text) = source.lineage {
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

/// The name of the model's artifacts.
fn artifact_of(folder: &Path, model: &ModelName) -> Result<String> {
    let path = folder.join(TRITON_FILE);
    let text = read_text(&path, triton::BYTES_MAX).map_err(|error| unreadable(&path, error))?;
    let file = text.map(|text| TritonFile::parse(&text, model)).transpose();
    let name = file.map_err(Error::invalid)?.and_then(|file| file.settings.default_model_filename);
    Ok(name.unwrap_or_else(|| ARTIFACT.to_owned()))
}

/// What a version is made of.
struct Source {
    /// By their names in the version's folder: where each lies, and its digest.
    files: BTreeMap<String, (PathBuf, Digest)>,
    lineage: Option<String>,
}

impl Source {
    /// Finds it all; `name` is the artifact's in the repository.
    fn find(artifact: &Path, version_file: Option<&Path>, name: &str) -> Result<Self> {
        let in_folder = |name| Some(artifact.join(name)).filter(|path| path.exists());
        let (artifact, version_file, golden) = if artifact.is_dir() {
            let lineage = version_file.map(Path::to_owned).or_else(|| in_folder(VERSION_FILE));
            let inner = in_folder(name).unwrap_or_else(|| artifact.join(ARTIFACT));
            (inner, lineage, in_folder(GOLDEN_FILE))
        } else {
            (artifact.to_owned(), version_file.map(Path::to_owned), None)
        };
        let artifact = &*artifact;
        let whole = whole(artifact)?;
        let lineage = version_file.map(|path| checked_lineage(&path, &whole)).transpose()?;
        let folder = artifact.parent().unwrap_or(Path::new("."));
        let external = whole.files.into_iter();
        let external = external.map(|(name, found)| (name.clone(), (folder.join(name), found)));
        let mut files: BTreeMap<_, _> = external.collect();
        files.insert(name.to_owned(), (artifact.to_owned(), whole.artifact));
        if let Some(path) = golden {
            let found = digest(&path, u64::MAX).map_err(|error| unreadable(&path, error))?;
            files.insert(GOLDEN_FILE.to_owned(), (path, found));
        }
        Ok(Self { files, lineage })
    }
}

/// The digests of an artifact and of the files that it names.
fn whole(artifact: &Path) -> Result<Whole> {
    let wrong = |error| unreadable(artifact, error);
    let found = digest(artifact, u64::MAX).map_err(wrong)?;
    let folder = artifact.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for file in named_by(artifact).map_err(wrong)? {
        let source = find(folder, &file).map_err(wrong)?;
        files.insert(file.location, digest(&source, u64::MAX).map_err(wrong)?);
    }
    Ok(Whole { artifact: found, files })
}

/// The text of a `version.toml` that parses and fits the artifact.
fn checked_lineage(path: &Path, whole: &Whole) -> Result<String> {
    let text = read_text(path, TOML_BYTES_MAX).map_err(|error| unreadable(path, error))?;
    let text = text.ok_or_else(|| {
        Error::new(ErrorCode::NotFound, format!("{} does not exist", path.display()))
    })?;
    let lineage = Lineage::parse(&text).map_err(Error::invalid)?;
    match lineage.mismatch(whole).map_err(Error::invalid)? {
        Some(why) => Err(Error::invalid(format!("{}: {why}", path.display()))),
        None => Ok(text),
    }
}

fn unreadable(path: &Path, error: PinError) -> Error {
    Error::invalid(format!("{}: {}", path.display(), error.why()))
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
    use crate::registry::testing::onnx_with_files;

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
        assert!(push().message().contains("model.onnx has the digest sha256:ba7816bf"));
        assert!(!root.path().join("churn").exists());
    }

    #[test]
    fn a_folder_is_pushed_with_the_files_that_its_artifact_names() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("build");
        fs::create_dir_all(source.join("w")).unwrap();
        fs::write(source.join(ARTIFACT), onnx_with_files(&[("w/0.bin", 1)])).unwrap();
        fs::write(source.join("notes.txt"), "mine").unwrap();
        let push = |path: &Path| push(root.path(), &model(), path, None);
        let why = push(&source).unwrap_err();
        assert!(why.message().contains("waits for w/0.bin"), "{why}");
        assert!(!root.path().join("churn").exists());
        fs::write(source.join("w/0.bin"), "abc").unwrap();
        fs::write(source.join(GOLDEN_FILE), "{}").unwrap();
        let lineage = format!("file_digests = {{ \"w/0.bin\" = \"{ABC}\" }}");
        fs::write(source.join(VERSION_FILE), lineage).unwrap();
        push(&source).unwrap();
        push(&source.join(ARTIFACT)).unwrap();
        let pushed = |path: &str| fs::read(root.path().join("churn").join(path)).ok();
        assert_eq!(pushed("1/w/0.bin").unwrap(), b"abc");
        assert!(pushed("1/golden.json").is_some() && pushed("1/version.toml").is_some());
        assert!(pushed("1/notes.txt").is_none());
        assert_eq!(pushed("2/w/0.bin").unwrap(), b"abc");
        assert!(pushed("2/golden.json").is_none());
        fs::write(source.join("w/0.bin"), "abd").unwrap();
        let why = push(&source).unwrap_err();
        assert!(why.message().contains("w/0.bin has the digest"), "{why}");
    }

    #[test]
    fn the_artifact_is_called_as_the_models_config_pbtxt_has_it() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        fs::write(&artifact, "abc").unwrap();
        let folder = root.path().join("churn");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(TRITON_FILE), "default_model_filename: 'net.onnx'").unwrap();
        push(root.path(), &model(), &artifact, None).unwrap();
        assert_eq!(fs::read_to_string(folder.join("1/net.onnx")).unwrap(), "abc");
        push(root.path(), &model(), &folder.join("1"), None).unwrap();
        assert!(folder.join("2/net.onnx").exists());
        fs::write(folder.join(TRITON_FILE), "nonsense").unwrap();
        let why = push(root.path(), &model(), &artifact, None).unwrap_err();
        assert!(why.message().contains("config.pbtxt, line 1"), "{why}");
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
