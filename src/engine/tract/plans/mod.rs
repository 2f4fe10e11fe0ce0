//! Plans: optimised graphs, ready to run, for whatever shapes come.
//!
//! The fewer plans the better, so these are tried in turn, and the first that
//! holds is taken:
//!
//! 1. one plan in which every varying dimension stays open;
//! 2. one for each set of sizes (of a sequence, of an image), in which only the
//!    batch stays open;
//! 3. one for each shape; if rows do not know of each other, batches are
//!    brought to powers of two with copies of a row, so that there are few.
//!
//! tract takes two symbols (or a symbol and a size) that meet in one axis for
//! equal, and does not check it when it runs: a product would then read beyond
//! its operand. So a graph with one open dimension must also fit together with
//! plain numbers in the symbol's place; one with several must give the answers
//! of plans for plain numbers, and is checked at each node when it runs.

mod bucket;
mod cache;
mod dims;
mod optimise;
mod proof;
mod runnable;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike as _;

use super::convert;
use crate::engine::{EngineError, EngineErrorKind, PlanFigures};
use crate::types::{Dim, Signature, Tensor as Sent};
use cache::Cache;
#[cfg(test)]
pub(super) use cache::PLANS_MAX;
use dims::{Dims, Shapes};
use optimise::Source;
use runnable::Runnable;
pub(super) use runnable::State;

/// Sizes that a model is tried with at load; it may need more than a pixel.
const TRIED: [usize; 4] = [1, 8, 64, 224];
/// Sizes below which a proof lets the open dimensions differ.
const PROOF_BASES: [usize; 3] = [0, 6, 62];

/// A model's plans.
pub(super) struct Plans {
    signature: Arc<Signature>,
    dims: Dims,
    kind: Kind,
}

enum Kind {
    /// One for all shapes.
    Open(Runnable),
    /// One for each set of sizes of the dimensions that are not open.
    Cached { source: Box<Source>, by: By, cache: Cache },
}

/// What a plan in the cache is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// The sizes of all open dimensions but this one, the batch.
    Others(usize),
    /// The whole shapes.
    Shapes,
    /// The whole shapes, with the batch at a power of two.
    Buckets,
}

impl Plans {
    /// Makes the plan, or proves that plans by shape work. Completes the
    /// shapes of outputs for which the file declares none.
    pub(super) fn build(
        model: InferenceModel,
        mut signature: Signature,
    ) -> Result<Self, EngineError> {
        let datatypes = signature.outputs.iter().map(|o| convert::datum_type(o.datatype));
        let source = Source { outputs: datatypes.collect(), model };
        let dims = Dims::of(&signature);
        let undeclared: Vec<bool> = signature.outputs.iter().map(|o| o.shape.is_empty()).collect();
        let mut bare = signature.clone();
        if let Some(plan) = open(&source, &mut bare, &dims)? {
            return Ok(Self { signature: Arc::new(bare), dims, kind: Kind::Open(plan) });
        }
        let first = first_plan(&source, &signature)?;
        complete_shapes(&mut signature, &first);
        drop(first);
        // The plan knows the sizes of its one shape, not those of the others.
        for (output, undeclared) in signature.outputs.iter_mut().zip(undeclared) {
            if undeclared {
                output.shape.fill(Dim::Any);
            }
        }
        let by = by(&source, &signature, &dims);
        tracing::debug!(?by, "plans are made by shape");
        let kind = Kind::Cached { source: Box::new(source), by, cache: Cache::default() };
        Ok(Self { signature: Arc::new(signature), dims, kind })
    }

