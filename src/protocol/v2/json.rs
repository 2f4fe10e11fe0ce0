//! The JSON part of an inference request and of its answer.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::{self, Answered};
use crate::protocol::json::{Keys, Malformed, Object, Reader, Size, Token, Writer, fill, unescape};
use crate::protocol::message::{fault, malformed, names, short, unwritable};
use crate::protocol::v2::binary;
use crate::types::{Data, Datatype, Role, TensorSpec, element_count};

/// An inference request.
#[derive(Debug, PartialEq, Deserialize)]
pub(in crate::protocol) struct InferRequest<'a> {
    /// Sent back as it came.
    #[serde(borrow, default)]
    pub(in crate::protocol) id: Option<Cow<'a, str>>,
    /// Parameters of the whole request.
    #[serde(borrow, default)]
    pub(in crate::protocol) parameters: Option<Object<'a>>,
    /// The tensors.
    #[serde(borrow)]
    pub(in crate::protocol) inputs: Vec<InputTensor<'a>>,
    /// What is wanted; nothing means everything.
    #[serde(borrow, default)]
    pub(in crate::protocol) outputs: Option<Vec<WantedOutput<'a>>>,
}

/// One tensor of a request.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(in crate::protocol) struct InputTensor<'a> {
    /// The input.
    #[serde(borrow)]
    pub(in crate::protocol) name: Cow<'a, str>,
    /// Sizes, as they came.
    pub(in crate::protocol) shape: Vec<i64>,
    /// The datatype's name.
    #[serde(borrow)]
    pub(in crate::protocol) datatype: Cow<'a, str>,
    /// Parameters of this tensor.
    #[serde(borrow, default)]
    pub(in crate::protocol) parameters: Option<Object<'a>>,
    /// The elements, unless they are binary.
    #[serde(borrow, default, deserialize_with = "text_of_value")]
    pub(in crate::protocol) data: Option<&'a str>,
}

/// An output that a request asks for.
#[derive(Debug, PartialEq, Deserialize)]
pub(in crate::protocol) struct WantedOutput<'a> {
    /// The output.
    #[serde(borrow)]
    pub(in crate::protocol) name: Cow<'a, str>,
    /// Parameters of this output.
    #[serde(borrow, default)]
    pub(in crate::protocol) parameters: Option<Object<'a>>,
}

fn text_of_value<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a str>, D::Error> {
    Ok(Option::<&'a RawValue>::deserialize(deserializer)?.map(RawValue::get))
}

impl<'a> InferRequest<'a> {
    /// Reads the JSON part, but the elements in it: whether it is JSON is known
    /// once these have been read, too. `None` for what is certainly none, and
    /// for what is unusual: serde_json shall read it then.
    pub(super) fn skim(text: &'a str) -> Option<Self> {
        let mut reader = Reader::whole(text);
        let (mut id, mut parameters, mut inputs, mut outputs) = (None, None, None, None);
        entries(&mut reader, |key, reader| match key {
            "id" => once(&mut id, string(reader)?),
            "parameters" => once(&mut parameters, small(reader)?),
            "inputs" => once(&mut inputs, InputTensor::skim_all(reader)?),
            "outputs" => once(&mut outputs, small(reader)?),
            _ => small(reader).map(|IgnoredAny| ()),
        })?;
        reader.end().ok()?;
        Some(Self { id, parameters, inputs: inputs?, outputs })
    }
}

impl<'a> InputTensor<'a> {
    fn skim_all(reader: &mut Reader<'a>) -> Option<Vec<Self>> {
        let mut inputs = Vec::with_capacity(1);
        reader.take(b'[').then_some(())?;
        while reader.element(inputs.is_empty()).ok()? {
            inputs.push(Self::skim(reader)?);
        }
        Some(inputs)
    }

    fn skim(reader: &mut Reader<'a>) -> Option<Self> {
        let (mut name, mut shape, mut datatype) = (None, None, None);
        let (mut parameters, mut data) = (None, None);
        entries(reader, |key, reader| match key {
            "name" => once(&mut name, string(reader)?),
            "shape" => once(&mut shape, whole_numbers(reader)?),
            "datatype" => once(&mut datatype, string(reader)?),
            "parameters" => once(&mut parameters, small(reader)?),
            "data" => {
                let value = reader.skim().ok().filter(|value| *value != "null")?;
                once(&mut data, value)
            }
            _ => small(reader).map(|IgnoredAny| ()),
        })?;
        Some(Self { name: name?, shape: shape?, datatype: datatype?, parameters, data })
    }
}

/// Reads the entries of an object.
fn entries<'a>(
    reader: &mut Reader<'a>,
    mut entry: impl FnMut(&str, &mut Reader<'a>) -> Option<()>,
) -> Option<()> {
    reader.take(b'{').then_some(())?;
    let mut first = true;
    while let Some(key) = reader.key(std::mem::take(&mut first)).ok()? {
        entry(&unescape(key).ok()?, reader)?;
    }
    Some(())
}

/// Keeps a value; `None` if there is one already.
fn once<T>(kept: &mut Option<T>, value: T) -> Option<()> {
    kept.is_none().then(|| *kept = Some(value))
}

fn string<'a>(reader: &mut Reader<'a>) -> Option<Cow<'a, str>> {
    unescape(reader.string().ok()?).ok()
}

