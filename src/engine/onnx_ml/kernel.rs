//! Turns a plain function on tensors into a tract operator: one adapter
//! instead of the same five trait implementations in every file.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::{InferenceOp, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

/// The values of a request, and not the graph, are at fault.
#[derive(Debug)]
pub(in crate::engine) struct BadValue(pub(in crate::engine) String);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadValue {}

/// The sizes of a request do not fit the graph, which left them open.
#[derive(Debug)]
pub(in crate::engine) struct BadShape(pub(in crate::engine) String);

impl BadShape {
    /// Says so of an error about sizes that a run brought.
    pub(in crate::engine) fn of(error: TractError) -> TractError {
        Self(format!("{error:#}")).into()
    }
}

impl fmt::Display for BadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadShape {}

/// Datatype and shape of one input or output.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Fact {
    /// The element type.
    pub(in crate::engine) datatype: DatumType,
    /// The dimensions, possibly symbolic.
    pub(in crate::engine) shape: TVec<TDim>,
}

impl Fact {
    /// A fact from parts.
    pub(in crate::engine) fn new(
        datatype: DatumType,
        shape: impl IntoIterator<Item = TDim>,
    ) -> Self {
        Self { datatype, shape: shape.into_iter().collect() }
    }
}

impl From<&TypedFact> for Fact {
    fn from(fact: &TypedFact) -> Self {
        Self::new(fact.datum_type, fact.shape.iter().cloned())
    }
}

/// What an operator does to tensors, without state.
pub(in crate::engine) trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// The operator's name, for messages.
    fn name(&self) -> &'static str;

    /// How many inputs it takes.
    fn input_count(&self) -> usize {
        1
    }

    /// How many outputs it computes.
    fn output_count(&self) -> usize {
        1
    }

    /// Whether the outputs' facts have symbols of the kernel's own, for sizes
    /// that are known only after a run.
    fn binds_symbols(&self) -> bool {
        false
    }

    /// The outputs' facts; an error when the inputs do not fit.
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>>;

    /// The kernel to run once the inputs' datatypes are known, where that is
    /// another one.
    fn fixed(&self, _: &[Fact]) -> TractResult<Option<Arc<dyn Kernel>>> {
        Ok(None)
    }

    /// Computes the outputs. The inputs fit [`Kernel::facts`], but a
    /// symbolic dimension may have become any size.
    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

/// What a builder returns to tract's parser.
pub(in crate::engine) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Wraps a kernel for tract.
pub(in crate::engine) fn built(kernel: impl Kernel) -> Built {
    Ok((expand(KernelOp(Arc::new(kernel))), vec![]))
}

/// Wraps a kernel for a graph whose facts are known already.
pub(in crate::engine) fn typed(kernel: impl Kernel) -> Box<dyn TypedOp> {
    Box::new(KernelOp(Arc::new(kernel)))
}

#[derive(Clone, Debug)]
struct KernelOp(Arc<dyn Kernel>);

impl PartialEq for KernelOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KernelOp {}

impl KernelOp {
    fn check_inputs(&self, got: usize) -> TractResult<()> {
        let expected = self.0.input_count();
        ensure!(got == expected, "{} takes {expected} inputs, got {got}", self.0.name());
        Ok(())
    }
}

impl Op for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.0.binds_symbols()
    }

    op_as_typed_op!();
}

impl EvalOp for KernelOp {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs = inputs.iter().map(|value| &**value).collect::<TVec<&Tensor>>();
        Ok(self.0.eval(&inputs)?.into_iter().map(Tensor::into_tvalue).collect())
    }

    op_out_of_plan!();
}

impl TypedOp for KernelOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.check_inputs(inputs.len())?;
        let inputs = inputs.iter().map(|&fact| Fact::from(fact)).collect::<TVec<Fact>>();
        let facts = self.0.facts(&inputs)?;
        Ok(facts.into_iter().map(|fact| fact.datatype.fact(&*fact.shape)).collect())
    }

    as_op!();
}

impl Expansion for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.output_count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.check_inputs(inputs.len())?;
        ensure!(
            outputs.len() == self.0.output_count(),
            "{} gives {} outputs, the graph names {}",
            self.0.name(),
            self.0.output_count(),
            outputs.len()
        );
        s.given_all(inputs.iter().map(|input| &input.datum_type), move |s, datatypes| {
            s.given_all(inputs.iter().map(|input| &input.shape), move |s, shapes| {
                let inputs = datatypes
                    .iter()
                    .zip(shapes)
                    .map(|(&datatype, shape)| Fact { datatype, shape })
                    .collect::<Vec<_>>();
                for (output, fact) in outputs.iter().zip(self.0.facts(&inputs)?) {
                    s.equals(&output.datum_type, fact.datatype)?;
                    s.equals(&output.shape, fact.shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let facts = inputs.iter().map(|&input| Ok(Fact::from(model.outlet_fact(input)?)));
        let fixed = self.0.fixed(&facts.collect::<TractResult<Vec<_>>>()?)?;
        model.wire_node(prefix, fixed.map_or_else(|| self.clone(), Self), inputs)
    }
}
