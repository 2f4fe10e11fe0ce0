//! The JSON part of an inference request and of its answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::{self, Answered};
use crate::protocol::json::{Keys, Object, Size, Token, Tokens, Writer, fill};
use crate::protocol::message::{fault, names, short, unwritable};
use crate::protocol::v2::binary;
use crate::types::{Data, Datatype, ModelSettings, Role, TensorSpec, element_count};

/// An inference request.
#[derive(Deserialize)]
pub(super) struct InferRequest<'a> {
    /// Sent back as it came.
    pub(super) id: Option<String>,
    /// Parameters of the whole request.
    #[serde(borrow, default)]
    pub(super) parameters: Option<Object<'a>>,
    /// The tensors.
    #[serde(borrow)]
    pub(super) inputs: Vec<InputTensor<'a>>,
    /// What is wanted; nothing means everything.
    #[serde(borrow, default)]
    pub(super) outputs: Option<Vec<WantedOutput<'a>>>,
}

/// One tensor of a request.
#[derive(Deserialize)]
pub(super) struct InputTensor<'a> {
    /// The input.
    pub(super) name: String,
    /// Sizes, as they came.
    pub(super) shape: Vec<i64>,
    /// The datatype's name.
    pub(super) datatype: String,
    /// Parameters of this tensor.
    #[serde(borrow, default)]
    pub(super) parameters: Option<Object<'a>>,
    /// The elements, unless they are binary.
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

/// An output that a request asks for.
#[derive(Deserialize)]
pub(super) struct WantedOutput<'a> {
    /// The output.
    pub(super) name: String,
    /// Parameters of this output.
    #[serde(borrow, default)]
    pub(super) parameters: Option<Object<'a>>,
}

/// Sizes of a shape that a message repeats.
const SIZES_SHOWN_MAX: usize = 16;