fn whole_numbers(reader: &mut Reader<'_>) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(4);
    reader.take(b'[').then_some(())?;
    while reader.element(numbers.is_empty()).ok()? {
        match reader.token() {
            Ok(Token::Word(word)) => numbers.push(word.parse().ok()?),
            _ => return None,
        }
    }
    Some(numbers)
}

/// Reads a value with serde_json, which checks it.
fn small<'a, T: Deserialize<'a>>(reader: &mut Reader<'a>) -> Option<T> {
    serde_json::from_str(reader.skim().ok()?).ok()
}

/// Sizes of a shape that a message repeats.
const SIZES_SHOWN_MAX: usize = 16;

/// Where the elements of an input are.
#[derive(Clone, Copy)]
pub(in crate::protocol) enum Payload<'a> {
    /// In the JSON part.
    Json(&'a str),
    /// Behind it, or beside the other fields of a message.
    Raw(&'a [u8]),
    /// In fields of a message that have a type.
    Typed(&'a dyn Elements),
}

/// Elements in fields of a message that have a type.
pub(in crate::protocol) trait Elements {
    /// All of them as this datatype; the error says what is wrong with them.
    fn read(&self, datatype: Datatype) -> Result<Data, String>;

    /// Element `n` as a routing key: the text of the number, or the string.
    fn nth_key(&self, n: usize) -> Option<Vec<u8>>;
}

/// An output of the answer: its place in the signature, and whether it is
/// binary.
pub(in crate::protocol) type Chosen = (usize, bool);

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
            match (key, value) {
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

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::invalid(format!("parameter {key:?}: expected true or false"))),
    }
}

fn whole(key: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| {
        let got = short(value);
        Error::invalid(format!("parameter {key:?}: expected a whole number from 0, got {got}"))
    })
}

impl<'a> InputTensor<'a> {
    /// The length that `binary_data_size` gives.
    fn binary_size(&self) -> Result<Option<usize>> {
        let Some(parameters) = &self.parameters else { return Ok(None) };
        self.check_memory()?;
        let Some(value) = parameters.get("binary_data_size") else { return Ok(None) };
        let size = whole("binary_data_size", value).map_err(|error| self.wrong(error.message()))?;
        Ok(Some(usize::try_from(size).unwrap_or(usize::MAX)))
    }