    pub(super) const fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Whether one plan serves all shapes.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Open(_))
    }

    /// Runs a batch, on the state in `kept` if the plan is the only one. May
    /// have to make a plan first, and take long.
    pub(super) fn run(
        &self,
        kept: &mut Option<State>,
        inputs: &[Sent],
    ) -> Result<Vec<Sent>, EngineError> {
        let (source, by, cache) = match &self.kind {
            Kind::Open(plan) => return self.run_open(plan, kept, inputs),
            Kind::Cached { source, by, cache } => (source, *by, cache),
        };
        let key = self.key(by, inputs)?;
        let made = cache.get(&key, || {
            let made = source.optimise(&self.shapes_of(by, inputs));
            made.map_err(|error| misfit(error, inputs))
        })?;
        self.run_made(by, &made, inputs)
    }

    /// Runs a batch if its plan is there already.
    pub(super) fn run_known(
        &self,
        kept: &mut Option<State>,
        inputs: &[Sent],
    ) -> Result<Option<Vec<Sent>>, EngineError> {
        match &self.kind {
            Kind::Open(plan) => self.run_open(plan, kept, inputs).map(Some),
            Kind::Cached { by, cache, .. } => {
                let made = cache.known(&self.key(*by, inputs)?);
                made.map(|made| self.run_made(*by, &made, inputs)).transpose()
            }
        }
    }

    /// What a run on these should take, from the last ones of their shape.
    pub(super) fn run_time(&self, inputs: &[Sent]) -> Option<Duration> {
        match &self.kind {
            Kind::Open(_) => None,
            Kind::Cached { by, cache, .. } => cache.run_time(&self.key(*by, inputs).ok()?),
        }
    }

    /// Frees what nobody used for `idle`.
    pub(super) fn trim(&self, idle: Duration) {
        if let Kind::Cached { cache, .. } = &self.kind {
            cache.trim(idle);
        }
    }

    pub(super) fn figures(&self) -> PlanFigures {
        match &self.kind {
            Kind::Open(plan) => PlanFigures { held: 1, bytes: plan.bytes(), made: 1, evicted: 0 },
            Kind::Cached { cache, .. } => cache.figures(),
        }
    }

    fn run_open(
        &self,
        plan: &Runnable,
        kept: &mut Option<State>,
        inputs: &[Sent],
    ) -> Result<Vec<Sent>, EngineError> {
        if self.dims.repeats() {
            self.dims.values(&self.signature, inputs)?;
        }
        run(&self.signature, plan, kept, inputs)
    }

    fn run_made(
        &self,
        by: By,
        made: &cache::Made,
        inputs: &[Sent],
    ) -> Result<Vec<Sent>, EngineError> {
        let rows = inputs.first().map_or(1, Sent::rows);
        let padded = match by {
            By::Buckets if bucket::size(rows) != rows => bucket::pad(inputs, bucket::size(rows)),
            _ => None,
        };
        let mut state = made.take_state();
        let started = Instant::now();
        let given = padded.as_deref().unwrap_or(inputs);
        let outputs = run(&self.signature, &made.runnable, &mut state, given)?;
        made.put_state(state, started.elapsed());
        if padded.is_none() {
            return Ok(outputs);
        }
        bucket::cut(&outputs, rows).ok_or_else(|| {
            EngineError::new(EngineErrorKind::Internal, "an output is no batch any more")
        })
    }

    fn key(&self, by: By, inputs: &[Sent]) -> Result<cache::Key, EngineError> {
        match by {
            By::Others(batch) => {
                let mut values = self.dims.values(&self.signature, inputs)?;
                values.remove(batch);
                Ok(values)
            }
            By::Buckets => {
                let mut values = self.dims.values(&self.signature, inputs)?;
                if let Some(rows) = self.dims.batch().and_then(|batch| values.get_mut(batch)) {
                    *rows = bucket::size(*rows);
                }
                Ok(values)
            }
            By::Shapes => Ok(inputs.iter().flat_map(|input| input.shape()).copied().collect()),
        }
    }

    fn shapes_of(&self, by: By, inputs: &[Sent]) -> Vec<Vec<Option<usize>>> {
        let whole: Shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
        let mut shapes = dims::concrete(&whole);
        for rows in shapes.iter_mut().filter_map(|shape| shape.first_mut()) {
            match by {
                By::Others(_) => *rows = None,
                By::Buckets => *rows = rows.map(bucket::size),
                By::Shapes => {}
            }
        }
        shapes
    }
}

