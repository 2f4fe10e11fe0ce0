//! The JSON part of an inference request and of its answer.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::protocol::call::Answered;
use crate::protocol::json::{Keys, Malformed, Object, Reader, Size, Token, Writer, fill, unescape};
use crate::protocol::message::{fault, malformed, names, short, unwritable};
use crate::protocol::v2::parameters::{self, OutputParameters};
use crate::protocol::v2::{binary, classification};
use crate::types::{Data, Datatype, Tensor, TensorSpec, element_count};

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

/// An output of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Chosen {
    /// Its place in the signature.
    pub(in crate::protocol) place: usize,
    /// Whether it is binary.
    pub(in crate::protocol) binary: bool,
    /// How many of the largest entries stand in its place; 0 is none.
    pub(in crate::protocol) classes: usize,
}

impl<'a> InputTensor<'a> {
    /// The length that `binary_data_size` gives.
    fn binary_size(&self) -> Result<Option<usize>> {
        parameters::binary_size(parameters::entries(self.parameters.as_ref()))
            .map_err(|error| error.context(format!("input {:?}", short(&self.name))))
    }

    /// Refuses parameters of a wrong kind, and elements in shared memory.
    pub(in crate::protocol) fn check_parameters(&self) -> Result<()> {
        self.binary_size().map(drop)
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

/// Finds the outputs that a request wants; all of them if it names none. `binary`
/// is what they are unless they say otherwise; `None` means that all are, whatever
/// they say.
pub(super) fn choose(
    specs: &[TensorSpec],
    wanted: Option<&[WantedOutput<'_>]>,
    binary: Option<bool>,
) -> Result<Vec<Chosen>> {
    let (wanted, always) = (wanted.unwrap_or_default(), binary.is_none());
    let binary = binary.unwrap_or(true);
    if wanted.is_empty() {
        let all = |(place, spec)| checked(spec, Chosen { place, binary, classes: 0 });
        return specs.iter().enumerate().map(all).collect();
    }
    let mut chosen: Vec<Chosen> = Vec::with_capacity(specs.len());
    for output in wanted {
        let name = short(&output.name);
        let Some(place) = specs.iter().position(|spec| spec.name == output.name) else {
            let known = names(specs);
            return Err(Error::invalid(format!(
                "output {name:?} is unknown; this model gives {known}"
            )));
        };
        if chosen.iter().any(|other| other.place == place) {
            return Err(Error::invalid(format!("output {name:?} is asked for twice")));
        }
        let asked = OutputParameters::read(parameters::entries(output.parameters.as_ref()))
            .map_err(|error| error.context(format!("output {name:?}")))?;
        let binary = always || asked.binary.unwrap_or(binary);
        let classes = asked.classes;
        chosen.push(checked(&specs[place], Chosen { place, binary, classes })?);
    }
    Ok(chosen)
}

/// Refuses what an output cannot be given as, before anything is run for it.
fn checked(spec: &TensorSpec, chosen: Chosen) -> Result<Chosen> {
    if chosen.classes > 0 {
        classification::check(spec)?;
    } else if !chosen.binary && spec.datatype == Datatype::Fp16 {
        return Err(Error::invalid(format!(
            "output {:?}: FP16 has no JSON form in this protocol; ask for it as binary \
             (parameter \"binary_data\", or \"binary_data_output\" of the request)",
            spec.name
        )));
    }
    Ok(chosen)
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
    let in_json = chosen.iter().filter(|chosen| !chosen.binary);
    let elements: usize = in_json.map(|chosen| answered.outputs[chosen.place].data().len()).sum();
    let room = FRAME_BYTES + elements * NUMBER_BYTES;
    let mut writer = Writer::new(room, settings.nonfinite_as_null);
    head(&mut writer, answered, id);
    let mut tail = Vec::new();
    for (n, chosen) in chosen.iter().enumerate() {
        writer.raw(if n == 0 { "" } else { "," });
        output(&mut writer, &mut tail, answered, *chosen)?;
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
    chosen: Chosen,
) -> Result<()> {
    let tensor = &answered.outputs[chosen.place];
    if chosen.classes > 0 {
        let spec = &answered.assignment.version().signature().outputs[chosen.place];
        let classes = classification::classify(spec, tensor, chosen.classes)?;
        return tensor_of(writer, tail, answered, &classes, chosen.binary);
    }
    tensor_of(writer, tail, answered, tensor, chosen.binary)
}

fn tensor_of(
    writer: &mut Writer,
    tail: &mut Vec<u8>,
    answered: &Answered<'_>,
    tensor: &Tensor,
    binary: bool,
) -> Result<()> {
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
