//! What a listing of the models folder means. Reading it and interpreting it
//! are apart, so that the second is pure.
//!
//! A folder below the root is a model if it has a `model.toml`, a `config.pbtxt`
//! or a folder in it; a folder below that whose name is a number is a version. Hidden and
//! temporary names are ignored in silence (that is how an upload hides until
//! its rename); other folders are reported.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::types::{ModelName, VersionId};

/// The artifact's name in a version's folder.
pub(super) const ARTIFACT: &str = "model.onnx";
/// Lineage, in a version's folder.
pub(super) const VERSION_FILE: &str = "version.toml";
/// Requests with expected answers, in a version's folder.
pub(super) const GOLDEN_FILE: &str = "golden.json";
/// Settings, in a model's folder.
pub(super) const MODEL_FILE: &str = "model.toml";
/// What a Triton repository has in its place.
pub(super) const TRITON_FILE: &str = "config.pbtxt";
/// Folders in a model's folder that Triton gives a meaning, and which are no
/// versions that somebody misspelt.
const TRITON_FOLDERS: [&str; 3] = ["warmup", "initial_state", "configs"];

/// Entries of one folder that are looked at; more are an error of that folder.
const ENTRIES_MAX: usize = 10_000;

/// Folders in folders in which a version may keep files.
pub(super) const INNER_FOLDERS_MAX: usize = 4;

/// Levels that are read: models, versions, their files, and files in folders of
/// versions.
const DEPTH: usize = 3 + INNER_FOLDERS_MAX;

/// Problems of one folder that are told one by one.
const PROBLEMS_MAX: usize = 20;

/// What a file looks like from outside; it changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified_nanos: i128,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let nanos =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { size: metadata.len(), modified_nanos: nanos, inode: metadata.ino() }
    }
}

/// An entry of a folder, as read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) name: String,
    /// When the kernel last saw it change; cannot be set by a copying tool.
    pub(super) changed: SystemTime,
    pub(super) kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    File(Stamp),
    Folder(Vec<Node>),
    /// Below the depth that matters, or neither file nor folder.
    Other,
    /// It is there, but cannot be read; why.
    Unreadable(String),
}

/// The files of one version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Files {
    /// The artifact's path in the folder.
    pub(super) artifact: String,
    /// All that are there, by their paths in the folder: which of them the
    /// artifact needs is not known from outside.
    pub(super) stamps: BTreeMap<String, Stamp>,
    /// The latest change of the folder and of these files.
    pub(super) changed: SystemTime,
}

/// What is known of a model's `model.toml` or `config.pbtxt`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum ModelFileSeen {
    /// There is none: defaults apply.
    #[default]
    Absent,
    Present(Stamp),
    /// It or its folder cannot be read, and why. Not the same as absent:
    /// nobody asked for the defaults.
    Unreadable(String),
}

/// One model's folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FoundModel {
    pub(super) model_file: ModelFileSeen,
    pub(super) triton_file: ModelFileSeen,
    /// The other files beside a `config.pbtxt`, which may name them.
    pub(super) beside: BTreeMap<String, Stamp>,
    pub(super) versions: BTreeMap<VersionId, Files>,
    pub(super) problems: Vec<String>,
    /// Something could not be read: what is missing may still be there.
    pub(super) partial: bool,
}

/// What the models folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) models: BTreeMap<ModelName, FoundModel>,
    /// Folders that cannot be models, and why.
    pub(super) problems: Vec<String>,
}

/// Reads the models folder: models, versions, their files, and the files in
/// folders of versions; no file's content.
pub(super) fn read(models_dir: &Path) -> io::Result<Vec<Node>> {
    list(models_dir, DEPTH)
}

/// What a folder is, by what is in it.
pub(super) enum Layout {
    /// A model's: it has a `model.toml`, a `config.pbtxt` or numbered folders.
    Model(FoundModel),
    /// A repository of models, or nothing of ours.
    Repository(Found),
}

/// Reads a folder that may be a model's or a repository.
pub(super) fn layout(folder: &Path) -> io::Result<Layout> {
    let nodes = list(folder, DEPTH)?;
    let numbered = |node: &Node| {
        matches!(node.kind, Kind::Folder(_)) && node.name.parse::<VersionId>().is_ok()
    };
    let is_model = nodes.iter().any(|node| is_model_file(&node.name) || numbered(node));
    Ok(if is_model { Layout::Model(model(&nodes)) } else { Layout::Repository(interpret(&nodes)) })
}