/// One plan for all shapes, if it holds.
fn open(
    source: &Source,
    signature: &mut Signature,
    dims: &Dims,
) -> Result<Option<Runnable>, EngineError> {
    let plan = match source.optimise(&dims.shapes(signature, |_| None)) {
        Ok(plan) => plan,
        Err(error) if dims.count() == 0 => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "no plan for all shapes");
            return Ok(None);
        }
    };
    complete_shapes(signature, &plan);
    let holds = match dims.count() {
        0 => true,
        1 => holds(source, signature, &plan),
        _ => agrees(source, signature, dims, |_| Some(&plan)),
    };
    Ok(holds.then_some(plan))
}

/// Whether the graph fits together at two batch sizes, and zeros get through
/// at both.
fn holds(source: &Source, signature: &Signature, plan: &Runnable) -> bool {
    let run = |rows| -> Result<(), EngineError> {
        let shapes = dims::all_of(signature, rows);
        source.fits(&dims::concrete(&shapes))?;
        run(signature, plan, &mut None, &zeros(signature, &shapes)?).map(drop)
    };
    [1, 3].into_iter().all(|rows| {
        run(rows).inspect_err(|error| tracing::debug!(%error, rows, "probe failed")).is_ok()
    })
}

/// Whether a plan with open dimensions gives the answers of plans without, at
/// sizes that all differ.
fn agrees<'a>(
    source: &Source,
    signature: &Signature,
    dims: &Dims,
    plan: impl Fn(&[Vec<usize>]) -> Option<&'a Runnable>,
) -> bool {
    let point = |base: usize, down: bool| {
        // Two rows and more, and no two sizes the same.
        let count = dims.count();
        let value = move |open| base + if down { 2 + count - open } else { 2 + open };
        whole(&dims.shapes(signature, |open| Some(value(open))))
    };
    let show = |shapes: &Shapes, seed| -> Option<bool> {
        let inputs = proof::sample(signature, shapes, seed)?;
        let exact = source.optimise(&dims::concrete(shapes)).ok()?;
        let expected = run(signature, &exact, &mut None, &inputs).ok()?;
        let got = run(signature, plan(shapes)?, &mut None, &inputs);
        let got = got.inspect_err(|error| tracing::debug!(%error, "an open plan failed")).ok();
        Some(got.is_some_and(|got| proof::close(&got, &expected)))
    };
    PROOF_BASES.into_iter().find_map(|base| {
        let up = show(&point(base, false), 1)?;
        Some(up && show(&point(base, true), 2)?)
    }) == Some(true)
}

/// What plans are made by, where one is not enough.
fn by(source: &Source, signature: &Signature, dims: &Dims) -> By {
    let Some(batch) = dims.batch() else { return By::Shapes };
    if dims.count() > 1 && batch_stays_open(source, signature, dims, batch) {
        return By::Others(batch);
    }
    let independent = TRIED.into_iter().find_map(|size| {
        let shapes = |rows| {
            whole(&dims.shapes(signature, |open| Some(if open == batch { rows } else { size })))
        };
        source.optimise(&dims::concrete(&shapes(1))).ok()?;
        Some(bucket::rows_are_independent(signature, shapes, |inputs| {
            let shapes: Shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
            let plan = source.optimise(&dims::concrete(&shapes))?;
            run(signature, &plan, &mut None, inputs)
        }))
    });
    if independent == Some(true) { By::Buckets } else { By::Shapes }
}

