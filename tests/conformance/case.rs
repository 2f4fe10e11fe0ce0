//! Cases on disk: finding them, and reading their tensors.

use std::path::{Path, PathBuf};

use foreshadow::types::{Data, Tensor};
use half::f16;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorProto};

/// Instead of a model: why there is none.
pub(crate) const NOT_MADE: &str = "not_made.txt";

/// The names (paths below `root`) of the cases whose name contains `part`, sorted.
pub(crate) fn find(root: &Path, part: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.join("model.onnx").is_file() || folder.join(NOT_MADE).is_file() {
            let name = folder.strip_prefix(root).unwrap_or(&folder).display().to_string();
            if name.contains(part) {
                found.push(name);
            }
            continue;
        }
        folders.extend(entries(&folder)?.into_iter().filter(|path| path.is_dir()));
    }
    found.sort();
    if found.is_empty() { Err(format!("{}: no cases", root.display())) } else { Ok(found) }
}

/// The different operators of a case's graph; none if it cannot be read.
pub(crate) fn operators(case: &Path) -> Vec<String> {
    let bytes = std::fs::read(case.join("model.onnx")).unwrap_or_default();
    let graph = ModelProto::decode(&*bytes).unwrap_or_default().graph.unwrap_or_default();
    let mut names = graph.node.into_iter().map(|node| node.op_type).collect::<Vec<_>>();
    names.sort();
    names.dedup();
    names
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// The folders of a case's data sets, in order.
pub(crate) fn data_sets(case: &Path) -> Result<Vec<PathBuf>, String> {
    let mut sets = entries(case)?;
    sets.retain(|path| path.is_dir());
    sets.sort();
    if sets.is_empty() { Err(format!("{}: no data sets", case.display())) } else { Ok(sets) }
}

/// The set's name in messages: `set 0`.
pub(crate) fn set_name(set: &Path) -> String {
    let name = set.file_name().unwrap_or_default().to_string_lossy();
    format!("set {}", name.rsplit('_').next().unwrap_or_default())
}

/// The tensors `<side>_0.pb`, `<side>_1.pb`, … of a data set, named by `names`.
pub(crate) fn tensors(set: &Path, side: &str, names: &[String]) -> Result<Vec<Tensor>, String> {
    let read = |(i, name): (usize, &String)| {
        let path = set.join(format!("{side}_{i}.pb"));
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let proto = TensorProto::decode(&*bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        tensor(name, &proto).map_err(|e| format!("{}: {e}", path.display()))
    };
    names.iter().enumerate().map(read).collect()
}

fn tensor(name: &str, proto: &TensorProto) -> Result<Tensor, String> {
    let shape = proto.dims.iter().map(|&dim| usize::try_from(dim));
    let shape = shape.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Tensor::new(name, shape, data(proto)?).map_err(|error| error.message().to_owned())
}

/// The elements, from the raw bytes or else from the field for their type.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ONNX's storage")]
fn data(proto: &TensorProto) -> Result<Data, String> {
    macro_rules! numbers {
        ($variant:ident, $type:ty, $field:ident, $convert:expr) => {
            Data::$variant(if proto.raw_data.is_empty() {
                proto.$field.iter().map($convert).collect()
            } else {
                let chunks = proto.raw_data.as_chunks::<{ size_of::<$type>() }>().0;
                chunks.iter().map(|bytes| <$type>::from_le_bytes(*bytes)).collect()
            })
        };
    }
    let datatype = DataType::try_from(proto.data_type).map_err(|error| error.to_string())?;
    Ok(match datatype {
        DataType::Bool if proto.raw_data.is_empty() => {
            Data::Bool(proto.int32_data.iter().map(|&n| n != 0).collect())
        }
        DataType::Bool => Data::Bool(proto.raw_data.iter().map(|&n| n != 0).collect()),
        DataType::Uint8 => numbers!(Uint8, u8, int32_data, |&n| n as u8),
        DataType::Uint16 => numbers!(Uint16, u16, int32_data, |&n| n as u16),
        DataType::Uint32 => numbers!(Uint32, u32, uint64_data, |&n| n as u32),
        DataType::Uint64 => numbers!(Uint64, u64, uint64_data, |&n| n),
        DataType::Int8 => numbers!(Int8, i8, int32_data, |&n| n as i8),
        DataType::Int16 => numbers!(Int16, i16, int32_data, |&n| n as i16),
        DataType::Int32 => numbers!(Int32, i32, int32_data, |&n| n),
        DataType::Int64 => numbers!(Int64, i64, int64_data, |&n| n),
        DataType::Float16 => numbers!(Fp16, f16, int32_data, |&n| f16::from_bits(n as u16)),
        DataType::Float => numbers!(Fp32, f32, float_data, |&n| n),
        DataType::Double => numbers!(Fp64, f64, double_data, |&n| n),
        DataType::String => Data::Bytes(proto.string_data.clone()),
        other => return Err(format!("the element type {} is not read here", other.as_str_name())),
    })
}
