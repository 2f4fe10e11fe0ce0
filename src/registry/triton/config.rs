//! The fields of a `config.pbtxt` that have a meaning here, read; those that
//! have none, by name. Names and meanings are those of `ModelConfig` in the
//! repository of Triton's protobuf files (`model_config.proto`).

use std::collections::BTreeMap;

use crate::registry::triton::text::{Field, Message, Wrong};
use crate::types::{Datatype, VersionId, VersionPolicy};

/// What the file says, unchecked.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) name: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) max_batch_size: Option<usize>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) version_policy: Option<VersionPolicy>,
    pub(super) dynamic_batching: Option<DynamicBatching>,
    pub(super) default_model_filename: Option<String>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) warm_up: Vec<WarmUp>,
    /// What is there and would change answers if it was passed over.
    pub(super) impossible: Vec<&'static str>,
    /// What is there and is passed over, and why.
    pub(super) not_taken: Vec<String>,
}

/// One of `input` or `output`.
#[derive(Debug, Default)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) datatype: Option<Datatype>,
    pub(super) dims: Vec<i64>,
    pub(super) reshape: Option<Vec<i64>>,
    pub(super) label_filename: Option<String>,
}

/// `dynamic_batching`.
#[derive(Debug, Default)]
pub(super) struct DynamicBatching {
    pub(super) delay_micros: u64,
}

/// One of `model_warmup`.
#[derive(Debug, Default)]
pub(super) struct WarmUp {
    pub(super) name: String,
    pub(super) batch_size: usize,
    pub(super) count: usize,
    pub(super) inputs: Vec<WarmUpInput>,
}

/// An input of a [`WarmUp`].
#[derive(Debug)]
pub(super) struct WarmUpInput {
    pub(super) name: String,
    pub(super) datatype: Option<Datatype>,
    pub(super) dims: Vec<i64>,
    pub(super) random: bool,
}

/// What is passed over and told one by one.
const NOTES_MAX: usize = 50;

const CONFIG: &[&str] = &[
    "name",
    "platform",
    "backend",
    "runtime",
    "version_policy",
    "max_batch_size",
    "input",
    "output",
    "batch_input",
    "batch_output",
    "optimization",
    "dynamic_batching",
    "sequence_batching",
    "ensemble_scheduling",
    "instance_group",
    "default_model_filename",
    "cc_model_filenames",
    "metric_tags",
    "parameters",
    "model_warmup",
    "model_operations",
    "model_transaction_policy",
    "model_repository_agents",
    "response_cache",
    "model_metrics",
];

/// Fields that are passed over, and what stands for them here.
const PASSED_OVER: &[(&str, &str)] = &[
    ("runtime", "the engine is what model.toml names"),
    ("optimization", "an engine optimises what it loads"),
    ("instance_group", "models share the engine threads (execution.threads)"),
    ("cc_model_filenames", "there are no devices to choose a file for"),
    ("metric_tags", "metrics have the labels model and version"),
    ("model_operations", "no operators are loaded from libraries"),
    (
        "model_repository_agents",
        "artifacts are pinned by their digests; version.toml may state one",
    ),
    ("model_metrics", "the buckets of histograms are fixed"),
];

impl Config {
    /// Reads the fields; the error says where and what.
    pub(super) fn read(message: &Message) -> Result<Self, Wrong> {
        let mut config = Self::default();
        let (mut dynamic, mut policy) = (None, None);
        for field in &message.fields {
            match field.name.as_str() {
                "name" => field.once(&mut config.name, field.text()?)?,
                "platform" => field.once(&mut config.platform, field.text()?)?,
                "backend" => field.once(&mut config.backend, field.text()?)?,
                "max_batch_size" => field.once(&mut config.max_batch_size, field.count()?)?,
                "version_policy" => field.once(&mut policy, version_policy(field.message()?)?)?,
                "input" => {
                    let tensor = input(field.message()?, &mut config)?;
                    config.inputs.push(tensor);
                }
                "output" => {
                    let tensor = output(field.message()?, &mut config)?;
                    config.outputs.push(tensor);
                }
                "dynamic_batching" => {
                    let batching = dynamic_batching(field.message()?, &mut config)?;
                    field.once(&mut dynamic, batching)?;
                }
                "default_model_filename" => {
                    field.once(&mut config.default_model_filename, field.text()?)?;
                }
                "parameters" => config.parameter(field)?,
                "model_warmup" => {
                    let sample = warm_up(field.message()?, &mut config)?;
                    config.warm_up.push(sample);
                }
                _ => config.rest(field)?,
            }
        }
        (config.dynamic_batching, config.version_policy) = (dynamic, policy);
        Ok(config)
    }

