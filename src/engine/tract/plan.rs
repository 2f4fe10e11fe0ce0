//! Plans: optimised graphs, ready to run.
//!
//! One plan with a symbolic dimension serves every batch size, where tract can
//! make one; otherwise there is one plan per shape of the inputs, made when
//! that shape first comes, and kept in a small cache.
//!
//! tract takes two symbols (or a symbol and a size) that meet in one axis for
//! equal, and does not check it when it runs: a product would then read beyond
//! its operand. So a symbolic plan is used only with a single symbol, whose
//! value is checked on all inputs, and only if the graph also fits together
//! with plain numbers in the symbol's place.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::multithread::Executor;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::runtime::RunOptions;
use tract_onnx::tract_hir::internal::*;

use super::check::DECLARED_BYTES_MAX;
use super::convert;
use super::guard::guarded;
use super::load::unsupported;
use super::session::run_once;
use crate::engine::{EngineError, EngineErrorKind};
use crate::types::{Data, Dim, Signature, Tensor as Sent};

/// An optimised graph.
pub(super) type Plan = Arc<TypedSimplePlan>;

/// Shapes that have plans at a time, where each shape needs one.
pub(super) const SHAPES_MAX: usize = 32;

/// The shapes of all inputs.
pub(super) type Shapes = Vec<Vec<usize>>;

/// A model's plans.
pub(super) struct Plans {
    kind: Kind,
}

enum Kind {
    /// One for all shapes.
    Symbolic(Plan),
    /// One for each shape, the most recently made last.
    PerShape {
        model: Box<InferenceModel>,
        outputs: Vec<DatumType>,
        made: Mutex<Vec<(Shapes, Plan)>>,
    },
}

impl Plans {
    /// Makes the plan, or proves that plans per shape work. Completes the
    /// shapes of outputs for which the file declares none.
    pub(super) fn build(
        model: InferenceModel,
        signature: &mut Signature,
    ) -> Result<Self, EngineError> {
        let datatypes = signature.outputs.iter().map(|o| convert::datum_type(o.datatype));
        let outputs = datatypes.collect::<Vec<_>>();
        let symbols = count_symbols(signature);
        let undeclared = signature.outputs.iter().filter(|output| output.shape.is_empty());
        let undeclared = undeclared.map(|output| output.name.clone()).collect::<Vec<_>>();
        if symbols <= 1 {
            match optimise(model.clone(), &outputs) {
                Ok(plan) => {
                    complete_shapes(signature, &plan);
                    let plans = Self { kind: Kind::Symbolic(plan) };
                    if symbols == 0 || plans.holds(&model, signature) {
                        return Ok(plans);
                    }
                }
                Err(error) if symbols == 0 => return Err(error),
                Err(error) => tracing::debug!(%error, "no plan for all shapes; one for each"),
            }
        }
        let plans = Self {
            kind: Kind::PerShape { model: Box::new(model), outputs, made: Mutex::default() },
        };
        let plan = plans.first_plan(signature)?;
        complete_shapes(signature, &plan);
        // The plan knows the sizes of its one shape, not those of the others.
        for output in
            signature.outputs.iter_mut().filter(|output| undeclared.contains(&output.name))
        {
            output.shape.fill(Dim::Any);
        }
        Ok(plans)
    }

    /// A plan for some shape, as a proof that there can be plans. A model may
    /// need more than a pixel, so several sizes are tried.
    fn first_plan(&self, signature: &Signature) -> Result<Plan, EngineError> {
        let plan = |size| self.get(&probe_shapes(signature, size));
        plan(1).or_else(|error| [8, 64, 224].into_iter().find_map(|n| plan(n).ok()).ok_or(error))
    }

    /// Whether one plan serves all shapes.
    pub(super) fn is_symbolic(&self) -> bool {
        matches!(self.kind, Kind::Symbolic(_))
    }

    /// The plan for inputs of these shapes. May optimise, and take long.
    pub(super) fn get(&self, shapes: &Shapes) -> Result<Plan, EngineError> {
        let (model, outputs, made) = match &self.kind {
            Kind::Symbolic(plan) => return Ok(plan.clone()),
            Kind::PerShape { model, outputs, made } => (model, outputs, made),
        };
        // The list is whole even after a panic, which leaves at most a gap.
        let lock = || made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = lock().iter().find(|(known, _)| known == shapes) {
            return Ok(plan.clone());
        }
        // Not under the lock: optimising is slow, and doing it twice is harmless.
        let plan = optimise(with_shapes(model, shapes)?, outputs)?;
        let mut made = lock();
        if made.len() >= SHAPES_MAX {
            made.remove(0);
        }
        made.push((shapes.clone(), plan.clone()));
        Ok(plan)
    }

