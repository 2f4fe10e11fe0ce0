//! What operators before operator set 7 did with `axis`: the dimensions of the
//! second operand stand at that axis of the first.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::infer::{Solver, TensorProxy};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use crate::engine::onnx_ml::{Attributes, Built};

#[derive(Clone, Debug)]
struct Align {
    axis: i64,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let axis = Attributes::new(node, &["axis"])?.int("axis", 0)?;
    Ok((expand(Align { axis }), vec![]))
}

impl Align {
    /// How many ones come after the second operand's dimensions.
    fn ones(&self, first: i64, second: i64) -> TractResult<i64> {
        let axis = if self.axis < 0 { self.axis + first } else { self.axis };
        let fits = axis >= 0 && axis.checked_add(second).is_some_and(|end| end <= first);
        ensure!(fits, "{second} dimensions do not fit at axis {} of {first}", self.axis);
        Ok(first - axis - second)
    }
}

impl Expansion for Align {
    fn name(&self) -> StaticName {
        "Align".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[1].datum_type)?;
        s.given_2(&inputs[0].rank, &inputs[1].shape, move |s, rank, mut shape| {
            let ones = self.ones(rank, i64::try_from(shape.len())?)?;
            shape.extend((0..ones).map(|_| 1.to_dim()));
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let first = i64::try_from(model.outlet_fact(inputs[0])?.rank())?;
        let rank = model.outlet_fact(inputs[1])?.rank();
        let mut aligned = inputs[1];
        for i in 0..self.ones(first, i64::try_from(rank)?)? {
            let at = AxisOp::Add(rank);
            aligned = model.wire_node(format!("{prefix}.{i}"), at, &[aligned])?[0];
        }
        Ok(tvec![aligned])
    }
}
