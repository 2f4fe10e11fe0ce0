//! `Gemm`, instead of tract's: that one multiplies by `alpha` and `beta` in
//! FP32, whatever the matrices are of.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{add, mul};
use tract_onnx::tract_hir::infer::{Solver, TensorProxy};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use crate::engine::onnx_ml::{Attributes, Built};

/// `alpha · A · B + beta · C`, where A and B may be transposed.
#[derive(Clone, Debug)]
struct Gemm {
    alpha: f32,
    beta: f32,
    trans_a: bool,
    trans_b: bool,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["alpha", "beta", "transA", "transB"])?;
    let gemm = Gemm {
        alpha: attributes.float("alpha", 1.0)?,
        beta: attributes.float("beta", 1.0)?,
        trans_a: attributes.int("transA", 0)? != 0,
        trans_b: attributes.int("transB", 0)? != 0,
    };
    Ok((expand(gemm), vec![]))
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(matches!(inputs.len(), 2 | 3), "Gemm takes 2 or 3 inputs, got {}", inputs.len());
        check_output_arity(outputs, 1)?;
        for input in inputs {
            s.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        for matrix in inputs[..2].iter().chain(outputs) {
            s.equals(&matrix.rank, 2)?;
        }
        let (rows, inner_a) = if self.trans_a { (1, 0) } else { (0, 1) };
        let (inner_b, columns) = if self.trans_b { (1, 0) } else { (0, 1) };
        s.equals(&inputs[0].shape[inner_a], &inputs[1].shape[inner_b])?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[rows])?;
        s.equals(&outputs[0].shape[1], &inputs[1].shape[columns])
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let datatype = model.outlet_fact(inputs[0])?.datum_type;
        let axes = AxesMapping::for_numpy_matmul(2, self.trans_a, self.trans_b, false)?;
        let product = EinSum::new(axes, datatype);
        let product = model.wire_node(format!("{prefix}.product"), product, &inputs[..2])?[0];
        let product = scaled(prefix, "alpha", self.alpha, model, product)?;
        let Some(&addend) = inputs.get(2).filter(|_| self.beta != 0.0) else {
            return Ok(tvec![product]);
        };
        let mut addend = scaled(prefix, "beta", self.beta, model, addend)?;
        for axis in model.outlet_fact(addend)?.rank()..2 {
            let name = format!("{prefix}.axis{axis}");
            addend = model.wire_node(name, AxisOp::Add(0), &[addend])?[0];
        }
        model.wire_node(prefix, add(), &[product, addend])
    }
}

/// `value` times `factor`, in its own datatype.
fn scaled(
    prefix: &str,
    name: &str,
    factor: f32,
    model: &mut TypedModel,
    value: OutletId,
) -> TractResult<OutletId> {
    if factor == 1.0 {
        return Ok(value);
    }
    let fact = model.outlet_fact(value)?;
    let constant = tensor0(factor).cast_to_dt(fact.datum_type)?.into_owned();
    let constant = constant.broadcast_into_rank(fact.rank())?;
    let constant = model.add_const(format!("{prefix}.{name}.factor"), constant)?;
    Ok(model.wire_node(format!("{prefix}.{name}"), mul(), &[constant, value])?[0])
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{AttributeProto, TensorProto};

    use super::super::super::tests::graphs::*;
    use crate::engine::Model;
    use crate::types::{Data, Tensor};

    #[test]
    fn doubles_are_scaled_as_doubles() {
        let float = |name: &str, f| AttributeProto {
            name: name.into(),
            r#type: AttributeType::Float as i32,
            f,
            ..AttributeProto::default()
        };
        let constant = |name: &str, dims: &[i64], data: &[f64]| TensorProto {
            name: name.into(),
            data_type: DataType::Double as i32,
            dims: dims.to_vec(),
            double_data: data.to_vec(),
            ..TensorProto::default()
        };
        let mut gemm = node("", "Gemm", &["X", "W", "B"], &["Y"]);
        gemm.attribute = vec![float("alpha", 0.5), float("beta", 2.0), int("transB", 1)];
        let rows = |name| vec![value(name, DataType::Double, &[D::S("N"), D::N(2)])];
        let weights =
            vec![constant("W", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), constant("B", &[2], &[1e-12, 1.0])];
        let proto = model(vec![gemm], rows("X"), rows("Y"), weights);
        let mut session = load_proto(&proto).unwrap().session().unwrap();
        let fp64 = |name, data: &[f64]| Tensor::new(name, vec![1, 2], Data::Fp64(data.to_vec()));
        let outputs = session.run(&[fp64("X", &[1.0, 1.0]).unwrap()]).unwrap();
        assert_eq!(outputs[0], fp64("Y", &[1.5 + 2e-12, 5.5]).unwrap());
    }
}
