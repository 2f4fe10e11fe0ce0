//! Opens a version where it lies, to run it without a gateway: with the engine, and as
//! it is declared, as a gateway would. Nothing is pinned, nothing is tried first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{EngineSet, Model, declare};
use crate::error::{Error, ErrorCode, Result};
use crate::registry::Lineage;
use crate::registry::artifact::{self, Whole};
use crate::registry::blobs::{PinError, read_text};
use crate::registry::folder::Folder;
use crate::registry::scan::{ARTIFACT, MODEL_FILE, TRITON_FILE, VERSION_FILE};
use crate::registry::settings::{ModelFile, TOML_BYTES_MAX};
use crate::types::{Digest, ModelName, ModelSettings, VersionId};

/// A version that is loaded and serves nobody.
pub struct Opened {
    /// Its folder.
    pub folder: PathBuf,
    /// What a gateway would know it by.
    pub digest: Digest,
    /// What its model's owner settles.
    pub settings: Arc<ModelSettings>,
    /// The graph, as it is declared.
    pub graph: Arc<dyn Model>,
}

/// Loads a version of a repository on the calling thread, whose stack should be
/// [`STACK_BYTES`](crate::types::thread::STACK_BYTES).
///
/// # Errors
/// There is no such version, its files contradict each other, or it does not load.
pub fn open(
    models_dir: &Path,
    model: &ModelName,
    version: VersionId,
    engines: &EngineSet,
    artifact_bytes_max: u64,
) -> Result<Opened> {
    let folder = find(models_dir, model, version)?;
    let file = model_file(&models_dir.join(model.as_str()), model, engines)?;
    let lineage = lineage(&folder)?;
    let engine = engines.require(lineage.engine.as_deref().unwrap_or(&file.engine))?;
    let artifact = artifact_of(&folder, file.artifact());
    let at = |why: String| Error::invalid(format!("{}: {why}", artifact.display()));
    let whole = whole(&artifact, artifact_bytes_max).map_err(|error| at(error.why()))?;
    if let Some(why) = lineage.mismatch(&whole).map_err(at)? {
        return Err(at(why));
    }
    let graph = engine.load(&artifact);
    let graph = graph.and_then(|graph| declare(graph, file.declared().map(|d| &**d)));
    let graph = graph.map_err(|error| at(format!("does not load: {error}")))?;
    if let Some(problem) = file.features_problem(version, graph.signature()) {
        return Err(Error::invalid(problem));
    }
    Ok(Opened { folder, digest: whole.digest(), settings: Arc::clone(&file.settings), graph })
}

/// The version's folder; the error names those that there are.
fn find(models_dir: &Path, model: &ModelName, version: VersionId) -> Result<PathBuf> {
    let missing = |message: String| Error::new(ErrorCode::NotFound, message);
    if !models_dir.is_dir() {
        return Err(missing(format!("models folder {} does not exist", models_dir.display())));
    }
    let of_model = models_dir.join(model.as_str());
    if !of_model.is_dir() {
        let models = models_dir.display();
        return Err(missing(format!(
            "{models} has no model {model}; --models names another folder"
        )));
    }
    let folder = of_model.join(version.to_string());
    if folder.is_dir() {
        return Ok(folder);
    }
    let entries = fs::read_dir(&of_model).into_iter().flatten().flatten();
    let mut versions: Vec<VersionId> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
    let known = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
    Err(missing(format!("{} has no version {version}; it has {known}", of_model.display())))
}

fn model_file(folder: &Path, model: &ModelName, engines: &EngineSet) -> Result<Arc<ModelFile>> {
    let there = |name: &str| folder.join(name).exists();
    let files = Folder { path: folder, model, toml: there(MODEL_FILE), triton: there(TRITON_FILE) };
    let names: Vec<_> = engines.names().collect();
    let file = files.read(&names).and_then(|said| said.file);
    file.map_err(|why| Error::invalid(format!("{}: {why}", folder.display())))
}

fn lineage(folder: &Path) -> Result<Lineage> {
    let at = |why: String| Error::invalid(format!("{}: {why}", folder.display()));
    let text = read_text(&folder.join(VERSION_FILE), TOML_BYTES_MAX);
    let text = text.map_err(|error| at(error.why()))?.unwrap_or_default();
    Lineage::parse(&text).map_err(at)
}

/// The artifact's path; one in a folder is called as it is in a version's own.
fn artifact_of(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    if path.is_dir() { path.join(ARTIFACT) } else { path }
}

fn whole(artifact: &Path, bytes_max: u64) -> std::result::Result<Whole, PinError> {
    if !artifact.exists() {
        return Err(PinError::Moving("is not there".to_owned()));
    }
    let files: Vec<_> = artifact::named_by(artifact)?.into_iter().map(|f| f.location).collect();
    artifact::digests(artifact, files.iter(), bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::FakeEngine;

    fn engines() -> EngineSet {
        EngineSet::default().with(Arc::new(FakeEngine))
    }

    fn open_it(models: &Path, number: u64) -> Result<Opened> {
        let model = ModelName::new("m").unwrap();
        open(models, &model, VersionId::new(number).unwrap(), &engines(), 1000)
    }

    /// What is wrong when these files are there.
    fn problem(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        open_it(root.path(), 1).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_version_is_opened_as_it_is_declared() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("m/1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.onnx"), "columns 2").unwrap();
        fs::write(root.path().join("m/model.toml"), "features = [\"a\", \"b\"]").unwrap();
        let opened = open_it(root.path(), 1).unwrap();
        assert_eq!(opened.settings.features, ["a", "b"]);
        assert_eq!(opened.graph.signature().inputs[0].wire_shape(), [-1, 2]);
        assert_eq!(opened.folder, folder);
        let lines = format!("artifact_digest = \"{}\"", opened.digest);
        fs::write(folder.join("version.toml"), lines).unwrap();
        assert_eq!(open_it(root.path(), 1).unwrap().digest, opened.digest);
        // As a Triton repository has it.
        fs::remove_file(root.path().join("m/model.toml")).unwrap();
        let config = "max_batch_size: 4 output { name: 'y' data_type: TYPE_FP32 dims: 2 }";
        fs::write(root.path().join("m/config.pbtxt"), config).unwrap();
        assert_eq!(open_it(root.path(), 1).unwrap().settings.rows_max, Some(4));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let artifact = ("m/1/model.onnx", "columns 2");
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[("other/1/model.onnx", "")], "has no model m; --models"),
            (&[("m/2/x", ""), ("m/10/x", "")], "m has no version 1; it has 2, 10"),
            (&[("m/x", "")], "m has no version 1; it has none"),
            (&[("m/1/x", "")], "m/1/model.onnx: is not there"),
            (&[("m/1/model.onnx", "broken")], "m/1/model.onnx: does not load: broken"),
            (&[artifact, ("m/model.toml", "ownr = 1")], "m: model.toml, line 1"),
            (&[artifact, ("m/model.toml", "features = [\"a\"]")], "version 1 takes 2"),
            (&[artifact, ("m/1/version.toml", "engine = \"magic\"")], "\"magic\" is unknown"),
            (
                &[artifact, ("m/1/version.toml", "artifact_digest = \"sha256:00\"")],
                "artifact_digest",
            ),
        ];
        for (files, expected) in cases {
            let problem = problem(files);
            assert!(problem.contains(expected), "{expected:?} is not in {problem}");
        }
    }
}
