//! The shapes of outputs for which the file declares none.
//!
//! The library infers few of them (none behind an `ai.onnx.ml` operator), so
//! zeros are run at two sizes: what differs, varies.

use super::session::Graph;
use crate::types::{Data, Dim, Signature, Tensor, TensorSpec, element_count};

/// The sizes that varying dimensions are given.
const SIZES: [usize; 2] = [1, 3];
/// The largest input to try with, in elements.
const ELEMENTS_MAX: usize = 1 << 24;

/// Completes them. A graph that takes no zeros keeps its empty shapes.
pub(super) fn complete(signature: &mut Signature, graph: &Graph) {
    if signature.outputs.iter().all(|output| !output.shape.is_empty()) {
        return;
    }
    let run = |size| graph.run(signature, &zeros(signature, size)?).ok();
    let [Some(small), Some(large)] = SIZES.map(run) else { return };
    let batch = signature.inputs.first().and_then(|input| input.shape.first()).cloned();
    let shapes: Vec<_> = small.iter().zip(&large).map(|pair| shape(pair, batch.as_ref())).collect();
    for (output, shape) in signature.outputs.iter_mut().zip(shapes) {
        if output.shape.is_empty() {
            output.shape = shape;
        }
    }
}

fn shape((small, large): (&Tensor, &Tensor), batch: Option<&Dim>) -> Vec<Dim> {
    let sizes = small.shape().iter().zip(large.shape());
    let dim = |(axis, (a, b)): (usize, (&usize, &usize))| match batch {
        _ if a == b => Dim::Fixed(*a),
        Some(batch) if axis == 0 && [*a, *b] == SIZES => batch.clone(),
        _ => Dim::Any,
    };
    sizes.enumerate().map(dim).collect()
}

/// Inputs of zeros, with `size` for whatever varies.
fn zeros(signature: &Signature, size: usize) -> Option<Vec<Tensor>> {
    let tensor = |spec: &TensorSpec| {
        let dims = spec.shape.iter().map(|dim| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(_) | Dim::Any => size,
        });
        let shape: Vec<_> = dims.collect();
        let len = element_count(&shape).filter(|len| *len <= ELEMENTS_MAX)?;
        Tensor::new(&spec.name, shape, Data::zeros(spec.datatype, len)).ok()
    };
    signature.inputs.iter().map(tensor).collect()
}