    fn parameter(&mut self, field: &Field) -> Result<(), Wrong> {
        let (key, value) = field.entry()?;
        let mut text = None;
        for field in value.map(Field::message).transpose()?.iter().flat_map(|m| &m.fields) {
            match field.name.as_str() {
                "string_value" => field.once(&mut text, field.text()?)?,
                _ => return Err(field.unknown(&["string_value"])),
            }
        }
        self.parameters.insert(key, text.unwrap_or_default());
        Ok(())
    }

    /// What has no meaning here.
    fn rest(&mut self, field: &Field) -> Result<(), Wrong> {
        match field.name.as_str() {
            "sequence_batching" => self.impossible.push("sequence_batching"),
            "ensemble_scheduling" => self.impossible.push("ensemble_scheduling"),
            "batch_input" => self.impossible.push("batch_input"),
            "batch_output" => self.impossible.push("batch_output"),
            "model_transaction_policy" => {
                if flag(field, "decoupled", &["decoupled"])? {
                    self.impossible.push("model_transaction_policy.decoupled");
                }
            }
            "response_cache" => {
                if flag(field, "enable", &["enable"])? {
                    self.pass_over("response_cache: every request is run");
                }
            }
            name => {
                let known = PASSED_OVER.iter().find(|(known, _)| *known == name);
                let Some((name, why)) = known else { return Err(field.unknown(CONFIG)) };
                self.pass_over(format!("{name}: {why}"));
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, what: impl Into<String>) {
        let what = what.into();
        match self.not_taken.len() {
            0..NOTES_MAX if self.not_taken.contains(&what) => {}
            0..NOTES_MAX => self.not_taken.push(what),
            NOTES_MAX => self.not_taken.push("and more".to_owned()),
            _ => {}
        }
    }
}

/// A boolean in a message of which nothing else is read.
fn flag(field: &Field, name: &str, known: &[&str]) -> Result<bool, Wrong> {
    let mut flag = None;
    for field in &field.message()?.fields {
        if field.name != name {
            return Err(field.unknown(known));
        }
        field.once(&mut flag, field.boolean()?)?;
    }
    Ok(flag.unwrap_or(false))
}

fn version_policy(message: &Message) -> Result<VersionPolicy, Wrong> {
    const KNOWN: &[&str] = &["latest", "all", "specific"];
    let mut policy = None;
    for field in &message.fields {
        let fields = &field.message()?.fields;
        let found = match field.name.as_str() {
            "latest" => VersionPolicy::Latest(latest(fields)?),
            "all" => match fields.first() {
                Some(extra) => return Err(extra.unknown(&[])),
                None => VersionPolicy::All,
            },
            "specific" => VersionPolicy::Specific(specific(fields)?),
            _ => return Err(field.unknown(KNOWN)),
        };
        if policy.replace(found).is_some() {
            return Err(Wrong::new(field.at, "version_policy: expected one policy, got two"));
        }
    }
    Ok(policy.unwrap_or(VersionPolicy::Latest(1)))
}

fn latest(fields: &[Field]) -> Result<usize, Wrong> {
    let mut count = None;
    for field in fields {
        match field.name.as_str() {
            "num_versions" => field.once(&mut count, field.count()?)?,
            _ => return Err(field.unknown(&["num_versions"])),
        }
    }
    // Zero is what a number that is not set reads as.
    Ok(count.filter(|count| *count > 0).unwrap_or(1))
}

fn specific(fields: &[Field]) -> Result<Vec<VersionId>, Wrong> {
    let mut versions = Vec::new();
    for field in fields {
        match field.name.as_str() {
            "versions" => {
                let number = u64::try_from(field.whole(1, i64::MAX)?).unwrap_or_default();
                versions.extend(VersionId::new(number));
            }
            _ => return Err(field.unknown(&["versions"])),
        }
    }
    Ok(versions)
}

/// The type that a name stands for; `None` for none.
fn datatype(field: &Field) -> Result<Option<Datatype>, Wrong> {
    let word = field.word()?;
    let name = match word.strip_prefix("TYPE_") {
        Some("INVALID") => return Ok(None),
        Some("STRING") => "BYTES",
        Some("BYTES") | None => "",
        Some(name) => name,
    };
    let found: Result<Datatype, _> = name.parse();
    found.map(Some).map_err(|_| {
        let known = Datatype::ALL.map(Datatype::config_name).join(", ");
        field.expected(&format!("one of {known}"))
    })
}

fn dim(field: &Field) -> Result<i64, Wrong> {
    field.whole(-1, i64::from(u32::MAX))
}

fn reshape(message: &Message) -> Result<Vec<i64>, Wrong> {
    let mut shape = Vec::new();
    for field in &message.fields {
        match field.name.as_str() {
            "shape" => shape.push(dim(field)?),
            _ => return Err(field.unknown(&["shape"])),
        }
    }
    Ok(shape)
}

fn input(message: &Message, config: &mut Config) -> Result<Tensor, Wrong> {
    const KNOWN: &[&str] = &[
        "name",
        "data_type",
        "format",
        "dims",
        "reshape",
        "is_shape_tensor",
        "allow_ragged_batch",
        "optional",
        "is_non_linear_format_io",
    ];
    let mut tensor = Tensor::default();
    let (mut name, mut form) = (None, None);
    let (mut ragged, mut optional) = (None, None);
    for field in &message.fields {
        match field.name.as_str() {
            "format" => field.once(&mut form, field.word()?)?,
            "allow_ragged_batch" => field.once(&mut ragged, field.boolean()?)?,
            "optional" => field.once(&mut optional, field.boolean()?)?,
            _ => tensor.common(field, &mut name, config, KNOWN)?,
        }
    }
    tensor.name = name.unwrap_or_default();
    if ragged == Some(true) {
        config.impossible.push("allow_ragged_batch");
    }
    if optional == Some(true) {
        let name = &tensor.name;
        config.pass_over(format!("optional of input {name:?}: every input must be sent"));
    }
    Ok(tensor)
}

fn output(message: &Message, config: &mut Config) -> Result<Tensor, Wrong> {
    const KNOWN: &[&str] = &[
        "name",
        "data_type",
        "dims",
        "reshape",
        "label_filename",
        "is_shape_tensor",
        "is_non_linear_format_io",
    ];
    let mut tensor = Tensor::default();
    let (mut name, mut labels) = (None, None);
    for field in &message.fields {
        match field.name.as_str() {
            "label_filename" => field.once(&mut labels, field.text()?)?,
            _ => tensor.common(field, &mut name, config, KNOWN)?,
        }
    }
    tensor.name = name.unwrap_or_default();
    tensor.label_filename = labels.filter(|file| !file.is_empty());
    Ok(tensor)
}

impl Tensor {
    /// A field that inputs and outputs have in common.
    fn common(
        &mut self,
        field: &Field,
        name: &mut Option<String>,
        config: &mut Config,
        known: &[&str],
    ) -> Result<(), Wrong> {
        match field.name.as_str() {
            "name" => field.once(name, field.text()?)?,
            "data_type" => {
                let mut slot = self.datatype.map(Some);
                field.once(&mut slot, datatype(field)?)?;
                self.datatype = slot.flatten();
            }
            "dims" => self.dims.push(dim(field)?),
            "reshape" => field.once(&mut self.reshape, reshape(field.message()?)?)?,
            "is_shape_tensor" => {
                if field.boolean()? {
                    config.impossible.push("is_shape_tensor");
                }
            }
            "is_non_linear_format_io" => {
                if field.boolean()? {
                    config.impossible.push("is_non_linear_format_io");
                }
            }
            _ => return Err(field.unknown(known)),
        }
        Ok(())
    }
}

fn dynamic_batching(message: &Message, config: &mut Config) -> Result<DynamicBatching, Wrong> {
    const KNOWN: &[&str] = &[
        "preferred_batch_size",
        "max_queue_delay_microseconds",
        "preserve_ordering",
        "priority_levels",
        "default_priority_level",
        "default_queue_policy",
        "priority_queue_policy",
    ];
    let mut delay = None;
    for field in &message.fields {
        let why = match field.name.as_str() {
            "max_queue_delay_microseconds" => {
                field.once(&mut delay, field.whole(0, i64::MAX)?)?;
                continue;
            }
            "preferred_batch_size" => {
                field.count()?;
                "whatever waits is run as soon as a thread is free"
            }
            "preserve_ordering" if !field.boolean()? => continue,
            "preserve_ordering" => "each request is answered when it is done",
            "priority_levels" | "default_priority_level" | "priority_queue_policy" => {
                "requests are run in the order of their arrival"
            }
            "default_queue_policy" => {
                field.message()?;
                "server.request_timeout, execution.queue_time_max and execution.queue_rows_max \
                 bound what waits"
            }
            _ => return Err(field.unknown(KNOWN)),
        };
        config.pass_over(format!("dynamic_batching.{}: {why}", field.name));
    }
    let delay_micros = u64::try_from(delay.unwrap_or(0)).unwrap_or_default();
    Ok(DynamicBatching { delay_micros })
}

fn warm_up(message: &Message, config: &mut Config) -> Result<WarmUp, Wrong> {
    const KNOWN: &[&str] = &["name", "batch_size", "inputs", "count"];
    let mut sample = WarmUp::default();
    let (mut name, mut rows, mut count) = (None, None, None);
    for field in &message.fields {
        match field.name.as_str() {
            "name" => field.once(&mut name, field.text()?)?,
            "batch_size" => field.once(&mut rows, field.count()?)?,
            "count" => field.once(&mut count, field.count()?)?,
            "inputs" => {
                let (name, value) = field.entry()?;
                let Some(value) = value else { return Err(field.expected("a key and a value")) };
                sample.inputs.push(warm_up_input(name, value.message()?, config)?);
            }
            _ => return Err(field.unknown(KNOWN)),
        }
    }
    sample.name = name.unwrap_or_default();
    sample.batch_size = rows.unwrap_or(0);
    sample.count = count.unwrap_or(0);
    Ok(sample)
}

fn warm_up_input(
    name: String,
    message: &Message,
    config: &mut Config,
) -> Result<WarmUpInput, Wrong> {
    const KNOWN: &[&str] = &["data_type", "dims", "zero_data", "random_data", "input_data_file"];
    let mut input = WarmUpInput { name, datatype: None, dims: Vec::new(), random: false };
    let mut fill = None;
    for field in &message.fields {
        match field.name.as_str() {
            "data_type" => input.datatype = datatype(field)?,
            "dims" => input.dims.push(dim(field)?),
            "zero_data" => field.once(&mut fill, field.boolean()?)?,
            "random_data" => {
                input.random = field.boolean()?;
                field.once(&mut fill, input.random)?;
            }
            "input_data_file" => {
                field.once(&mut fill, !field.text()?.is_empty())?;
                config.pass_over(format!(
                    "model_warmup's input_data_file of input {:?}: zeros of its shape are run",
                    input.name
                ));
            }
            _ => return Err(field.unknown(KNOWN)),
        }
    }
    Ok(input)
}