fn list(folder: &Path, depth: usize) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_ignored(&name) {
            continue;
        }
        if nodes.len() >= ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} entries")));
        }
        // Follows links: a mounted configuration is often a link to a folder.
        match fs::metadata(entry.path()) {
            Ok(metadata) => nodes.push(node(&entry.path(), name, &metadata, depth)),
            // Removed meanwhile, or a link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => nodes.push(Node {
                name,
                changed: SystemTime::UNIX_EPOCH,
                kind: Kind::Unreadable(error.to_string()),
            }),
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

fn node(path: &Path, name: String, metadata: &fs::Metadata, depth: usize) -> Node {
    let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).unwrap_or(0));
    let kind = if metadata.is_file() {
        Kind::File(Stamp::of(metadata))
    } else if metadata.is_dir() && depth > 1 {
        // Only versions have folders that matter.
        let is_version = name.parse::<VersionId>().is_ok();
        match list(path, if depth == DEPTH - 1 && !is_version { 1 } else { depth - 1 }) {
            Ok(nodes) => Kind::Folder(nodes),
            Err(error) => Kind::Unreadable(error.to_string()),
        }
    } else {
        Kind::Other
    };
    Node { name, changed: SystemTime::UNIX_EPOCH + seconds + nanos, kind }
}

/// Hidden and temporary names.
fn is_ignored(name: &str) -> bool {
    let temporary = [".tmp", ".temp", ".part", ".partial", ".swp", ".crdownload", "~"];
    name.starts_with('.')
        || name == "__pycache__"
        || name == "lost+found"
        || temporary.iter().any(|end| name.ends_with(end))
}

/// What the entries of the models folder mean.
pub(super) fn interpret(nodes: &[Node]) -> Found {
    let mut found = Found::default();
    for node in nodes {
        let model = match &node.kind {
            Kind::Folder(entries) if is_model(entries) => model(entries),
            Kind::Unreadable(why) => FoundModel {
                partial: true,
                model_file: ModelFileSeen::Unreadable(format!(
                    "the model's folder cannot be read: {why}"
                )),
                ..FoundModel::default()
            },
            Kind::Folder(_) | Kind::File(_) | Kind::Other => continue,
        };
        match ModelName::new(&node.name) {
            Ok(name) => {
                found.models.insert(name, model);
            }
            Err(error) => found.problems.push(error.message().to_owned()),
        }
    }
    bound(&mut found.problems);
    found
}

/// A folder that was put here by mistake has thousands of problems.
fn bound(problems: &mut Vec<String>) {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("and {more} more of them"));
    }
}

fn is_model(entries: &[Node]) -> bool {
    entries.iter().any(|entry| match entry.kind {
        Kind::Folder(_) | Kind::Unreadable(_) => true,
        Kind::File(_) | Kind::Other => is_model_file(&entry.name),
    })
}

fn is_model_file(name: &str) -> bool {
    name == MODEL_FILE || name == TRITON_FILE
}

fn model(entries: &[Node]) -> FoundModel {
    let mut model = FoundModel::default();
    let triton = entries.iter().any(|entry| entry.name == TRITON_FILE);
    let theirs = |name: &str| triton && TRITON_FOLDERS.contains(&name);
    for entry in entries {
        let number = entry.name.parse::<VersionId>();
        match (&entry.kind, number) {
            (kind, _) if entry.name == MODEL_FILE => {
                model.model_file = model_file(MODEL_FILE, kind);
            }
            (kind, _) if entry.name == TRITON_FILE => {
                model.triton_file = model_file(TRITON_FILE, kind);
            }
            (Kind::Folder(_), Err(_)) if theirs(&entry.name) => {}
            (Kind::File(stamp), Err(_)) if triton => {
                model.beside.insert(entry.name.clone(), *stamp);
            }
            (Kind::Folder(inner), Ok(version)) => {
                model.versions.insert(version, files(entry.changed, inner));
            }
            (Kind::Folder(_), Err(error)) => {
                model.problems.push(format!("folder ignored: {error}"));
            }
            (Kind::File(_), Ok(version)) => model
                .problems
                .push(format!("{version} is a file; expected a folder with a {ARTIFACT} in it")),
            (Kind::Unreadable(why), _) => {
                model.partial = true;
                model.problems.push(format!("{:?} cannot be read: {why}", entry.name));
            }
            (Kind::File(_) | Kind::Other, _) => {}
        }
    }
    bound(&mut model.problems);
    model
}

