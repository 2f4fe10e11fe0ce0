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
use super::load::unsupported;
use crate::engine::{EngineError, EngineErrorKind};
use crate::types::{Dim, PlanFigures, Signature, Tensor as Sent};
use cache::Cache;
#[cfg(test)]
pub(super) use cache::PLANS_MAX;
use dims::{Dims, Equal, Shapes, Size};
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
    /// One plan for whatever fits its dimensions …
    open: Option<(Dims, Runnable)>,
    /// … and some for what does not.
    shaped: Option<Shaped>,
}

/// Plans by shape.
struct Shaped {
    source: Source,
    dims: Dims,
    by: By,
    cache: Cache,
}

/// What a plan in the cache is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// The sizes of all open dimensions but this one, the batch.
    Others(usize),
    /// The whole shapes.
    Shapes,
    /// The whole shapes, with this dimension, the batch, at a power of two.
    Buckets(usize),
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
        let named = Dims::of(&signature, Equal::Names);
        if let Some(plan) = open(&source, &signature, &named)? {
            complete_shapes(&mut signature, &plan, &named);
            let open = Some((named, plan));
            return Ok(Self { signature: Arc::new(signature), open, shaped: None });
        }
        let first = first_plan(&source, &signature)?;
        let by_axis = Dims::of(&signature, Equal::Axes);
        let merged = by_axis.count() < named.count();
        let plan = if merged { open(&source, &signature, &by_axis)? } else { None };
        if plan.is_some() {
            complete_shapes(&mut signature, &first, &named);
            let shaped = Shaped { source, dims: named, by: By::Shapes, cache: Cache::default() };
            let open = plan.map(|plan| (by_axis, plan));
            return Ok(Self { signature: Arc::new(signature), open, shaped: Some(shaped) });
        }
        let mut dims = named;
        let mut by = choose(&source, &signature, &dims);
        if by == By::Shapes && merged {
            by = choose(&source, &signature, &by_axis);
            dims = if by == By::Shapes { dims } else { by_axis };
        }
        complete_shapes(&mut signature, &first, &dims);
        let shaped = Some(Shaped { source, dims, by, cache: Cache::default() });
        Ok(Self { signature: Arc::new(signature), open: None, shaped })
    }

    pub(super) const fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Whether one plan serves all batches.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How plans are made, in words.
    #[cfg(test)]
    pub(super) fn kind(&self) -> String {
        let open = self.open.iter().map(|_| "open".to_owned());
        let shaped = self.shaped.iter().map(|shaped| format!("{:?}", shaped.by));
        open.chain(shaped).collect::<Vec<_>>().join(", ")
    }

    /// The plan for all shapes, if these fit it.
    ///
    /// # Errors
    /// They do not, and there are no other plans.
    fn fitting(&self, inputs: &[Sent]) -> Result<Option<&Runnable>, EngineError> {
        let Some((dims, plan)) = &self.open else { return Ok(None) };
        let fits =
            if dims.repeats() { dims.values(&self.signature, inputs).map(drop) } else { Ok(()) };
        match (fits, &self.shaped) {
            (Ok(()), _) => Ok(Some(plan)),
            (Err(_), Some(_)) => Ok(None),
            (Err(error), None) => Err(error),
        }
    }

    /// Runs a batch, on the state in `kept` if the plan for all shapes takes
    /// it. May have to make a plan first, and take long.
    pub(super) fn run(
        &self,
        kept: &mut Option<State>,
        inputs: &[Sent],
    ) -> Result<Vec<Sent>, EngineError> {
        match (self.fitting(inputs)?, &self.shaped) {
            (Some(plan), _) => run(&self.signature, plan, kept, inputs),
            (None, Some(shaped)) => shaped.run(&self.signature, inputs),
            (None, None) => Err(unsupported("the model has no plan")),
        }
    }

    /// Runs a batch if its plan is there already.
    pub(super) fn run_known(
        &self,
        kept: &mut Option<State>,
        inputs: &[Sent],
    ) -> Result<Option<Vec<Sent>>, EngineError> {
        match (self.fitting(inputs)?, &self.shaped) {
            (Some(plan), _) => run(&self.signature, plan, kept, inputs).map(Some),
            (None, Some(shaped)) => shaped.run_known(&self.signature, inputs),
            (None, None) => Ok(None),
        }
    }

    /// What a run on these should take, from the last ones of their shape.
    pub(super) fn run_time(&self, inputs: &[Sent]) -> Option<Duration> {
        let shaped = self.shaped.as_ref()?;
        let (_, key) = shaped.key(&self.signature, inputs).ok()?;
        shaped.cache.run_time(&key)
    }

    /// The rows that a batch of `rows` rows of such a shape would compute; `None`
    /// if it would need a plan of its own.
    pub(super) fn computed_rows(&self, inputs: &[Sent], rows: usize) -> Option<usize> {
        if self.fitting(inputs).ok()?.is_some() {
            return Some(rows);
        }
        let shaped = self.shaped.as_ref()?;
        match shaped.by {
            By::Shapes => None,
            // Where dimensions differ that were taken for one, the shape counts.
            _ if shaped.dims.values(&self.signature, inputs).is_err() => None,
            By::Others(_) => Some(rows),
            By::Buckets(_) => bucket::holds(rows).then(|| bucket::size(rows)),
        }
    }

    /// Frees what nobody used for `idle`.
    pub(super) fn trim(&self, idle: Duration) {
        if let Some(shaped) = &self.shaped {
            shaped.cache.trim(idle);
        }
    }

    pub(super) fn figures(&self) -> PlanFigures {
        let mut figures = self.shaped.as_ref().map(|s| s.cache.figures()).unwrap_or_default();
        if let Some((_, plan)) = &self.open {
            figures.held += 1;
            figures.made += 1;
            figures.bytes += plan.bytes();
        }
        figures
    }
}

