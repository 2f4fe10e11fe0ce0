//! `Compress`, instead of tract's, which cannot be typed: how many elements are
//! left is known only when it runs, and a symbol until then.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use crate::engine::onnx_ml::{Attributes, Built, Fact, Kernel, built};

#[derive(Debug)]
struct Compress {
    /// None: of the elements in their order.
    axis: Option<i64>,
    count: Symbol,
}

pub(super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["axis"])?;
    let given = node.attribute.iter().any(|attribute| attribute.name == "axis");
    let axis = given.then(|| attributes.int("axis", 0)).transpose()?;
    let count = context.template.symbols.new_with_prefix("kept");
    built(Compress { axis, count })
}

impl Compress {
    fn axis(&self, rank: usize) -> TractResult<Option<usize>> {
        let Some(axis) = self.axis else { return Ok(None) };
        let at = if axis < 0 { axis + i64::try_from(rank)? } else { axis };
        let at = usize::try_from(at).ok().filter(|at| *at < rank);
        Ok(Some(at.with_context(|| format!("there is no axis {axis} among {rank}"))?))
    }
}

impl Kernel for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn input_count(&self) -> usize {
        2
    }

    fn binds_symbols(&self) -> bool {
        true
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [data, condition] = inputs else { bail!("expected two inputs") };
        ensure!(
            condition.datatype == DatumType::Bool && condition.shape.len() == 1,
            "expected a list of BOOL as the condition, got {:?} {:?}",
            condition.datatype,
            condition.shape
        );
        let Some(axis) = self.axis(data.shape.len())? else {
            return Ok(tvec![Fact::new(data.datatype, [self.count.to_dim()])]);
        };
        let mut shape = data.shape.clone();
        shape[axis] = self.count.to_dim();
        Ok(tvec![Fact::new(data.datatype, shape)])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let condition = inputs[1].try_as_plain_ram()?;
        let kept = condition.as_slice::<bool>()?.iter().enumerate().filter(|(_, keep)| **keep);
        let kept = kept.map(|(i, _)| i).collect::<Vec<_>>();
        let flat = self.axis(inputs[0].rank())?.is_none();
        let data = if flat {
            inputs[0].clone().into_shape(&[inputs[0].len()])?
        } else {
            inputs[0].clone()
        };
        let axis = self.axis(inputs[0].rank())?.unwrap_or(0);
        let size = data.shape()[axis];
        ensure!(
            kept.last().is_none_or(|last| *last < size),
            "the condition keeps element {} of {size}",
            kept.last().copied().unwrap_or_default()
        );
        if kept.is_empty() {
            let mut shape = data.shape().to_vec();
            shape[axis] = 0;
            return Ok(tvec![Tensor::zero_dt(data.datum_type(), &shape)?]);
        }
        let slices = kept.iter().map(|&i| data.slice(axis, i, i + 1));
        let slices = slices.collect::<TractResult<Vec<_>>>()?;
        Ok(tvec![Tensor::stack_tensors(axis, &slices)?])
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::tensor_proto::DataType;

    use super::super::super::tests::graphs::*;
    use crate::engine::Model;
    use crate::types::{Data, Tensor};

    #[test]
    fn how_much_is_kept_is_known_when_it_runs() {
        for (axis, kept, shape, expected) in [
            (Some(0), vec![false, true], vec![1, 2], vec![3.0, 4.0]),
            (Some(-1), vec![true, false], vec![2, 1], vec![1.0, 3.0]),
            (Some(0), vec![false, false], vec![0, 2], vec![]),
            (None, vec![true, false, false, true], vec![2], vec![1.0, 4.0]),
        ] {
            let mut compress = node("", "Compress", &["X", "C"], &["Y"]);
            compress.attribute = axis.map(|axis| int("axis", axis)).into_iter().collect();
            let rank = [D::S("a"), D::S("b")];
            let inputs = vec![
                value("X", DataType::Float, &[D::S("N"), D::N(2)]),
                value("C", DataType::Bool, &[D::S("M")]),
            ];
            let outputs = vec![value("Y", DataType::Float, &rank[..shape.len()])];
            let proto = model(vec![compress], inputs, outputs, vec![]);
            let mut session = load_proto(&proto).unwrap().session().unwrap();
            let condition = Tensor::new("C", vec![kept.len()], Data::Bool(kept)).unwrap();
            let rows = fp32("X", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
            let outputs = session.run(&[rows, condition]).unwrap();
            assert_eq!(outputs[0], fp32("Y", &shape, &expected));
        }
    }
}
