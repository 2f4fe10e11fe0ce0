//! An optimised graph, and how it is run without harm.
//!
//! tract trusts its own facts when it runs: a size that differs from them is
//! read beyond the operand. And what it allocates follows from the sizes of a
//! request, so a graph of a few bytes can ask for any amount of memory. So:
//!
//! - before a run, the sizes that follow from the inputs' are checked;
//! - where the facts rest on more than one open dimension, or on values that
//!   only the run brings (a Range's end), each node is checked before it runs;
//! - the products' scratch space, which tract keeps in the thread that ran
//!   until the session ends *on that thread*, is given back after each run: a
//!   session wanders between threads, and would leave some in each for ever;
//! - a graph with loops gets a new state for each run: tract carries a loop's
//!   last values over to the next one.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::model::TypedSimpleState;
use tract_onnx::tract_core::ops::array::{DynTile, Range};
use tract_onnx::tract_core::ops::matmul::optimized::OptMatMul;
use tract_onnx::tract_core::ops::scan::{OptScan, Scan};
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::*;

use crate::engine::onnx_ml::BadShape;
use crate::engine::tract::check::DECLARED_BYTES_MAX;
use crate::engine::tract::guard::guarded;
use crate::engine::{EngineError, EngineErrorKind};

/// Open dimensions are tried up to this size, in powers of two.
const PROBED_MAX: u32 = 40;

/// A plan of tract's and what must be known to run it.
pub(in crate::engine::tract) struct Runnable {
    plan: Arc<TypedSimplePlan>,
    bytes: usize,
    /// The open dimensions of the inputs: input, axis, symbol.
    open: Vec<(usize, usize, Symbol)>,
    /// Up to this size of all open dimensions, no tensor is too large.
    small: usize,
    /// Each node is checked when it runs.
    checked: bool,
    /// It has loops, whose states outlive a run.
    loops: bool,
    /// A node whose operator keeps scratch space in the thread.
    scratch: Option<usize>,
}

/// What runs it: buffers, reused from run to run.
pub(in crate::engine::tract) struct State(TypedSimpleState);

impl Runnable {
    pub(super) fn new(plan: Arc<TypedSimplePlan>, bytes: usize) -> Self {
        let model = plan.model();
        let open = open_dims(model);
        let mut symbols: Vec<&Symbol> = open.iter().map(|(_, _, symbol)| symbol).collect();
        symbols.dedup();
        let nodes = model.nodes().iter();
        let minted = nodes
            .clone()
            .any(|node| node.op.mints_runtime_symbols() && !node.op_is::<TypedSource>());
        let loops = nodes.clone().any(|node| node.op_is::<Scan>() || node.op_is::<OptScan>());
        let scratch = nodes.clone().find(|node| node.op_is::<OptMatMul>()).map(|node| node.id);
        let checked = minted || symbols.len() > 1;
        let mut runnable = Self { bytes, small: 0, checked, loops, scratch, open, plan };
        runnable.small = runnable.largest_small();
        runnable
    }

    /// Memory that is its own, as far as can be told: constants that it does
    /// not share with the file's graph, and the graph.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it takes inputs of different shapes.
    pub(super) const fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn model(&self) -> &TypedModel {
        self.plan.model()
    }

    fn state(&self) -> Result<State, EngineError> {
        let spawn = || self.plan.spawn().map(State);
        guarded(EngineErrorKind::Internal, "preparing a session", spawn)
    }

    /// Runs it on a state that is left in `kept` for the next run, unless this
    /// one fails.
    pub(in crate::engine::tract) fn run(
        &self,
        kept: &mut Option<State>,
        inputs: TVec<TValue>,
    ) -> Result<TVec<TValue>, EngineError> {
        self.check_sizes(&inputs)?;
        // Taken: a failed run leaves symbols bound, and the next would clash.
        let mut state = match kept.take() {
            Some(state) => state,
            None => self.state()?,
        };
        let mut session = None;
        let run = || {
            state.0.run_plan_with_eval(inputs, |context, op_state, node, inputs| {
                session = Some(context.session);
                if self.checked {
                    self.check_node(context, node, &inputs).map_err(BadShape::of)?;
                }
                tract_core::plan::eval(context, op_state, node, inputs)
            })
        };
        let outputs = guarded(EngineErrorKind::Internal, "running the graph", run);
        if let (Some(node), Some(session)) = (self.scratch, session) {
            self.model().node(node).op.drop_session(session, node);
        }
        if outputs.is_ok() && !self.loops {
            *kept = Some(state);
        }
        outputs
    }

    /// Refuses inputs from whose sizes a tensor follows that is too large.
    fn check_sizes(&self, inputs: &[TValue]) -> Result<(), EngineError> {
        let size = |(input, axis, _): &(usize, usize, Symbol)| inputs[*input].shape()[*axis];
        if self.open.iter().all(|open| size(open) <= self.small) {
            return Ok(());
        }
        let mut values = SymbolValues::default();
        for open in &self.open {
            values.set(&open.2, i64::try_from(size(open)).unwrap_or(i64::MAX));
        }
        match self.too_large(&values) {
            None => Ok(()),
            Some(node) => {
                let shapes: Vec<_> = inputs.iter().map(|input| input.shape()).collect();
                Err(EngineError::new(
                    EngineErrorKind::BadInput,
                    format!(
                        "inputs of shapes {shapes:?} make {} (node {:?}) larger than \
                         {DECLARED_BYTES_MAX} bytes",
                        node.op.name(),
                        node.name
                    ),
                ))
            }
        }
    }

