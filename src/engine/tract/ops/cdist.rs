//! `com.microsoft.CDist`: the distances of every row of A to every row of B,
//! as scikit-learn's neighbours and kernels are exported with
//! `optim="cdist"`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use crate::engine::onnx_ml::{Attributes, Built, Fact, Kernel, built};

#[derive(Debug)]
struct CDist {
    /// Distances, and not their squares.
    root: bool,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["metric"])?;
    let root = match attributes.string("metric", "sqeuclidean")? {
        "euclidean" => true,
        "sqeuclidean" => false,
        other => bail!("expected the metric euclidean or sqeuclidean, got {other:?}"),
    };
    built(CDist { root })
}

impl Kernel for CDist {
    fn name(&self) -> &'static str {
        "com.microsoft.CDist"
    }

    fn input_count(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [a, b] = inputs else { bail!("expected two inputs") };
        ensure!(
            a.datatype == b.datatype && matches!(a.datatype, DatumType::F32 | DatumType::F64),
            "expected two inputs of FP32 or FP64, got {:?} and {:?}",
            a.datatype,
            b.datatype
        );
        ensure!(
            a.shape.len() == 2 && b.shape.len() == 2 && a.shape[1].compatible_with(&b.shape[1]),
            "expected two matrices of the same width, got {:?} and {:?}",
            a.shape,
            b.shape
        );
        Ok(tvec![Fact::new(a.datatype, [a.shape[0].clone(), b.shape[0].clone()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, columns) = (inputs[0].shape(), inputs[1].shape());
        ensure!(rows[1] == columns[1], "rows of {} and of {} numbers", rows[1], columns[1]);
        let (width, shape) = (rows[1], [rows[0], columns[0]]);
        let (a, b) = (inputs[0].try_as_plain_ram()?, inputs[1].try_as_plain_ram()?);
        let distances = if inputs[0].datum_type() == DatumType::F32 {
            let squares = squares(a.as_slice::<f32>()?, b.as_slice::<f32>()?, width);
            tensor1(&squares.map(|x| if self.root { x.sqrt() } else { x }).collect::<Vec<f32>>())
        } else {
            let squares = squares(a.as_slice::<f64>()?, b.as_slice::<f64>()?, width);
            tensor1(&squares.map(|x| if self.root { x.sqrt() } else { x }).collect::<Vec<f64>>())
        };
        Ok(tvec![distances.into_shape(&shape)?])
    }
}

/// The squared distances, by difference: nothing is lost where rows are near.
fn squares<'a, T>(a: &'a [T], b: &'a [T], width: usize) -> impl Iterator<Item = T>
where
    T: Copy + std::ops::Sub<Output = T> + std::ops::Mul<Output = T> + std::iter::Sum<T>,
{
    let rows = move |data: &'a [T]| data.chunks_exact(width.max(1));
    rows(a).flat_map(move |x| {
        rows(b).map(move |y| x.iter().zip(y).map(|(&x, &y)| (x - y) * (x - y)).sum::<T>())
    })
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{AttributeProto, OperatorSetIdProto};

    use super::super::super::tests::graphs::*;
    use crate::engine::Model;

    #[test]
    fn distances_are_those_of_every_row_to_every_row() {
        let matrix = |name, rows| value(name, DataType::Float, &[rows, D::S("")]);
        for (metric, expected) in
            [("euclidean", [5.0, 0.0, 5.0, 0.0]), ("sqeuclidean", [25.0, 0.0, 25.0, 0.0])]
        {
            let mut node = node("com.microsoft", "CDist", &["A", "B"], &["Y"]);
            node.attribute = vec![AttributeProto {
                name: "metric".into(),
                r#type: AttributeType::String as i32,
                s: metric.into(),
                ..AttributeProto::default()
            }];
            let inputs = vec![matrix("A", D::S("N")), matrix("B", D::N(2))];
            let mut proto = model(vec![node], inputs, vec![matrix("Y", D::S("N"))], vec![]);
            let microsoft = OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 };
            proto.opset_import.push(microsoft);
            let mut session = load_proto(&proto).unwrap().session().unwrap();
            let given = |name, data: &[f32]| fp32(name, &[2, 2], data);
            let rows = [given("A", &[3.0, 4.0, 3.0, 4.0]), given("B", &[0.0, 0.0, 3.0, 4.0])];
            assert_eq!(session.run(&rows).unwrap()[0], given("Y", &expected));
        }
    }
}
