//! `Cast`, instead of tract's: that one takes INT64 through 32 bits and may
//! leave a symbolic dimension where a number was asked for.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::infer::{Solver, TensorProxy};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::cast_text::{FromText, ToText};
use crate::engine::onnx_ml::{Attributes, Built, typed};
use crate::engine::tract::convert::datum_type;
use crate::engine::tract::signature::from_onnx;

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["round_mode", "saturate", "to"])?;
    // These two speak of 8-bit floats, which are no datatypes here.
    attributes.string("round_mode", "up")?;
    attributes.int("saturate", 1)?;
    let code = attributes.int("to", 0)?;
    let datatype = i32::try_from(code).ok().and_then(from_onnx);
    let to = datum_type(datatype.with_context(|| format!("cannot cast to element type {code}"))?);
    Ok((expand(Cast { to }), vec![]))
}

#[derive(Clone, Debug)]
struct Cast {
    to: DatumType,
}

impl Cast {
    /// Shapes stay symbolic through a cast to INT64, which is their type in
    /// the standard; everything else becomes what was asked for.
    fn target(&self, from: DatumType) -> DatumType {
        if from == DatumType::TDim && self.to == DatumType::I64 { from } else { self.to }
    }
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(inputs.len() == 1 && outputs.len() == 1, "Cast has one input and one output");
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        s.given(&inputs[0].datum_type, move |s, from| {
            s.equals(&outputs[0].datum_type, self.target(from))
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        let to = self.target(from);
        match (from, to) {
            (DatumType::String, DatumType::String) => model.wire_node(prefix, cast(to), inputs),
            (DatumType::String, _) => model.wire_node(prefix, typed(FromText(to)), inputs),
            (_, DatumType::String) => model.wire_node(prefix, typed(ToText), inputs),
            _ => model.wire_node(prefix, cast(to), inputs),
        }
    }
}