    /// The largest power of two up to which the open dimensions may grow
    /// together without a tensor that is too large. Sizes are sums and
    /// products of the dimensions: between two powers they stay between.
    fn largest_small(&self) -> usize {
        let fits = |power: &u32| {
            let mut values = SymbolValues::default();
            self.open.iter().for_each(|(_, _, symbol)| values.set(symbol, 1_i64 << power));
            self.too_large(&values).is_none()
        };
        let last = (0..PROBED_MAX).take_while(fits).last();
        last.map_or(0, |power| 1_usize << power)
    }

    /// A node that makes a tensor that is too large, when symbols have these
    /// values. What depends on others is not told here.
    fn too_large(&self, values: &SymbolValues) -> Option<&TypedNode> {
        let large =
            |fact: &TypedFact| fact.shape.as_concrete().is_none() && bytes(fact, values).is_err();
        self.model().nodes().iter().find(|node| node.outputs.iter().any(|o| large(&o.fact)))
    }

    /// The facts that tract's operators trust, and the sizes that come of it.
    fn check_node(
        &self,
        context: &EvalContext,
        node: &TypedNode,
        inputs: &[TValue],
    ) -> TractResult<()> {
        let place = || format!("{} (node {:?})", node.op.name(), node.name);
        for (outlet, value) in node.inputs.iter().zip(inputs) {
            let fact = self.model().outlet_fact(*outlet)?;
            ensure!(
                fact.matches(value, Some(context.symbols))?,
                "{}: expected an input of shape {:?}, got {:?}",
                place(),
                fact.shape,
                value.shape()
            );
        }
        for output in &node.outputs {
            bytes(&output.fact, context.symbols).with_context(place)?;
        }
        grown(node, inputs, context.symbols).with_context(place)
    }
}

/// The open dimensions of the inputs.
fn open_dims(model: &TypedModel) -> Vec<(usize, usize, Symbol)> {
    let mut open = Vec::new();
    for (i, outlet) in model.inputs.iter().enumerate() {
        let Ok(fact) = model.outlet_fact(*outlet) else { continue };
        for (axis, dim) in fact.shape.iter().enumerate() {
            if let TDim::Sym(symbol) = dim {
                open.push((i, axis, symbol.clone()));
            }
        }
    }
    open.sort_by(|a, b| a.2.cmp(&b.2));
    open
}

/// Bytes of a tensor; `None` if they depend on what is not known yet. An error
/// if there are too many.
fn bytes(fact: &TypedFact, values: &SymbolValues) -> TractResult<Option<usize>> {
    let mut bytes = fact.datum_type.size_of();
    for dim in fact.shape.iter() {
        let Some(size) = dim.eval(values).as_i64() else { return Ok(None) };
        let size = usize::try_from(size).context("a negative dimension")?;
        bytes = bytes.checked_mul(size).context("more bytes than can be counted")?;
    }
    within(bytes)?;
    Ok(Some(bytes))
}

fn within(bytes: usize) -> TractResult<()> {
    ensure!(bytes <= DECLARED_BYTES_MAX, "{bytes} bytes, more than {DECLARED_BYTES_MAX}");
    Ok(())
}

/// Sizes that follow from the inputs' values and not from their shapes.
fn grown(node: &TypedNode, inputs: &[TValue], values: &SymbolValues) -> TractResult<()> {
    let numbers = |input: &TValue| -> TractResult<TVec<f64>> {
        if input.datum_type() == DatumType::TDim {
            let dims = input.try_as_plain_ram()?.as_slice::<TDim>()?.to_vec();
            #[expect(clippy::cast_precision_loss, reason = "compared with a bound far off")]
            return dims.iter().map(|dim| Ok(dim.eval_to_i64(values)? as f64)).collect();
        }
        let cast = input.cast_to::<f64>()?;
        Ok(cast.try_as_plain_ram()?.as_slice::<f64>()?.iter().copied().collect())
    };
    let elements = if node.op_is::<Range>() && inputs.len() == 3 {
        let [start, end, step] = [0, 1, 2].map(|i| numbers(&inputs[i]));
        let first =
            |numbers: TractResult<TVec<f64>>| numbers?.first().copied().context("an empty bound");
        ((first(end)? - first(start)?) / first(step)?).ceil()
    } else if node.op_is::<DynTile>() && inputs.len() == 2 {
        #[expect(clippy::cast_precision_loss, reason = "compared with a bound far off")]
        numbers(&inputs[1])?.iter().fold(inputs[0].len() as f64, |n, times| n * times)
    } else {
        return Ok(());
    };
    let size = inputs[0].datum_type().size_of();
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let most = (DECLARED_BYTES_MAX / size.max(1)) as f64;
    // Not a number: a step of zero, which is no range either.
    ensure!(elements <= most, "{elements} elements, more than {DECLARED_BYTES_MAX} bytes");
    Ok(())
}
