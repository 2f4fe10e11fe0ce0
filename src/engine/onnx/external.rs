//! Tensors whose data lie in another file (`TensorProto.external_data`).
//!
//! Invariants: a location is a plain relative path, so it cannot leave the
//! model's folder; a range lies within its file; what an engine reads later is
//! what was checked here, as the folder holds pinned copies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::engine::{EngineError, EngineErrorKind};

/// Tensors up to this size are read into the graph, where checks and
/// optimisers see them: shapes and other small constants.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Where a tensor's data lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) location: String,
    /// From the file's beginning, for `None`.
    pub(super) offset: Option<u64>,
    /// To the end of the file, for `None`.
    pub(super) length: Option<u64>,
}

impl Range {
    /// Takes one of the tensor's `external_data` entries. Each may come once:
    /// of two, one engine takes the first and another the last.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let twice = match key {
            "location" => !self.location.is_empty(),
            "offset" => self.offset.is_some(),
            "length" => self.length.is_some(),
            _ => false,
        };
        if twice {
            return Err(format!("external data: {key} is given twice"));
        }
        let number = || {
            let expected = |_| format!("{key}: expected a number of bytes, got {value:?}");
            value.parse::<u64>().map_err(expected)
        };
        match key {
            "location" => value.clone_into(&mut self.location),
            "offset" => self.offset = Some(number()?),
            "length" => self.length = Some(number()?),
            // The checksum is a SHA-1; every file is pinned by its SHA-256.
            _ => {}
        }
        Ok(())
    }

    /// Where it ends; the file must be at least as long.
    pub(super) fn end(&self) -> Result<u64, String> {
        let (start, length) = (self.start(), self.length.unwrap_or(0));
        start
            .checked_add(length)
            .ok_or_else(|| format!("offset {start} and length {length} are beyond any file"))
    }

    fn start(&self) -> u64 {
        self.offset.unwrap_or(0)
    }

    fn of(tensor: &TensorProto) -> Result<Self, String> {
        let mut range = Self::default();
        for entry in &tensor.external_data {
            range.set(&entry.key, &entry.value)?;
        }
        check_location(&range.location)?;
        range.end().map(|_| range)
    }
}

/// Refuses a location that is not a plain path inside the model's folder.
pub(super) fn check_location(location: &str) -> Result<(), String> {
    // One way to write each path: two names of one file would be two files.
    let plain = location.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if location.contains(char::is_control) || !plain {
        return Err(format!(
            "external data at {location:?}: expected a path inside the version's folder, without \
             \"..\", \".\" or empty parts"
        ));
    }
    Ok(())
}

/// Whether the tensor's data lie elsewhere.
pub(in crate::engine) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Checks every external tensor against the files in `folder`, and reads the
/// small ones into the graph. Without a folder no tensor may be external.
pub(in crate::engine) fn resolve(
    proto: &mut ModelProto,
    folder: Option<&Path>,
) -> Result<(), EngineError> {
    let mut resolver = Resolver { folder };
    for function in &mut proto.functions {
        function.node.iter_mut().try_for_each(|node| resolver.node(node))?;
    }
    proto.graph.iter_mut().try_for_each(|graph| resolver.graph(graph))
}

struct Resolver<'a> {
    folder: Option<&'a Path>,
}

impl Resolver<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), EngineError> {
        graph.initializer.iter_mut().try_for_each(|tensor| self.tensor(tensor))?;
        for sparse in &mut graph.sparse_initializer {
            sparse.values.iter_mut().try_for_each(|tensor| self.tensor(tensor))?;
            sparse.indices.iter_mut().try_for_each(|tensor| self.tensor(tensor))?;
        }
        graph.node.iter_mut().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &mut NodeProto) -> Result<(), EngineError> {
        node.attribute.iter_mut().try_for_each(|attribute| self.attribute(attribute))
    }

    fn attribute(&mut self, attribute: &mut AttributeProto) -> Result<(), EngineError> {
        let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
        tensors.into_iter().try_for_each(|tensor| self.tensor(tensor))?;
        let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
        graphs.into_iter().try_for_each(|graph| self.graph(graph))
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<(), EngineError> {
        if !is_external(tensor) {
            return match tensor.external_data.is_empty() {
                true => Ok(()),
                false => Err(broken(tensor, "it names external data and is not external")),
            };
        }
        let range = Range::of(tensor).map_err(|why| broken(tensor, &why))?;
        let inside = !tensor.raw_data.is_empty();
        if inside {
            return Err(broken(tensor, "it has data of its own beside the external ones"));
        }
        let Some(folder) = self.folder else {
            return Err(broken(tensor, "its data lie in another file, and there is no folder"));
        };
        let (file, length) = open(folder, &range).map_err(|why| broken(tensor, &why))?;
        if length <= INLINE_BYTES_MAX {
            let bytes = read(&file, range.start(), length);
            tensor.raw_data = bytes.map_err(|error| {
                broken(tensor, &format!("{:?} cannot be read: {error}", range.location))
            })?;
            tensor.external_data.clear();
            tensor.data_location = None;
        } else if range.length.is_none() {
            // What was checked, in so many words.
            let entry = tract_onnx::pb::StringStringEntryProto {
                key: "length".into(),
                value: length.to_string(),
            };
            tensor.external_data.push(entry);
        }
        Ok(())
    }
}

/// The length of an external tensor's data, once it has been resolved.
pub(in crate::engine) fn byte_len(tensor: &TensorProto) -> Option<u64> {
    Range::of(tensor).ok()?.length
}

/// The file, and how many of its bytes are the tensor's.
fn open(folder: &Path, range: &Range) -> Result<(File, u64), String> {
    let location = &range.location;
    let path = folder.join(location);
    let linked = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if linked {
        return Err(format!("{location:?} is a link; expected a file"));
    }
    let file = File::open(&path).map_err(|error| format!("{location:?}: {error}"))?;
    let size = file.metadata().map_err(|error| format!("{location:?}: {error}"))?.len();
    let end = range.end()?.max(range.start());
    if end > size {
        return Err(format!(
            "{location:?} has {size} bytes; expected at least {end} (offset {}, length {})",
            range.start(),
            range.length.map_or_else(|| "to the end".to_owned(), |length| length.to_string())
        ));
    }
    Ok((file, range.length.unwrap_or(size - range.start())))
}

fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn broken(tensor: &TensorProto, why: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Unsupported, format!("tensor {:?}: {why}", tensor.name))
}