impl Shaped {
    fn run(&self, signature: &Signature, inputs: &[Sent]) -> Result<Vec<Sent>, EngineError> {
        let (by, key) = self.key(signature, inputs)?;
        let made = self.cache.get(&key, || {
            let made = self.source.optimise(&self.shapes(signature, by, inputs));
            made.map_err(|error| misfit(error, inputs))
        })?;
        self.run_made(signature, by, &made, inputs)
    }

    fn run_known(
        &self,
        signature: &Signature,
        inputs: &[Sent],
    ) -> Result<Option<Vec<Sent>>, EngineError> {
        let (by, key) = self.key(signature, inputs)?;
        let made = self.cache.known(&key);
        made.map(|made| self.run_made(signature, by, &made, inputs)).transpose()
    }

    fn run_made(
        &self,
        signature: &Signature,
        by: By,
        made: &cache::Made,
        inputs: &[Sent],
    ) -> Result<Vec<Sent>, EngineError> {
        let rows = inputs.first().map_or(1, Sent::rows);
        let padded = match by {
            By::Buckets(_) if bucket::size(rows) != rows => bucket::pad(inputs, bucket::size(rows)),
            _ => None,
        };
        let mut state = made.take_state();
        let started = Instant::now();
        let given = padded.as_deref().unwrap_or(inputs);
        let outputs = run(signature, &made.runnable, &mut state, given)?;
        made.put_state(state, started.elapsed());
        if padded.is_none() {
            return Ok(outputs);
        }
        bucket::cut(&outputs, rows).ok_or_else(|| {
            EngineError::new(EngineErrorKind::Internal, "an output is no batch any more")
        })
    }

    /// Which plan these need. Where dimensions that were taken for one differ,
    /// it is one for their shapes.
    fn key(&self, signature: &Signature, inputs: &[Sent]) -> Result<(By, cache::Key), EngineError> {
        let values = (self.by != By::Shapes).then(|| self.dims.values(signature, inputs).ok());
        let Some(mut values) = values.flatten() else {
            let ranks = inputs.iter().map(|input| input.shape().len());
            let sizes = inputs.iter().flat_map(|input| input.shape()).copied();
            // No list of values starts like this.
            return Ok((
                By::Shapes,
                std::iter::once(usize::MAX).chain(ranks).chain(sizes).collect(),
            ));
        };
        match self.by {
            By::Others(batch) => drop(values.remove(batch)),
            By::Buckets(batch) => values[batch] = bucket::size(values[batch]),
            By::Shapes => {}
        }
        Ok((self.by, values))
    }

    fn shapes(&self, signature: &Signature, by: By, inputs: &[Sent]) -> Vec<Vec<Size>> {
        let exact = || dims::concrete(&dims::shapes_of(inputs));
        let Ok(values) = self.dims.values(signature, inputs) else { return exact() };
        self.dims.shapes(signature, |open| match by {
            By::Others(batch) if open == batch => Size::Open(open),
            By::Buckets(batch) if open == batch => Size::Is(bucket::size(values[open])),
            _ => Size::Is(values[open]),
        })
    }
}

/// One plan for all shapes, if it holds.
fn open(
    source: &Source,
    signature: &Signature,
    dims: &Dims,
) -> Result<Option<Runnable>, EngineError> {
    let plan = match source.optimise(&dims.shapes(signature, Size::Open)) {
        Ok(plan) => plan,
        Err(error) if dims.count() == 0 => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "no plan for all shapes");
            return Ok(None);
        }
    };
    let holds = match dims.count() {
        0 => true,
        1 => holds(source, signature, &plan),
        _ => agrees(source, signature, dims, &plan),
    };
    Ok(holds.then_some(plan))
}

