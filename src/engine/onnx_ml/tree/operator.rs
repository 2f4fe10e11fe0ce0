//! What the tree operators share as operators: from rows to sums. What they
//! make of the sums is a [`Finish`].

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::kernel::{BadShape, Fact, Kernel};
use super::super::rows;
use super::real::Real;
use super::sums::{Aggregate, Ensemble, Sums};
use super::trees::Trees;

/// What an operator makes of the sums.
pub(super) trait Finish: fmt::Debug + Send + Sync + 'static {
    const NAME: &'static str;
    const OUTPUTS: usize;

    /// The datatypes of rows that the operator takes.
    const TAKES: &'static [DatumType];

    /// The outputs' facts, given the rows' datatype and number.
    fn facts(&self, datatype: DatumType, rows: TDim) -> TVec<Fact>;

    /// The outputs. `datatype` is the rows'.
    fn finish<X: Real>(&self, sums: Sums<X>, datatype: DatumType) -> TractResult<TVec<Tensor>>;
}

/// An operator as the file has it: for rows of any datatype.
#[derive(Debug)]
pub(super) struct TreeOperator<F> {
    pub(super) trees: Trees,
    pub(super) aggregate: Aggregate,
    pub(super) finish: Arc<F>,
}

impl<F: Finish> TreeOperator<F> {
    fn ready(&self, datatype: DatumType) -> TractResult<Arc<dyn Kernel>> {
        let finish = self.finish.clone();
        Ok(if datatype == DatumType::F64 {
            Arc::new(Ready { ensemble: Ensemble::<f64>::new(&self.trees, self.aggregate)?, finish })
        } else {
            Arc::new(Ready { ensemble: Ensemble::<f32>::new(&self.trees, self.aggregate)?, finish })
        })
    }
}

impl<F: Finish> Kernel for TreeOperator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn output_count(&self) -> usize {
        F::OUTPUTS
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        ensure!(
            !self.trees.double || datatype == DatumType::F64,
            "thresholds or weights of FP64 ask for rows of FP64, got {datatype:?}"
        );
        facts(&*self.finish, self.trees.features.max(1), &inputs[0])
    }

    fn fixed(&self, inputs: &[Fact]) -> TractResult<Option<Arc<dyn Kernel>>> {
        self.ready(inputs[0].datatype).map(Some)
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        self.ready(inputs[0].datum_type())?.eval(inputs)
    }
}

/// The same, ready for rows of one datatype.
#[derive(Debug)]
struct Ready<X, F> {
    ensemble: Ensemble<X>,
    finish: Arc<F>,
}

impl<X: Real, F: Finish> Kernel for Ready<X, F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn output_count(&self) -> usize {
        F::OUTPUTS
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        facts(&*self.finish, self.ensemble.features(), &inputs[0])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (_, width) = rows::dims(inputs[0])?;
        enough(self.ensemble.features(), width).map_err(BadShape::of)?;
        let sums = self.ensemble.run(&X::numbers(inputs[0])?, width);
        self.finish.finish(sums, inputs[0].datum_type())
    }
}

fn facts<F: Finish>(finish: &F, features: usize, input: &Fact) -> TractResult<TVec<Fact>> {
    let datatype = input.datatype;
    ensure!(F::TAKES.contains(&datatype), "expected one of {:?}, got {datatype:?}", F::TAKES);
    let [rows, width] = &*input.shape else {
        bail!("expected a shape of [rows, features], got {:?}", input.shape);
    };
    if let Ok(width) = width.to_usize() {
        enough(features, width)?;
    }
    Ok(finish.facts(datatype, rows.clone()))
}

fn enough(features: usize, width: usize) -> TractResult<()> {
    ensure!(width >= features, "the trees ask for {features} features, the rows have {width}");
    Ok(())
}