    /// Whether the graph fits together at two batch sizes, and zeros get
    /// through at both.
    fn holds(&self, model: &InferenceModel, signature: &Signature) -> bool {
        let run = |rows| -> Result<(), EngineError> {
            let concrete = with_shapes(model, &probe_shapes(signature, rows))?;
            guarded(EngineErrorKind::Unsupported, "typing the graph", || {
                check_shapes(&concrete.into_typed()?)
            })?;
            match run_once(signature, self, &probe(signature, rows)?) {
                // Zeros may be no valid values: an unknown category, say.
                Err(error) if error.kind == EngineErrorKind::BadValue => Ok(()),
                outcome => outcome.map(drop),
            }
        };
        [1, 3].into_iter().all(|rows| {
            run(rows).inspect_err(|error| tracing::debug!(%error, rows, "probe failed")).is_ok()
        })
    }
}

/// How many different sizes the inputs leave open. Unnamed first dimensions
/// are all the batch, and count once.
fn count_symbols(signature: &Signature) -> usize {
    let mut named = HashSet::new();
    let mut unnamed = 0;
    for spec in &signature.inputs {
        for (axis, dim) in spec.shape.iter().enumerate() {
            match dim {
                Dim::Fixed(_) => {}
                Dim::Symbol(name) => drop(named.insert(&**name)),
                Dim::Any if axis == 0 => drop(named.insert("")),
                Dim::Any => unnamed += 1,
            }
        }
    }
    named.len() + unnamed
}

/// Shapes with every varying dimension set to `rows`.
fn probe_shapes(signature: &Signature, rows: usize) -> Shapes {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(_) | Dim::Any => rows,
    };
    signature.inputs.iter().map(|spec| spec.shape.iter().map(size).collect()).collect()
}

fn probe(signature: &Signature, rows: usize) -> Result<Vec<Sent>, EngineError> {
    let shapes = probe_shapes(signature, rows);
    let zeros = signature.inputs.iter().zip(shapes).map(|(spec, shape)| {
        let len = shape.iter().product();
        Sent::new(spec.name.clone(), shape, Data::zeros(spec.datatype, len))
    });
    zeros.collect::<Result<_, _>>().map_err(|error| unsupported(error.message()))
}

fn with_shapes(model: &InferenceModel, shapes: &Shapes) -> Result<InferenceModel, EngineError> {
    guarded(EngineErrorKind::Internal, "setting the shapes", || {
        let mut model = model.clone();
        for (i, shape) in shapes.iter().enumerate() {
            let fact = model.input_fact(i)?;
            let datatype = fact.datum_type.concretize().context("an input without a datatype")?;
            model.set_input_fact(i, InferenceFact::dt_shape(datatype, shape.as_slice()))?;
        }
        Ok(model)
    })
}

fn optimise(model: InferenceModel, outputs: &[DatumType]) -> Result<Plan, EngineError> {
    guarded(EngineErrorKind::Unsupported, "optimising the graph", || {
        let mut model = model.into_typed()?;
        check_shapes(&model)?;
        fix_outputs(&mut model, outputs)?;
        let model = model.into_optimized()?;
        // Single-threaded in the caller's thread, and without asking tract's
        // global lock which executor to use.
        let options =
            RunOptions { executor: Some(Executor::SingleThread), ..RunOptions::default() };
        TypedSimplePlan::new_with_options(model, &options)
    })
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

/// Takes from tract the shapes of outputs for which the file has none.
fn complete_shapes(signature: &mut Signature, plan: &Plan) {
    let batch = signature.inputs.iter().find_map(|spec| spec.shape.first().cloned());
    for (i, output) in signature.outputs.iter_mut().enumerate() {
        let Ok(fact) = plan.model().output_fact(i) else { continue };
        if !output.shape.is_empty() {
            continue;
        }
        output.shape = fact
            .shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| match (dim.to_usize(), &batch) {
                (Ok(n), _) => Dim::Fixed(n),
                // The first input's first dimension is called dim0.
                (Err(_), Some(symbol)) if axis == 0 && dim.to_string() == "dim0" => symbol.clone(),
                _ => Dim::Any,
            })
            .collect();
    }
}