fn model_file(name: &str, kind: &Kind) -> ModelFileSeen {
    match kind {
        Kind::File(stamp) => ModelFileSeen::Present(*stamp),
        Kind::Unreadable(why) => ModelFileSeen::Unreadable(format!("{name} cannot be read: {why}")),
        Kind::Folder(_) | Kind::Other => {
            ModelFileSeen::Unreadable(format!("{name} is no regular file"))
        }
    }
}

impl Files {
    /// Names the artifact as the model's settings do. There, a folder of that
    /// name may hold it, and the files in which it keeps tensors.
    pub(super) fn set_artifact(&mut self, name: &str) {
        let inner = format!("{name}/{ARTIFACT}");
        let folder = !self.stamps.contains_key(name) && self.stamps.contains_key(&inner);
        self.artifact = if folder { inner } else { name.to_owned() };
    }
}

/// An artifact's path, apart: the folder that it stands in (empty, or with a
/// slash at its end) and its name there.
pub(super) fn apart(artifact: &str) -> (&str, &str) {
    let at = artifact.rfind('/').map_or(0, |slash| slash + 1);
    artifact.split_at(at)
}

fn files(folder_changed: SystemTime, entries: &[Node]) -> Files {
    let (artifact, stamps) = (ARTIFACT.to_owned(), BTreeMap::new());
    let mut files = Files { artifact, stamps, changed: folder_changed };
    for entry in entries {
        match &entry.kind {
            Kind::File(stamp) => {
                files.stamps.insert(entry.name.clone(), *stamp);
                files.changed = files.changed.max(entry.changed);
            }
            Kind::Folder(inner) => {
                let inner = self::files(entry.changed, inner);
                let path = |(name, stamp)| (format!("{}/{name}", entry.name), stamp);
                files.stamps.extend(inner.stamps.into_iter().map(path));
                files.changed = files.changed.max(inner.changed);
            }
            Kind::Other | Kind::Unreadable(_) => {}
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Node {
        let stamp = Stamp { size: 1, modified_nanos: 1, inode: 1 };
        let changed = SystemTime::UNIX_EPOCH;
        Node { name: name.into(), changed, kind: Kind::File(stamp) }
    }

    fn folder(name: &str, nodes: Vec<Node>) -> Node {
        let changed = SystemTime::UNIX_EPOCH;
        Node { name: name.into(), changed, kind: Kind::Folder(nodes) }
    }

    #[test]
    fn a_repository_is_read_as_it_is_meant() {
        let weights = || folder("weights", vec![file("0.bin")]);
        let version = |n: &str| folder(n, vec![file(ARTIFACT), file("notes.txt"), weights()]);
        let found = interpret(&[
            file("train.py"),
            folder("data", vec![file("x.csv")]),
            folder("bad name", vec![version("1")]),
            folder(
                "churn",
                vec![
                    file(MODEL_FILE),
                    version("1"),
                    version("12"),
                    folder("v3", vec![]),
                    file("7"),
                ],
            ),
            folder("bare", vec![version("1")]),
            folder("new", vec![file(MODEL_FILE)]),
        ]);
        let names: Vec<_> = found.models.keys().map(ModelName::as_str).collect();
        assert_eq!(names, ["bare", "churn", "new"]);
        assert_eq!(found.problems.len(), 1);
        assert!(found.problems[0].contains("bad name"), "{:?}", found.problems);
        let churn = &found.models["churn"];
        assert_eq!(churn.versions.keys().map(|v| v.get()).collect::<Vec<_>>(), [1, 12]);
        let stamps = &churn.versions.values().next().unwrap().stamps;
        assert_eq!(stamps.keys().collect::<Vec<_>>(), [ARTIFACT, "notes.txt", "weights/0.bin"]);
        assert_eq!(churn.problems.len(), 2, "{:?}", churn.problems);
        assert!(churn.problems[0].contains("\"v3\"") && churn.problems[1].contains("7 is a file"));
        assert!(matches!(churn.model_file, ModelFileSeen::Present(_)));
        assert_eq!(found.models["bare"].model_file, ModelFileSeen::Absent);
        assert!(!churn.partial);
    }

    #[test]
    fn a_triton_repository_is_read_as_it_is_meant() {
        let version = |n: &str| folder(n, vec![file("net.onnx")]);
        let found = interpret(&[
            folder(
                "net",
                vec![
                    file(TRITON_FILE),
                    file("labels.txt"),
                    version("1"),
                    folder("warmup", vec![]),
                    folder("notes", vec![]),
                ],
            ),
            folder("empty", vec![file(TRITON_FILE)]),
        ]);
        assert_eq!(found.models.len(), 2);
        let net = &found.models["net"];
        assert!(matches!(net.triton_file, ModelFileSeen::Present(_)));
        assert_eq!(net.model_file, ModelFileSeen::Absent);
        assert_eq!(net.beside.keys().collect::<Vec<_>>(), ["labels.txt"]);
        assert_eq!(net.problems.len(), 1, "{:?}", net.problems);
        let mut files = net.versions.values().next().unwrap().clone();
        files.set_artifact("net.onnx");
        assert_eq!(files.artifact, "net.onnx");
        let nodes = [folder("net.onnx", vec![file(ARTIFACT), file("w.bin")])];
        let mut inner = super::files(SystemTime::UNIX_EPOCH, &nodes);
        inner.set_artifact("net.onnx");
        assert_eq!(apart(&inner.artifact), ("net.onnx/", ARTIFACT));
        assert_eq!(apart("net.onnx"), ("", "net.onnx"));
    }

    #[test]
    fn problems_are_bounded() {
        let wrong: Vec<_> = (0..500).map(|i| folder(&format!("x {i}"), vec![])).collect();
        let mut nodes: Vec<_> =
            (0..500).map(|i| folder(&format!("y {i}"), vec![folder("1", vec![])])).collect();
        nodes.push(folder("m", wrong));
        let found = interpret(&nodes);
        for problems in [&found.problems, &found.models["m"].problems] {
            assert_eq!(problems.len(), 21);
            assert_eq!(problems[20], "and 480 more of them");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_removed() {
        let unreadable = |name: &str| Node {
            name: name.into(),
            changed: SystemTime::UNIX_EPOCH,
            kind: Kind::Unreadable("denied".into()),
        };
        let found = interpret(&[unreadable("a"), folder("b", vec![unreadable("1")])]);
        assert!(found.models["a"].partial && found.models["b"].partial);
        assert!(found.models["b"].problems[0].contains("denied"));
        // Nor a model.toml for one that is not there.
        let other = Node { kind: Kind::Other, ..unreadable(MODEL_FILE) };
        let found = interpret(&[
            unreadable("a"),
            folder("b", vec![unreadable(MODEL_FILE)]),
            folder("c", vec![other]),
        ]);
        let expected = [
            ("a", "the model's folder cannot be read: denied"),
            ("b", "model.toml cannot be read: denied"),
            ("c", "model.toml is no regular file"),
        ];
        for (name, why) in expected {
            assert_eq!(found.models[name].model_file, ModelFileSeen::Unreadable(why.into()));
        }
    }

    #[test]
    fn the_disk_is_read_without_hidden_and_temporary_names() {
        let root = tempfile::tempdir().unwrap();
        for path in ["m/1/w", "m/1/a/b/c/d/e", "m/data/x", "m/.push-1", "m/2.tmp", ".git/x"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        for path in ["m/1/w/0.bin", "m/1/a/b/c/d/0.bin", "m/1/a/b/c/d/e/0.bin", "m/data/x/0.csv"] {
            fs::write(root.path().join(path), b"x").unwrap();
        }
        fs::write(root.path().join("m/1").join(ARTIFACT), b"abc").unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("m/5")).unwrap();
        let found = interpret(&read(root.path()).unwrap());
        let model = &found.models["m"];
        assert_eq!(model.versions.keys().map(|v| v.get()).collect::<Vec<_>>(), [1]);
        assert!(found.problems.is_empty());
        assert_eq!(model.problems.len(), 1, "data: {:?}", model.problems);
        let files = model.versions.values().next().unwrap();
        assert_eq!(files.stamps.keys().collect::<Vec<_>>(), ["a/b/c/d/0.bin", ARTIFACT, "w/0.bin"]);
        assert_eq!(files.stamps[ARTIFACT].size, 3);
        assert!(files.changed > SystemTime::UNIX_EPOCH);
    }
}