/// Whether the graph fits together at two batch sizes, and zeros get through
/// at both.
fn holds(source: &Source, signature: &Signature, plan: &Runnable) -> bool {
    let run = |rows| -> Result<(), EngineError> {
        let shapes = dims::all_of(signature, rows);
        source.fits(&dims::concrete(&shapes))?;
        match run(signature, plan, &mut None, &zeros(signature, &shapes)?) {
            // Zeros may be no valid values: an unknown category, say.
            Err(error) if error.kind == EngineErrorKind::BadValue => Ok(()),
            outcome => outcome.map(drop),
        }
    };
    [1, 3].into_iter().all(|rows| {
        run(rows).inspect_err(|error| tracing::debug!(%error, rows, "probe failed")).is_ok()
    })
}

/// Whether a plan with open dimensions gives the answers of plans without, at
/// sizes that all differ.
fn agrees(source: &Source, signature: &Signature, dims: &Dims, plan: &Runnable) -> bool {
    let show = |base: usize| -> Option<bool> {
        // Two rows and more, no two sizes the same; then in the other order.
        let up = dims.sizes(signature, |open| base + 2 + open);
        let down = dims.sizes(signature, |open| base + 2 + dims.count() - open);
        Some(
            same_answers(source, signature, plan, &up)?
                && same_answers(source, signature, plan, &down)?,
        )
    };
    PROOF_BASES.into_iter().find_map(show) == Some(true)
}

/// Whether a plan gives the answers of one for exactly these shapes; `None` if
/// there is no such one.
fn same_answers(
    source: &Source,
    signature: &Signature,
    plan: &Runnable,
    shapes: &Shapes,
) -> Option<bool> {
    let inputs = proof::sample(signature, shapes, shapes.len() as u64)?;
    let exact = source.optimise(&dims::concrete(shapes)).ok()?;
    let expected = run(signature, &exact, &mut None, &inputs).ok()?;
    let got = run(signature, plan, &mut None, &inputs);
    let got = got.inspect_err(|error| tracing::debug!(%error, "an open plan failed"));
    Some(got.is_ok_and(|got| proof::close(&got, &expected)))
}

/// What plans are made by, where one is not enough.
fn choose(source: &Source, signature: &Signature, dims: &Dims) -> By {
    let Some(batch) = dims.batch() else { return By::Shapes };
    if dims.count() > 1 && batch_stays_open(source, signature, dims, batch) {
        return By::Others(batch);
    }
    let independent = TRIED.into_iter().find_map(|size| {
        let shapes = |rows| dims.sizes(signature, |open| if open == batch { rows } else { size });
        source.optimise(&dims::concrete(&shapes(1))).ok()?;
        Some(bucket::rows_are_independent(signature, shapes, |inputs| {
            let plan = source.optimise(&dims::concrete(&dims::shapes_of(inputs)))?;
            run(signature, &plan, &mut None, inputs)
        }))
    });
    if independent == Some(true) { By::Buckets(batch) } else { By::Shapes }
}

/// Whether plans that leave the batch open give the answers of plans without.
fn batch_stays_open(source: &Source, signature: &Signature, dims: &Dims, batch: usize) -> bool {
    let show = |base: usize| -> Option<bool> {
        let size = |rows, open| if open == batch { rows } else { base + 2 + open };
        let open = |open| if open == batch { Size::Open(open) } else { Size::Is(size(0, open)) };
        let plan = source.optimise(&dims.shapes(signature, open)).ok()?;
        [1, 3, 4].into_iter().try_fold(true, |all, rows| {
            let shapes = dims.sizes(signature, |open| size(rows, open));
            Some(all && same_answers(source, signature, &plan, &shapes)?)
        })
    };
    PROOF_BASES.into_iter().find_map(show) == Some(true)
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
    zeros.collect::<Result<_, _>>().map_err(|error| unsupported(error.message()))
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

/// Takes from tract the shapes of outputs for which the file has none. A plan
/// without open dimensions knows the sizes of its one shape, and not those of
/// the others.
fn complete_shapes(signature: &mut Signature, plan: &Runnable, dims: &Dims) {
    let names = dims.names(signature);
    let known = plan.is_open() || dims.count() == 0;
    for (i, output) in signature.outputs.iter_mut().enumerate() {
        let Ok(fact) = plan.model().output_fact(i) else { continue };
        if !output.shape.is_empty() {
            continue;
        }
        let dim = |dim: &TDim| match dim.to_usize() {
            Ok(n) if known => Dim::Fixed(n),
            Ok(_) => Dim::Any,
            Err(_) => {
                let named = |number: &usize| optimise::dim_name(*number) == dim.to_string();
                let number = (0..names.len()).find(named);
                number.map_or(Dim::Any, |number| names[number].clone())
            }
        };
        output.shape = fact.shape.iter().map(dim).collect();
    }
}