/// Whether plans that leave the batch open give the answers of plans without.
fn batch_stays_open(source: &Source, signature: &Signature, dims: &Dims, batch: usize) -> bool {
    let show = |base: usize| -> Option<bool> {
        let size = |rows, open| Some(if open == batch { rows } else { base + 2 + open });
        let open = |open| size(0, open).filter(|_| open != batch);
        let plan = source.optimise(&dims.shapes(signature, open)).ok()?;
        [1, 3, 4].into_iter().try_fold(true, |all, rows| {
            let shapes = whole(&dims.shapes(signature, |open| size(rows, open)));
            let inputs = proof::sample(signature, &shapes, rows as u64)?;
            let exact = source.optimise(&dims::concrete(&shapes)).ok()?;
            let expected = run(signature, &exact, &mut None, &inputs).ok()?;
            let got = run(signature, &plan, &mut None, &inputs);
            Some(all && got.is_ok_and(|got| proof::close(&got, &expected)))
        })
    };
    PROOF_BASES.into_iter().find_map(show) == Some(true)
}

fn whole(shapes: &[Vec<Option<usize>>]) -> Shapes {
    shapes.iter().map(|shape| shape.iter().map(|size| size.unwrap_or(1)).collect()).collect()
}

/// A plan for some shape, as a proof that there can be plans.
fn first_plan(source: &Source, signature: &Signature) -> Result<Runnable, EngineError> {
    let plan = |size| source.optimise(&dims::concrete(&dims::all_of(signature, size)));
    plan(TRIED[0]).or_else(|error| TRIED[1..].iter().find_map(|n| plan(*n).ok()).ok_or(error))
}

fn zeros(signature: &Signature, shapes: &Shapes) -> Result<Vec<Sent>, EngineError> {
    let zeros = signature.inputs.iter().zip(shapes).map(|(spec, shape)| {
        let len = shape.iter().product();
        Sent::new(&spec.name, shape.clone(), crate::types::Data::zeros(spec.datatype, len))
    });
    zeros.collect::<Result<_, _>>().map_err(|error| super::load::unsupported(error.message()))
}

/// The file has proven itself; it is these shapes that do not fit.
fn misfit(error: EngineError, inputs: &[Sent]) -> EngineError {
    match error.kind {
        EngineErrorKind::Unsupported => {
            let shapes: Vec<_> = inputs.iter().map(Sent::shape).collect();
            let message = format!("inputs of shapes {shapes:?}: {error}");
            EngineError::new(EngineErrorKind::BadInput, message)
        }
        _ => error,
    }
}

/// Runs a plan on our tensors.
fn run(
    signature: &Signature,
    plan: &Runnable,
    kept: &mut Option<State>,
    inputs: &[Sent],
) -> Result<Vec<Sent>, EngineError> {
    let given = inputs.iter().zip(&signature.inputs).map(|(input, spec)| {
        convert::to_tract(input.shape(), input.data()).map(Tensor::into_tvalue).map_err(|error| {
            EngineError::new(EngineErrorKind::BadInput, format!("input {:?}: {error:#}", spec.name))
        })
    });
    let values = plan.run(kept, given.collect::<Result<TVec<TValue>, _>>()?)?;
    let outputs = values.iter().zip(&signature.outputs).map(|(value, spec)| {
        let data = convert::from_tract(value).map_err(|error| error.to_string())?;
        Sent::new(spec.name.clone(), value.shape().to_vec(), data)
            .map_err(|error| error.message().to_owned())
    });
    outputs.collect::<Result<_, String>>().map_err(|error| {
        EngineError::new(EngineErrorKind::Internal, format!("reading the outputs: {error}"))
    })
}

/// Takes from tract the shapes of outputs for which the file has none.
fn complete_shapes(signature: &mut Signature, plan: &Runnable) {
    let names = Dims::names(signature);
    for (i, output) in signature.outputs.iter_mut().enumerate() {
        let Ok(fact) = plan.model().output_fact(i) else { continue };
        if !output.shape.is_empty() {
            continue;
        }
        let dim = |dim: &TDim| match dim.to_usize() {
            Ok(n) => Dim::Fixed(n),
            // As the rewritten file calls them.
            Err(_) => {
                let number = dim.to_string().strip_prefix("dim").and_then(|n| n.parse().ok());
                number.and_then(|n: usize| names.get(n).cloned()).unwrap_or(Dim::Any)
            }
        };
        output.shape = fact.shape.iter().map(dim).collect();
    }
}
