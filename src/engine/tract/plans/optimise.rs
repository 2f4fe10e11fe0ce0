//! From tract's parsed graph to one that runs, for given shapes.

use std::collections::HashSet;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::multithread::Executor;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::runtime::RunOptions;
use tract_onnx::tract_hir::internal::*;

use super::dims::Size;
use super::runnable::Runnable;
use crate::engine::tract::check::DECLARED_BYTES_MAX;
use crate::engine::tract::guard::guarded;
use crate::engine::tract::recurrence::forget_between_runs;
use crate::engine::{EngineError, EngineErrorKind};

/// What a node of a plan takes beside its constants: its facts and its
/// operator, roughly.
const NODE_BYTES: usize = 4096;

/// A file as tract parsed it, and what its outputs must be.
pub(super) struct Source {
    pub(super) model: InferenceModel,
    pub(super) outputs: Vec<DatumType>,
}

impl Source {
    /// The graph for inputs of these shapes.
    fn with_shapes(&self, shapes: &[Vec<Size>]) -> Result<InferenceModel, EngineError> {
        guarded(EngineErrorKind::Internal, "setting the shapes", || {
            let mut model = self.model.clone();
            for (i, shape) in shapes.iter().enumerate() {
                let fact = model.input_fact(i)?;
                let datatype =
                    fact.datum_type.concretize().context("an input without a datatype")?;
                let dim = |size: &Size| match size {
                    Size::Is(n) => n.to_dim(),
                    Size::Open(number) => model.symbols.sym(&dim_name(*number)).to_dim(),
                };
                let dims = shape.iter().map(dim).collect::<TVec<TDim>>();
                model.set_input_fact(i, InferenceFact::dt_shape(datatype, dims))?;
            }
            Ok(model)
        })
    }

    /// Whether the graph fits together at these sizes.
    pub(super) fn fits(&self, shapes: &[Vec<Size>]) -> Result<(), EngineError> {
        let concrete = self.with_shapes(shapes)?;
        guarded(EngineErrorKind::Unsupported, "typing the graph", || {
            check_shapes(&concrete.into_typed()?)
        })
    }

    /// Optimises it for inputs of these shapes.
    pub(super) fn optimise(&self, shapes: &[Vec<Size>]) -> Result<Runnable, EngineError> {
        let model = self.with_shapes(shapes)?;
        guarded(EngineErrorKind::Unsupported, "optimising the graph", || {
            let mut model = model.into_typed()?;
            forget_between_runs(&mut model);
            check_shapes(&model)?;
            fix_outputs(&mut model, &self.outputs)?;
            let (before, held) = (constants(&model), constant_bytes(&model));
            let model = model.into_optimized()?;
            let shared = model_constants(&model).filter(|c| before.contains(&Arc::as_ptr(c)));
            let shared = shared.map(|c| bytes_of(c)).sum::<usize>();
            let bytes = held.saturating_sub(shared) + model.nodes().len() * NODE_BYTES;
            // Single-threaded in the caller's thread, and without asking tract's
            // global lock which executor to use.
            let options =
                RunOptions { executor: Some(Executor::SingleThread), ..RunOptions::default() };
            let plan = TypedSimplePlan::new_with_options(model, &options)?;
            Ok(Runnable::new(plan, bytes))
        })
    }
}

/// What an open dimension is called.
pub(super) fn dim_name(number: usize) -> String {
    format!("dim{number}")
}

fn model_constants(model: &TypedModel) -> impl Iterator<Item = &Arc<Tensor>> {
    model.nodes().iter().filter_map(|node| node.op_as::<Const>()).map(Const::val)
}

fn constants(model: &TypedModel) -> HashSet<*const Tensor> {
    model_constants(model).map(Arc::as_ptr).collect()
}

fn constant_bytes(model: &TypedModel) -> usize {
    model_constants(model).map(|constant| bytes_of(constant)).sum()
}

fn bytes_of(constant: &Tensor) -> usize {
    constant.len() * constant.datum_type().size_of()
}

/// Refuses shapes that cannot be: sizes that do not fit together stay behind
/// as expressions without a symbol. Refuses sizes that could not be meant.
fn check_shapes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes().iter().filter(|node| !node.op_is::<Const>()) {
        for output in &node.outputs {
            for dim in output.fact.shape.iter() {
                let fits = dim.to_i64().map_or_else(|_| !dim.symbols().is_empty(), |n| n >= 0);
                ensure!(fits, "the shapes at node {:?} do not fit together: {dim}", node.name);
            }
            let Some(shape) = output.fact.shape.as_concrete() else { continue };
            let size = output.fact.datum_type.size_of();
            let bytes = shape.iter().try_fold(size, |bytes, &dim| bytes.checked_mul(dim));
            ensure!(
                bytes.is_some_and(|bytes| bytes <= DECLARED_BYTES_MAX),
                "node {:?} makes a tensor of shape {shape:?}, more than {DECLARED_BYTES_MAX} bytes",
                node.name
            );
        }
    }
    Ok(())
}

/// Gives every output its declared datatype. tract computes shapes in a type
/// of its own and some indices in 32 bits; anything else that differs is a
/// broken file.
fn fix_outputs(model: &mut TypedModel, declared: &[DatumType]) -> TractResult<()> {
    let mut outlets = model.output_outlets()?.to_vec();
    ensure!(outlets.len() == declared.len(), "tract lost an output");
    for (i, (outlet, &declared)) in outlets.iter_mut().zip(declared).enumerate() {
        let found = model.outlet_fact(*outlet)?.datum_type;
        if found == declared {
            continue;
        }
        let index = matches!(found, DatumType::TDim | DatumType::I32 | DatumType::I64);
        ensure!(
            index && declared == DatumType::I64,
            "output {i} is declared as {declared:?}, and the graph computes {found:?}"
        );
        *outlet = model.wire_node(format!("output{i}#cast"), cast(declared), &[*outlet])?[0];
    }
    model.select_output_outlets(&outlets)
}