    /// Refuses elements in shared memory.
    pub(in crate::protocol) fn check_memory(&self) -> Result<()> {
        let parameters = self.parameters.as_ref();
        match parameters.and_then(|object| object.get("shared_memory_region")) {
            Some(_) => Err(unsupported("shared_memory_region")),
            None => Ok(()),
        }
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
            Payload::Typed(elements) => elements.read(datatype).map_err(|why| self.wrong(&why))?,
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

    /// Flat elements, or nested as the shape says; all of the value is read.
    fn elements(
        &self,
        body: &str,
        value: &str,
        datatype: Datatype,
        shape: &[usize],
    ) -> Result<Data> {
        let mut reader = Reader::new(body, value);
        let room = reader.room(element_count(shape).unwrap_or(0), 1);
        let mut data = Data::with_capacity(datatype, room);
        let mut ahead = reader.clone();
        let nested = ahead.take(b'[') && ahead.take(b'[');
        let mut sizes = if nested {
            shape.iter().map(|size| Size::Fixed(*size)).collect()
        } else {
            vec![Size::Open]
        };
        fill(&mut reader, &mut data, &mut sizes)
            .map_err(|found| fault(body, &self.name, &self.shape, &found))?;
        reader.end().map_err(|Malformed(at)| malformed(body, at))?;
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

    /// The error for this input.
    pub(in crate::protocol) fn wrong(&self, why: &str) -> Error {
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
        if parameters.get(key).is_some_and(|value| value != "0") {
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
) -> Result<(Vec<u8>, Vec<u8>)> {
    let settings = &answered.assignment.plan().settings;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::json::testing::{any_json, damage};

    fn read(text: &str) -> Option<InferRequest<'_>> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn what_is_usual_is_skimmed() {
        for text in [
            r#"{"inputs":[]}"#,
            r#"{"id":"a\n","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#,
            r#"{"parameters":{"timeout":5},"inputs":[{"name":"x","shape":[],"datatype":"BOOL","parameters":{"binary_data_size":1}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}],"more":[{}]}"#,
        ] {
            assert_eq!(InferRequest::skim(text), read(text));
            assert!(read(text).is_some());
        }
    }

    #[test]
    fn what_serde_refuses_or_should_see_is_not_skimmed() {
        for text in [
            "{}",
            "[]",
            r#"{"inputs":[{"name":"x"}]}"#,
            r#"{"inputs":[],"inputs":[]}"#,
            r#"{"id":null,"inputs":[]}"#,
            r#"{"inputs":[],"more":[1,]}"#,
            r#"{"inputs":[],"parameters":{"a":01}}"#,
            r#"{"inputs":[{"name":"x","shape":[1.0],"datatype":"FP32","data":[1]}]}"#,
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":null}]}"#,
        ] {
            assert_eq!(InferRequest::skim(text), None, "{text}");
        }
    }

    proptest! {
        /// What serde reads is skimmed the same way or not at all; what it does
        /// not, only if the elements of an input show it.
        #[test]
        fn a_request_is_skimmed_no_other_way(
            json in any_json(),
            at in any::<usize>(),
            mark in any::<usize>(),
            how in any::<u8>(),
        ) {
            let text = format!(
                r#"{{"id":"1","inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{json}}},
                {{"name":"\u0079","datatype":"INT8","shape":[3],"parameters":{{"a":{json}}}}}],
                "parameters":{{"b":{json}}},"outputs":[{{"name":"z"}}],"other":{json}}}"#
            );
            for text in [damage(&text, at, mark, how), text] {
                match (InferRequest::skim(&text), read(&text)) {
                    (Some(skimmed), Some(read)) => prop_assert_eq!(skimmed, read),
                    (Some(skimmed), None) => {
                        let is_json = |text| serde_json::from_str::<&RawValue>(text).is_ok();
                        let mut data = skimmed.inputs.iter().filter_map(|input| input.data);
                        prop_assert!(!data.all(is_json), "{}", text);
                    }
                    (None, _) => {}
                }
            }
        }
    }
}
