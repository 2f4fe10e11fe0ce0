//! What the files in a model's folder say of it: `model.toml`, `config.pbtxt`
//! and the label files that the latter names.

use std::path::Path;
use std::sync::Arc;

use crate::registry::blobs::read_text;
use crate::registry::scan::{MODEL_FILE, TRITON_FILE};
use crate::registry::settings::{ModelFile, TOML_BYTES_MAX};
use crate::registry::triton::{self, TritonFile};
use crate::types::ModelName;

/// The largest label file, in bytes.
const LABELS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A model's folder, and which of the files it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    pub(super) model: &'a ModelName,
    pub(super) toml: bool,
    pub(super) triton: bool,
}

/// What the files say.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// All together, or what is wrong with them.
    pub(super) file: Result<Arc<ModelFile>, String>,
    /// The files beside `config.pbtxt` that it depends on.
    pub(super) labels: Vec<String>,
}

impl Folder<'_> {
    /// Reads them. `engines` are the names that this process knows. The error
    /// is that something cannot be read now; the next look may be let in.
    pub(super) fn read(self, engines: &[&str]) -> Result<Said, String> {
        let toml = self.text(MODEL_FILE, self.toml, TOML_BYTES_MAX)?;
        let Some(text) = self.text(TRITON_FILE, self.triton, triton::BYTES_MAX)? else {
            let file = ModelFile::parse(toml.as_deref().unwrap_or_default(), engines);
            return Ok(Said { file: file.map(Arc::new), labels: Vec::new() });
        };
        let mut config = match TritonFile::parse(&text, self.model) {
            Ok(config) => config,
            Err(why) => return Ok(Said { file: Err(why), labels: Vec::new() }),
        };
        let labels = config.label_files().map(str::to_owned).collect();
        let labelled =
            config.label(|name| match read_text(&self.path.join(name), LABELS_BYTES_MAX) {
                Ok(Some(text)) => Ok(text),
                Ok(None) => Err(format!("{name} is not there")),
                Err(error) => Err(error.why()),
            });
        let toml = toml.as_deref().unwrap_or_default();
        let file = labelled.and_then(|()| ModelFile::parse_with(toml, Some(config), engines));
        Ok(Said { file: file.map(Arc::new), labels })
    }

    fn text(self, name: &str, there: bool, bytes_max: u64) -> Result<Option<String>, String> {
        if !there {
            return Ok(None);
        }
        match read_text(&self.path.join(name), bytes_max) {
            Ok(Some(text)) => Ok(Some(text)),
            Ok(None) => Err(format!("{name} is gone; looking again")),
            Err(error) => Err(error.why()),
        }
    }
}
