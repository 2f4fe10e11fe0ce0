//! Which files an ONNX file needs beside itself, found without decoding it.
//!
//! Control asks this before any child process has tried the file, so a hostile
//! one must cost neither memory nor stack: the file is read as a stream,
//! weights are skipped, and what is kept is bounded. An engine that has
//! decoded the file looks at the same tensors again ([`super::external`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use super::external::{Range, check_location};
use crate::engine::{EngineError, EngineErrorKind};

/// Files that one model may name.
const FILES_MAX: usize = 1024;
/// Bytes of a location, or of any other entry about external data.
const TEXT_BYTES_MAX: u64 = 4096;
/// Messages within messages; protobuf's own limit.
const DEPTH_MAX: usize = 100;

/// A file that belongs to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// Its path below the model's folder.
    pub location: String,
    /// How long it must be at least, in bytes.
    pub bytes_min: u64,
}

/// The files that `artifact` keeps tensors in, each once, by location. What is
/// no ONNX file names none: the engine will say what is wrong with it.
///
/// # Errors
/// The file cannot be read, or it names a file outside its folder.
pub fn external_files(artifact: &Path) -> Result<Vec<ExternalFile>, EngineError> {
    let unreadable = |error: io::Error| {
        EngineError::new(EngineErrorKind::Internal, format!("{}: {error}", artifact.display()))
    };
    let file = File::open(artifact).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut scan = Scan { source: BufReader::new(file), at: 0, found: BTreeMap::new() };
    match scan.message(Kind::Model, size, 0) {
        Ok(()) => {}
        Err(Stop::Malformed) => return Ok(Vec::new()),
        Err(Stop::Refused(why)) => return Err(EngineError::new(EngineErrorKind::Unsupported, why)),
        Err(Stop::Io(error)) => return Err(unreadable(error)),
    }
    let file = |(location, bytes_min)| ExternalFile { location, bytes_min };
    Ok(scan.found.into_iter().map(file).collect())
}

/// Why a scan ends early.
enum Stop {
    /// This is no protobuf.
    Malformed,
    Refused(String),
    Io(io::Error),
}

/// The messages that tensors can lie in.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Kind {
    /// What a field of this message holds, if tensors can lie in there.
    /// Numbers are those of onnx.proto.
    fn inner(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => {
                Some(Self::Graph)
            }
            (Self::Model, 20) => Some(Self::Training),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => {
                Some(Self::Tensor)
            }
            _ => None,
        }
    }
}

/// A field's value, as far as protobuf tells it without a schema.
enum Value {
    Number(u64),
    /// A message, a text or an array, up to this position.
    Until(u64),
    /// Read over already.
    Skipped,
}

struct Scan {
    source: BufReader<File>,
    at: u64,
    found: BTreeMap<String, u64>,
}