/// Where the elements of an input are.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// In the JSON part.
    Json(&'a RawValue),
    /// Behind it.
    Raw(&'a [u8]),
}

/// An output of the answer: its place in the signature, and whether it is
/// binary.
pub(super) type Chosen = (usize, bool);

/// What the parameters of a request ask for.
#[derive(Default)]
pub(super) struct Parameters {
    /// The role that the client insists on.
    pub(super) role: Option<Role>,
    /// In microseconds.
    pub(super) timeout: Option<u64>,
    /// Whether outputs are binary unless they say otherwise.
    pub(super) binary_output: bool,
}

impl Parameters {
    /// Reads those that mean something here. `priority` is taken and means
    /// nothing; a sequence would be answered wrongly, so it is refused.
    pub(super) fn read(object: Option<&Object<'_>>) -> Result<Self> {
        let mut read = Self::default();
        for (key, value) in object.into_iter().flat_map(Object::iter) {
            match (key, value.get()) {
                (_, "null") => {}
                ("role", text) => read.role = Some(call::role(text.trim_matches('"'))?),
                ("timeout", _) => read.timeout = Some(whole(key, value)?),
                ("binary_data_output", _) => read.binary_output = boolean(key, value)?,
                ("sequence_id", "0" | "\"\"") => {}
                ("sequence_start" | "sequence_end", "false") => {}
                ("sequence_id" | "sequence_start" | "sequence_end", _) => {
                    return Err(unsupported(key));
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

fn unsupported(parameter: &str) -> Error {
    let message = format!("parameter {parameter:?}: this extension is not implemented here");
    Error::new(ErrorCode::Unsupported, message)
}

fn boolean(key: &str, value: &RawValue) -> Result<bool> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::invalid(format!("parameter {key:?}: expected true or false"))),
    }
}

fn whole(key: &str, value: &RawValue) -> Result<u64> {
    value.get().parse().map_err(|_| {
        let got = short(value.get());
        Error::invalid(format!("parameter {key:?}: expected a whole number from 0, got {got}"))
    })
}

impl<'a> InputTensor<'a> {
    /// The length that `binary_data_size` gives.
    fn binary_size(&self) -> Result<Option<usize>> {
        let Some(parameters) = &self.parameters else { return Ok(None) };
        if parameters.get("shared_memory_region").is_some() {
            return Err(unsupported("shared_memory_region"));
        }
        let Some(value) = parameters.get("binary_data_size") else { return Ok(None) };
        let size = whole("binary_data_size", value).map_err(|error| self.wrong(error.message()))?;
        Ok(Some(usize::try_from(size).unwrap_or(usize::MAX)))
    }

    /// Where its elements are; takes its share from the front of `tail`.
    pub(super) fn payload(&self, tail: &mut Option<&'a [u8]>) -> Result<Payload<'a>> {
        match (self.data, self.binary_size()?) {
            (Some(data), None) => Ok(Payload::Json(data)),
            (None, Some(size)) => {
                let bytes = tail.ok_or_else(|| {
                    self.wrong(
                        "\"binary_data_size\" needs the header Inference-Header-Content-Length",
                    )
                })?;
                let (own, rest) = bytes.split_at_checked(size).ok_or_else(|| {
                    self.wrong(&format!(
                        "\"binary_data_size\" is {size}, only {} bytes are left behind the JSON",
                        bytes.len()
                    ))
                })?;
                *tail = Some(rest);
                Ok(Payload::Raw(own))
            }
            (Some(_), Some(_)) => {
                Err(self.wrong("both \"data\" and \"binary_data_size\"; send one of them"))
            }
            (None, None) => Err(self.wrong("\"data\" or \"binary_data_size\" is missing")),
        }
    }

    /// The elements and their shape.
    pub(super) fn decode(
        &self,
        body: &str,
        payload: Payload<'_>,
        spec: &TensorSpec,
    ) -> Result<(Vec<usize>, Data)> {
        let datatype: Datatype =
            short(&self.datatype).parse().map_err(|error: Error| self.wrong(error.message()))?;
        if datatype != spec.datatype {
            let expected = spec.datatype;
            return Err(self.wrong(&format!("expected datatype {expected}, got {datatype}")));
        }
        self.check_rank(spec)?;
        let shape = self.sizes()?;
        let count = element_count(&shape)
            .ok_or_else(|| self.wrong(&format!("shape {:?} is too large", self.shape)))?;
        let data = match payload {
            Payload::Raw(bytes) => binary::decode(&self.name, datatype, &shape, bytes)?,
            Payload::Json(_) if datatype == Datatype::Fp16 => {
                return Err(self.wrong("FP16 has no JSON form in this protocol; send it as binary"));
            }
            Payload::Json(raw) => self.elements(body, raw, datatype, &shape)?,
        };
        if data.len() == count {
            return Ok((shape, data));
        }
        let got = data.len();
        Err(self.wrong(&format!("shape {shape:?} means {count} elements, got {got}")))
    }

    /// The model says how many dimensions there are, not the client: nested
    /// elements are read by as many nested calls.
    fn check_rank(&self, spec: &TensorSpec) -> Result<()> {
        if self.shape.len() == spec.shape.len() {
            return Ok(());
        }
        let shown = &self.shape[..self.shape.len().min(SIZES_SHOWN_MAX)];
        let more = match self.shape.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(self.wrong(&format!("expected shape {:?}, got {shown:?}{more}", spec.wire_shape())))
    }

    /// Flat elements, or nested as the shape says.
    fn elements(
        &self,
        body: &str,
        raw: &RawValue,
        datatype: Datatype,
        shape: &[usize],
    ) -> Result<Data> {
        let mut tokens = Tokens::new(body, raw);
        let mut data = Data::with_capacity(datatype, tokens.room());
        let mut ahead = tokens.clone();
        ahead.next();
        let mut sizes = if ahead.next() == Token::ArrayOpen {
            shape.iter().map(|size| Size::Fixed(*size)).collect()
        } else {
            vec![Size::Open]
        };
        fill(&mut tokens, &mut data, &mut sizes)
            .map_err(|found| fault(body, &self.name, &self.shape, &found))?;
        Ok(data)
    }

    fn sizes(&self) -> Result<Vec<usize>> {
        let size = |size: &i64| usize::try_from(*size).ok().filter(|size| *size > 0);
        self.shape
            .iter()
            .map(size)
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong(&format!("shape {:?}: expected sizes from 1", self.shape)))
    }

    fn wrong(&self, why: &str) -> Error {
        Error::invalid(format!("input {:?}: {why}", short(&self.name)))
    }
}

/// Finds the outputs that a request wants; all of them if it names none.
pub(super) fn choose(
    specs: &[TensorSpec],
    wanted: Option<&[WantedOutput<'_>]>,
    binary: bool,
) -> Result<Vec<Chosen>> {
    let wanted = wanted.unwrap_or_default();
    if wanted.is_empty() {
        return Ok((0..specs.len()).map(|i| (i, binary)).collect());
    }
    let mut chosen: Vec<Chosen> = Vec::with_capacity(specs.len());
    for output in wanted {
        let name = short(&output.name);
        let Some(at) = specs.iter().position(|spec| spec.name == output.name) else {
            let known = names(specs);
            return Err(Error::invalid(format!(
                "output {name:?} is unknown; this model gives {known}"
            )));
        };
        if chosen.iter().any(|(i, _)| *i == at) {
            return Err(Error::invalid(format!("output {name:?} is asked for twice")));
        }
        chosen.push((at, wants_binary(output, binary)?));
    }
    Ok(chosen)
}

fn wants_binary(output: &WantedOutput<'_>, default: bool) -> Result<bool> {
    let Some(parameters) = &output.parameters else { return Ok(default) };
    for key in ["classification", "shared_memory_region"] {
        if parameters.get(key).is_some_and(|value| value.get() != "0") {
            return Err(unsupported(key));
        }
    }
    parameters.get("binary_data").map_or(Ok(default), |value| boolean("binary_data", value))
}

/// Bytes of an answer around its numbers, about.
const FRAME_BYTES: usize = 384;
/// Bytes of a number, about.
const NUMBER_BYTES: usize = 13;

/// Writes an answer: the JSON, and the raw tensors that follow it.
pub(super) fn answer(
    answered: &Answered<'_>,
    id: Option<&str>,
    chosen: &[Chosen],
    settings: &ModelSettings,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let in_json = chosen.iter().filter(|(_, binary)| !binary);
    let elements: usize = in_json.map(|(i, _)| answered.outputs[*i].data().len()).sum();
    let room = FRAME_BYTES + elements * NUMBER_BYTES;
    let mut writer = Writer::new(room, settings.nonfinite_as_null);
    head(&mut writer, answered, id);
    let mut tail = Vec::new();
    for (n, (i, binary)) in chosen.iter().enumerate() {
        writer.raw(if n == 0 { "" } else { "," });
        output(&mut writer, &mut tail, answered, *i, *binary)?;
    }
    writer.raw("]}");
    if writer.met_nonfinite {
        answered.assignment.arm().stats.nonfinite();
    }
    Ok((writer.out, tail))
}

fn head(writer: &mut Writer, answered: &Answered<'_>, id: Option<&str>) {
    let version = answered.assignment.version();
    writer.raw("{\"model_name\":");
    writer.string(version.model().as_str());
    writer.raw(",\"model_version\":\"");
    writer.number(version.id().get());
    writer.raw("\"");
    if let Some(id) = id {
        writer.raw(",\"id\":");
        writer.string(id);
    }
    writer.raw(",\"parameters\":{\"prediction_id\":");
    writer.string(answered.prediction_id);
    writer.raw(",\"role\":");
    writer.string(answered.assignment.role());
    writer.raw("},\"outputs\":[");
}

fn output(
    writer: &mut Writer,
    tail: &mut Vec<u8>,
    answered: &Answered<'_>,
    i: usize,
    binary: bool,
) -> Result<()> {
    let tensor = &answered.outputs[i];
    writer.raw("{\"name\":");
    writer.string(tensor.name());
    writer.raw(",\"datatype\":");
    writer.string(tensor.datatype().as_str());
    writer.raw(",\"shape\":[");
    for (n, size) in tensor.shape().iter().enumerate() {
        writer.raw(if n == 0 { "" } else { "," });
        writer.number(u64::try_from(*size).unwrap_or(u64::MAX));
    }
    writer.raw("],");
    if binary {
        let size = binary::encode(tensor.data(), tail);
        writer.raw("\"parameters\":{\"binary_data_size\":");
        writer.number(u64::try_from(size).unwrap_or(u64::MAX));
        writer.raw("}}");
        return Ok(());
    }
    writer.raw("\"data\":");
    if let Err(why) = writer.nested(tensor.data(), 0, &[tensor.data().len()], &Keys::default()) {
        if writer.met_nonfinite {
            answered.assignment.arm().stats.nonfinite();
        }
        return Err(unwritable(tensor.name(), &why));
    }
    writer.raw("}");
    Ok(())
}
