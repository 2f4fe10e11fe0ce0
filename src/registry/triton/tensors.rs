//! The inputs and outputs that a `config.pbtxt` declares, checked.

use std::collections::HashSet;

use crate::registry::triton::config::Tensor;
use crate::types::{DeclaredTensor, element_count};

/// Checks one side; the error says which tensor and what.
pub(super) fn take(kind: &str, tensors: Vec<Tensor>) -> Result<Vec<DeclaredTensor>, String> {
    let mut taken: Vec<DeclaredTensor> = Vec::with_capacity(tensors.len());
    let mut names = HashSet::new();
    for (i, tensor) in tensors.into_iter().enumerate() {
        if tensor.name.is_empty() {
            return Err(format!("{kind}[{i}]: expected a name"));
        }
        let name = tensor.name.clone();
        let tensor = one(tensor).map_err(|why| format!("{kind} {name:?}: {why}"))?;
        if !names.insert(name.clone()) {
            return Err(format!("{kind} {name:?} is declared twice"));
        }
        taken.push(tensor);
    }
    Ok(taken)
}

fn one(tensor: Tensor) -> Result<DeclaredTensor, String> {
    let datatype = tensor.datatype.ok_or("expected a data_type, such as TYPE_FP32")?;
    if tensor.dims.is_empty() {
        return Err("expected dims, one at least".to_owned());
    }
    let dims: Vec<_> = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    if dims.contains(&Some(0)) {
        return Err(format!("dims: expected numbers from 1, or -1, got {:?}", tensor.dims));
    }
    let reshape = tensor.reshape.map(|shape| reshape(&tensor.dims, &shape)).transpose()?;
    let label_file = tensor.label_filename;
    if let Some(file) = label_file.as_ref().filter(|file| file.contains('/')) {
        return Err(format!(
            "label_filename: expected the name of a file beside config.pbtxt, got {file:?}"
        ));
    }
    let name = tensor.name;
    Ok(DeclaredTensor { name, datatype, dims, reshape, label_file, classes: Vec::new() })
}

/// Another shape of as many elements.
fn reshape(dims: &[i64], shape: &[i64]) -> Result<Vec<usize>, String> {
    let sizes = |dims: &[i64]| -> Option<Vec<usize>> {
        dims.iter().map(|dim| usize::try_from(*dim).ok()).collect()
    };
    let (Some(outer), Some(inner)) = (sizes(dims), sizes(shape)) else {
        return Err("reshape: dimensions that may vary are not reshaped here".to_owned());
    };
    let (outer_count, inner_count) = (element_count(&outer), element_count(&inner));
    if outer_count.is_none() || outer_count != inner_count {
        return Err(format!("reshape: {shape:?} has not as many elements as dims, {dims:?}"));
    }
    Ok(inner)
}