impl Scan {
    /// Reads a message that ends at `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Malformed);
        }
        if let Kind::Tensor = kind {
            return self.tensor(end);
        }
        while self.at < end {
            let (field, value) = self.field(end)?;
            if let Value::Until(inner_end) = value {
                match kind.inner(field) {
                    Some(inner) => self.message(inner, inner_end, depth + 1)?,
                    None => self.skip_to(inner_end)?,
                }
            }
        }
        Ok(())
    }

    fn tensor(&mut self, end: u64) -> Result<(), Stop> {
        let (mut range, mut external) = (Range::default(), false);
        let mut wrong = None;
        while self.at < end {
            match self.field(end)? {
                (14, Value::Number(place)) => external = place == 1,
                (13, Value::Until(inner)) => {
                    let (key, value) = self.entry(inner)?;
                    wrong = wrong.or(range.set(&key, &value).err());
                }
                (_, Value::Until(inner)) => self.skip_to(inner)?,
                (_, Value::Number(_) | Value::Skipped) => {}
            }
        }
        if !external {
            return Ok(());
        }
        let checked = wrong.map_or_else(|| check_location(&range.location), Err);
        let bytes = checked.and_then(|()| range.end()).map_err(Stop::Refused)?;
        let bytes_min = self.found.entry(range.location).or_default();
        *bytes_min = bytes.max(*bytes_min);
        if self.found.len() > FILES_MAX {
            return Err(Stop::Refused(format!("it keeps tensors in more than {FILES_MAX} files")));
        }
        Ok(())
    }

    /// A key and its value, both texts.
    fn entry(&mut self, end: u64) -> Result<(String, String), Stop> {
        let (mut key, mut text) = (String::new(), String::new());
        while self.at < end {
            match self.field(end)? {
                (1, Value::Until(inner)) => key = self.text(inner)?,
                (2, Value::Until(inner)) => text = self.text(inner)?,
                (_, Value::Until(inner)) => self.skip_to(inner)?,
                (_, Value::Number(_) | Value::Skipped) => {}
            }
        }
        Ok((key, text))
    }

    fn text(&mut self, end: u64) -> Result<String, Stop> {
        let length = end - self.at;
        if length > TEXT_BYTES_MAX {
            let message = format!("an entry about external data has {length} bytes");
            return Err(Stop::Refused(format!("{message}; at most {TEXT_BYTES_MAX} may be")));
        }
        let mut bytes = Vec::new();
        (&mut self.source).take(length).read_to_end(&mut bytes).map_err(Stop::Io)?;
        self.at = end;
        String::from_utf8(bytes).map_err(|_| Stop::Malformed)
    }

    /// The next field of a message that ends at `end`: its number, and its
    /// value or where that ends.
    fn field(&mut self, end: u64) -> Result<(u64, Value), Stop> {
        let tag = self.varint(end)?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint(end)?),
            1 => self.skip(8, end).map(|()| Value::Skipped)?,
            2 => {
                let length = self.varint(end)?;
                let inner = self.at.checked_add(length).filter(|inner| *inner <= end);
                Value::Until(inner.ok_or(Stop::Malformed)?)
            }
            3 => self.skip_group(tag >> 3, end).map(|()| Value::Skipped)?,
            5 => self.skip(4, end).map(|()| Value::Skipped)?,
            _ => return Err(Stop::Malformed),
        };
        Ok((tag >> 3, value))
    }

    /// A group is an old form of a message; ONNX has none, and decoders skip
    /// what they do not know.
    fn skip_group(&mut self, field: u64, end: u64) -> Result<(), Stop> {
        let mut open = vec![field];
        while let Some(innermost) = open.last() {
            let tag = self.varint(end)?;
            match tag & 7 {
                0 => self.varint(end).map(drop)?,
                1 => self.skip(8, end)?,
                2 => {
                    let length = self.varint(end)?;
                    self.skip(length, end)?;
                }
                3 if open.len() < DEPTH_MAX => open.push(tag >> 3),
                4 if tag >> 3 == *innermost => drop(open.pop()),
                5 => self.skip(4, end)?,
                _ => return Err(Stop::Malformed),
            }
        }
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, Stop> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(Stop::Malformed);
            }
            let mut byte = [0];
            self.source.read_exact(&mut byte).map_err(Stop::Io)?;
            self.at += 1;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(Stop::Malformed)
    }

    fn skip(&mut self, bytes: u64, end: u64) -> Result<(), Stop> {
        let to = self.at.checked_add(bytes).filter(|to| *to <= end).ok_or(Stop::Malformed)?;
        self.skip_to(to)
    }

    fn skip_to(&mut self, to: u64) -> Result<(), Stop> {
        let by = i64::try_from(to - self.at).map_err(|_| Stop::Malformed)?;
        self.source.seek_relative(by).map_err(Stop::Io)?;
        self.at = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tract_onnx::pb::{
        AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    };

    use super::*;

    fn scan(bytes: &[u8]) -> Result<Vec<ExternalFile>, EngineError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        external_files(file.path())
    }

    fn tensor(entries: &[(&str, &str)]) -> TensorProto {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.into(),
            value: value.into(),
        };
        TensorProto {
            name: "t".into(),
            data_location: Some(1),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        }
    }

    fn model(tensors: Vec<TensorProto>) -> ModelProto {
        let graph = GraphProto { initializer: tensors, ..GraphProto::default() };
        ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn files_are_found_wherever_tensors_can_lie() {
        let mut proto = model(vec![
            tensor(&[("location", "w.bin"), ("offset", "8"), ("length", "16")]),
            tensor(&[("location", "w.bin"), ("offset", "4"), ("length", "4")]),
            TensorProto { raw_data: vec![0; 100_000], ..TensorProto::default() },
        ]);
        // In a constant, in a graph, in an attribute of a node.
        let constant = AttributeProto {
            t: Some(tensor(&[("location", "sub/c.bin")])),
            ..AttributeProto::default()
        };
        let node = |attribute| NodeProto { attribute: vec![attribute], ..NodeProto::default() };
        let inner = GraphProto { node: vec![node(constant)], ..GraphProto::default() };
        let body = AttributeProto { g: Some(inner), ..AttributeProto::default() };
        proto.graph.as_mut().unwrap().node.push(node(body));
        let found = scan(&proto.encode_to_vec()).unwrap();
        let file =
            |location: &str, bytes_min| ExternalFile { location: location.into(), bytes_min };
        assert_eq!(found, [file("sub/c.bin", 0), file("w.bin", 24)]);
    }

    #[test]
    fn a_location_outside_the_folder_is_refused_with_its_name() {
        for location in ["/etc/passwd", "../w.bin", "a/../../w.bin", "./w.bin/..", "", "a\0b"] {
            let error = scan(&model(vec![tensor(&[("location", location)])]).encode_to_vec());
            let message = error.unwrap_err().message;
            assert!(message.contains(&format!("{location:?}")), "{message}");
        }
        let far = [("location", "w"), ("offset", "18446744073709551615"), ("length", "1")];
        let error = scan(&model(vec![tensor(&far)]).encode_to_vec()).unwrap_err();
        assert!(error.message.contains("beyond any file"), "{error}");
        let words = [("location", "w"), ("offset", "many")];
        let error = scan(&model(vec![tensor(&words)]).encode_to_vec()).unwrap_err();
        assert!(error.message.contains("offset: expected a number"), "{error}");
        // tract takes the first, ONNX Runtime the last.
        for key in ["location", "offset", "length"] {
            let mut entries = vec![("location", "w"), ("offset", "1"), ("length", "1")];
            entries.push((key, "2"));
            let error = scan(&model(vec![tensor(&entries)]).encode_to_vec()).unwrap_err();
            assert!(error.message.contains(&format!("{key} is given twice")), "{error}");
        }
    }

    /// The locations that a decoder sees.
    fn decoded(graph: &GraphProto, into: &mut Vec<String>) {
        let mut tensor = |tensor: &TensorProto| {
            let place = tensor.external_data.iter().rfind(|entry| entry.key == "location");
            if tensor.data_location == Some(1) {
                into.push(place.map(|entry| entry.value.clone()).unwrap_or_default());
            }
        };
        graph.initializer.iter().for_each(&mut tensor);
        let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
        attributes().flat_map(|a| a.t.iter().chain(&a.tensors)).for_each(&mut tensor);
        attributes().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| decoded(g, into));
    }

    #[test]
    fn nothing_that_a_decoder_sees_is_missed() {
        let constant =
            AttributeProto { t: Some(tensor(&[("location", "c")])), ..AttributeProto::default() };
        let mut proto = model(vec![tensor(&[("location", "w"), ("offset", "4")])]);
        let node = NodeProto { attribute: vec![constant], ..NodeProto::default() };
        proto.graph.as_mut().unwrap().node.push(node);
        let whole = proto.encode_to_vec();
        let (mut state, mut compared) = (1_u64, 0);
        let mut random = |below: usize| {
            // An LCG (Knuth, MMIX); its upper bits are good enough for this.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            // A group that nobody knows, in front: 15 { 1: 0 }.
            if random(2) == 0 {
                bytes.splice(..0, [0x7b, 0x08, 0x00, 0x7c]);
            }
            let Ok(proto) = ModelProto::decode(&*bytes) else { continue };
            let mut expected = Vec::new();
            proto.graph.iter().for_each(|graph| decoded(graph, &mut expected));
            let Ok(found) = scan(&bytes) else { continue };
            compared += expected.len();
            for location in expected {
                assert!(found.iter().any(|f| f.location == location), "{location:?} in {bytes:?}");
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn a_tensor_that_is_not_external_names_no_file() {
        let inside = TensorProto { data_location: None, ..tensor(&[("location", "/x")]) };
        assert_eq!(scan(&model(vec![inside]).encode_to_vec()).unwrap(), []);
    }

    #[test]
    fn what_is_no_protobuf_names_no_file() {
        for bytes in [&b"this is no protobuf"[..], b"", b"\x3a\xff\xff\xff\xff\x0f", b"\xff"] {
            assert_eq!(scan(bytes).unwrap(), [], "{bytes:?}");
        }
        let whole = model(vec![tensor(&[("location", "w.bin")])]).encode_to_vec();
        for end in 1..whole.len() {
            drop(scan(&whole[..end]));
        }
    }

    #[test]
    fn names_and_depth_are_bounded() {
        let many = (0..=FILES_MAX).map(|i| tensor(&[("location", &format!("{i}"))])).collect();
        let error = scan(&model(many).encode_to_vec()).unwrap_err();
        assert!(error.message.contains("more than 1024 files"), "{error}");
        let long = "x".repeat(5000);
        let error = scan(&model(vec![tensor(&[("location", &long)])]).encode_to_vec()).unwrap_err();
        assert!(error.message.contains("5000 bytes"), "{error}");
        let mut graph = GraphProto::default();
        for _ in 0..200 {
            let body = AttributeProto { g: Some(graph), ..AttributeProto::default() };
            let node = NodeProto { attribute: vec![body], ..NodeProto::default() };
            graph = GraphProto { node: vec![node], ..GraphProto::default() };
        }
        let deep = ModelProto { graph: Some(graph), ..ModelProto::default() };
        assert_eq!(scan(&deep.encode_to_vec()).unwrap(), []);
    }
}
