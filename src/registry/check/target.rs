//! What is to be checked: a version's folder, a model's, or a repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::registry::folder::Folder;
use crate::registry::scan::{self, ARTIFACT, FoundModel, Layout, MODEL_FILE, TRITON_FILE};
use crate::registry::settings::ModelFile;
use crate::types::{ModelName, VersionId};

/// The name of a model whose folder's name cannot be one.
const NAMELESS: &str = "model";

/// A model of which something is checked.
pub(super) struct Model {
    /// Its settings, or what is wrong with them.
    pub(super) file: std::result::Result<Arc<ModelFile>, String>,
    name: ModelName,
    folder: Option<PathBuf>,
    pub(super) targets: Vec<Target>,
}

/// A version to check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) model: ModelName,
    pub(super) version: VersionId,
    pub(super) folder: PathBuf,
}

impl Target {
    /// For people: `churn 3`.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.model, self.version)
    }
}

impl Model {
    /// Another version of the same model, if it has a folder.
    pub(super) fn sibling(&self, version: VersionId) -> Option<Target> {
        let folder = self.folder.as_ref()?.join(version.to_string());
        folder.is_dir().then(|| Target { model: self.name.clone(), version, folder })
    }
}

/// Everything that a folder asks to check.
pub(super) fn find(folder: &Path, engines: &[&str]) -> Result<Vec<Model>> {
    if is_version(folder) {
        let (mut model, target) = version(folder, engines)?;
        model.targets = vec![target];
        return Ok(vec![model]);
    }
    let layout = scan::layout(folder)
        .map_err(|error| Error::invalid(format!("{} cannot be read: {error}", folder.display())))?;
    let models: Vec<_> = match layout {
        Layout::Model(found) => vec![whole(name_of(folder), folder, &found, engines)],
        Layout::Repository(found) => {
            let models = found.models.into_iter();
            models
                .map(|(name, model)| {
                    let folder = folder.join(name.as_str());
                    whole(name, &folder, &model, engines)
                })
                .collect()
        }
    };
    if models.iter().all(|model| model.targets.is_empty()) {
        return Err(Error::invalid(format!(
            "{} has no versions; expected a version's folder (with a {ARTIFACT} in it), a model's \
             folder (with numbered folders in it) or a folder of models",
            folder.display()
        )));
    }
    Ok(models)
}

/// A version's folder, and its model without anything else to check.
pub(super) fn version(folder: &Path, engines: &[&str]) -> Result<(Model, Target)> {
    if !is_version(folder) {
        let folder = folder.display();
        return Err(Error::invalid(format!(
            "{folder} is no version's folder: expected one with a {ARTIFACT} in it"
        )));
    }
    // For its name: what is given may be ".".
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let number = whole.file_name().and_then(|name| name.to_str()?.parse::<VersionId>().ok());
    let parent = whole.parent();
    let model = Model {
        file: parent.map_or_else(|| Ok(Arc::default()), |parent| model_file(parent, engines)),
        name: parent.map_or_else(nameless, name_of),
        // What stands beside a folder without a number are no versions.
        folder: number.and(parent).map(Path::to_owned),
        targets: Vec::new(),
    };
    let (name, version) = (model.name.clone(), number.unwrap_or(ONE));
    Ok((model, Target { model: name, version, folder: folder.to_owned() }))
}

/// The number of a folder that has none.
const ONE: VersionId = VersionId::new(1).expect("1 is a number from 1");

/// It holds an artifact, or it is numbered and holds no folders that are.
fn is_version(folder: &Path) -> bool {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let numbered = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_dir() && name.is_some_and(|name| name.parse::<VersionId>().is_ok())
    };
    let inner = || {
        let mut entries = folder.read_dir().into_iter().flatten().flatten();
        entries.any(|entry| numbered(&entry.path()))
    };
    folder.join(ARTIFACT).exists()
        || numbered(&whole)
            && !inner()
            && !folder.join(MODEL_FILE).exists()
            && !folder.join(TRITON_FILE).exists()
}

/// A model with all its versions.
fn whole(name: ModelName, folder: &Path, found: &FoundModel, engines: &[&str]) -> Model {
    let target = |version: &VersionId| Target {
        model: name.clone(),
        version: *version,
        folder: folder.join(version.to_string()),
    };
    Model {
        file: model_file(folder, engines),
        targets: found.versions.keys().map(target).collect(),
        folder: Some(folder.to_owned()),
        name,
    }
}

fn model_file(folder: &Path, engines: &[&str]) -> std::result::Result<Arc<ModelFile>, String> {
    let there = |name: &str| folder.join(name).exists();
    let (toml, triton) = (there(MODEL_FILE), there(TRITON_FILE));
    let files = Folder { path: folder, model: &name_of(folder), toml, triton };
    files.read(engines).and_then(|said| said.file)
}

fn name_of(folder: &Path) -> ModelName {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().and_then(|name| name.to_str());
    name.and_then(|name| ModelName::new(name).ok()).unwrap_or_else(nameless)
}

fn nameless() -> ModelName {
    ModelName::new(NAMELESS).expect("a plain word")
}
