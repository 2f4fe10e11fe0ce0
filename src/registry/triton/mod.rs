//! A model of a Triton repository: what its `config.pbtxt` says, and what of it
//! is taken here. Pure.
//!
//! Whatever would change answers if it was passed over refuses the model; what
//! is passed over otherwise is told.

mod config;
mod field;
mod samples;
mod tensors;
mod text;

use std::sync::Arc;
use std::time::Duration;

use crate::registry::scan::{GOLDEN_FILE, TRITON_FILE, VERSION_FILE};
use crate::registry::settings::BATCH_DELAY_MAX;
use crate::registry::triton::config::Config;
use crate::types::{Batching, Declared, ModelName, TritonSettings, VersionPolicy};

pub(super) use text::BYTES_MAX;

/// The backend that runs ONNX models there.
const BACKEND: &str = "onnxruntime";
/// The same by its older name.
const PLATFORM: &str = "onnxruntime_onnx";

/// A `config.pbtxt` that was taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TritonFile {
    /// What is kept of it, without the names in label files.
    pub(super) settings: TritonSettings,
    pub(super) batching: TritonBatching,
    /// What is passed over, for people.
    pub(super) not_taken: Vec<String>,
}

/// What it says of batches; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TritonBatching {
    pub(super) enabled: Option<bool>,
    pub(super) rows_max: Option<usize>,
    pub(super) delay_max: Option<Duration>,
}

/// One step by itself, for `fuzz/`: whether the text of a `config.pbtxt` is
/// taken, and else why not.
pub fn read_config(text: &str, model: &ModelName) -> Result<(), String> {
    TritonFile::parse(text, model).map(drop)
}

impl TritonFile {
    /// Takes the text of the `config.pbtxt` in the folder of `model`. The error
    /// says where and what.
    pub(super) fn parse(text: &str, model: &ModelName) -> Result<Self, String> {
        let told = |why: String| format!("{TRITON_FILE}: {why}");
        let message = text::parse(text);
        let config = message.and_then(|message| Config::read(&message));
        let config = config.map_err(|wrong| format!("{TRITON_FILE}, {wrong}"))?;
        Self::take(config, model).map_err(told)
    }

    fn take(config: Config, model: &ModelName) -> Result<Self, String> {
        if !config.impossible.is_empty() {
            return Err(format!(
                "{} is not served here, and answers would be others without it",
                config.impossible.join(", ")
            ));
        }
        check_name(config.name.as_deref(), model)?;
        check_backend(config.platform.as_deref(), config.backend.as_deref())?;
        let artifact = config.default_model_filename.filter(|name| !name.is_empty());
        artifact.as_deref().map(check_artifact).transpose()?;
        let mut not_taken = config.not_taken;
        let rows_max = config.max_batch_size.filter(|rows| *rows > 0);
        let undeclared = config.inputs.is_empty() && config.outputs.is_empty();
        let batched = match rows_max {
            Some(_) => Some(true),
            // Then all of it is to be found out, rows as well.
            None if undeclared => None,
            None => Some(false),
        };
        let inputs = tensors::take("input", config.inputs)?;
        let outputs = tensors::take("output", config.outputs)?;
        let warm_up = samples::take(config.warm_up, batched, &mut not_taken)?;
        let delay = config.dynamic_batching.map(|b| Duration::from_micros(b.delay_micros));
        if let Some(delay) = delay.filter(|delay| *delay > BATCH_DELAY_MAX) {
            not_taken.push(format!(
                "dynamic_batching.max_queue_delay_microseconds of {}: nobody waits for longer \
                 than {}",
                humantime::format_duration(delay),
                humantime::format_duration(BATCH_DELAY_MAX)
            ));
        }
        let batching = TritonBatching {
            enabled: (batched == Some(false)).then_some(false),
            rows_max: rows_max.map(|rows| rows.min(Batching::ROWS_LIMIT)),
            delay_max: delay.map(|delay| delay.min(BATCH_DELAY_MAX)),
        };
        let settings = TritonSettings {
            max_batch_size: rows_max,
            declared: Arc::new(Declared { batched, inputs, outputs, warm_up }),
            version_policy: config.version_policy.unwrap_or(VersionPolicy::Latest(1)),
            default_model_filename: artifact,
            parameters: config.parameters,
        };
        Ok(Self { settings, batching, not_taken })
    }

    /// The label files that its outputs name.
    pub(super) fn label_files(&self) -> impl Iterator<Item = &str> {
        let outputs = self.settings.declared.outputs.iter();
        outputs.filter_map(|output| output.label_file.as_deref())
    }

    /// Takes the names in the label files, a name per line. `read` gives a
    /// file's text, or says why it cannot be read.
    pub(super) fn label(
        &mut self,
        mut read: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        let mut declared = Declared::clone(&self.settings.declared);
        for output in &mut declared.outputs {
            let Some(file) = &output.label_file else { continue };
            let text = read(file).map_err(|why| {
                format!("{TRITON_FILE}: label_filename of output {:?}: {why}", output.name)
            })?;
            output.classes = text.lines().map(str::to_owned).collect();
        }
        self.settings.declared = Arc::new(declared);
        Ok(())
    }
}

fn check_name(name: Option<&str>, model: &ModelName) -> Result<(), String> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) if name != model.as_str() => Err(format!(
            "name: expected that of the folder, {:?}, or none; got {name:?}",
            model.as_str()
        )),
        _ => Ok(()),
    }
}

fn check_backend(platform: Option<&str>, backend: Option<&str>) -> Result<(), String> {
    let other = |found: Option<&str>, ours: &str| {
        found.filter(|name| !name.is_empty() && *name != ours).map(str::to_owned)
    };
    for (key, found) in
        [("platform", other(platform, PLATFORM)), ("backend", other(backend, BACKEND))]
    {
        if let Some(found) = found {
            return Err(format!(
                "{key}: ONNX models are served here: expected platform {PLATFORM:?} or backend \
                 {BACKEND:?}, got {found:?}"
            ));
        }
    }
    Ok(())
}

fn check_artifact(name: &str) -> Result<(), String> {
    let other_use = [GOLDEN_FILE, VERSION_FILE].contains(&name);
    if name.contains('/') || name.starts_with('.') || other_use {
        return Err(format!(
            "default_model_filename: expected a file's name, such as \"model.onnx\", got {name:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
