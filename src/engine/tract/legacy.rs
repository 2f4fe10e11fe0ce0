//! Files of operator set 6, as PyTorch and others wrote them until 2018, in
//! terms of operator set 7: there, operators broadcast by the shapes, and no
//! more by attributes.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::check::each_subgraph_mut;

/// The operators that broadcast by `broadcast` and `axis`.
const BROADCAST: [&str; 11] =
    ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"];

/// What brings the second operand to the axis of the first:
/// [`super::ops`] enters it.
pub(super) const ALIGN: &str = "foreshadow.Align";

/// Rewrites a file of operator set 6; leaves others alone.
pub(super) fn modernise(proto: &mut ModelProto) {
    let default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let Some(import) = proto.opset_import.iter_mut().find(|i| default(&i.domain)) else { return };
    if import.version != 6 {
        return;
    }
    import.version = 7;
    proto.graph.iter_mut().for_each(modernise_graph);
}

fn modernise_graph(graph: &mut GraphProto) {
    let nodes = std::mem::take(&mut graph.node);
    for (i, mut node) in nodes.into_iter().enumerate() {
        each_subgraph_mut(&mut node, &mut modernise_graph);
        if BROADCAST.contains(&&*node.op_type) {
            graph.node.extend(align(&mut node, i));
        }
        if BROADCAST.contains(&&*node.op_type) || node.op_type == "Gemm" {
            let old = ["axis", "broadcast", "consumed_inputs"];
            node.attribute.retain(|attribute| !old.contains(&&*attribute.name));
        }
        graph.node.push(node);
    }
}

/// The node that must come before `node`, if it names an axis.
fn align(node: &mut NodeProto, i: usize) -> Option<NodeProto> {
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis")?.clone();
    let (first, second) = (node.input.first()?.clone(), node.input.get_mut(1)?);
    let aligned = format!("{second}#aligned{i}");
    let given = std::mem::replace(second, aligned.clone());
    Some(NodeProto {
        op_type: ALIGN.into(),
        input: vec![first, given],
        output: vec![aligned.clone()],
        name: aligned,
        attribute: vec![axis],
        ..NodeProto::default()
    })
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::TensorProto;
    use tract_onnx::pb::tensor_proto::DataType;

    use super::super::tests::graphs::*;
    use crate::engine::Model;

    #[test]
    fn an_old_file_broadcasts_at_its_axis() {
        for (axis, expected) in
            [(0, [1.0, 1.0, 2.0, 2.0]), (1, [1.0, 2.0, 1.0, 2.0]), (-1, [1.0, 2.0, 1.0, 2.0])]
        {
            let mut add = node("", "Add", &["X", "B"], &["Y"]);
            add.attribute = vec![int("broadcast", 1), int("axis", axis)];
            let shape = || [D::N(2), D::N(2)];
            let values = |name| vec![value(name, DataType::Float, &shape())];
            let bias = TensorProto {
                name: "B".into(),
                data_type: DataType::Float as i32,
                dims: vec![2],
                float_data: vec![1.0, 2.0],
                ..TensorProto::default()
            };
            let mut proto = model(vec![add], values("X"), values("Y"), vec![bias]);
            assert!(refusal(&proto).contains("no attribute \"broadcast\""));
            proto.opset_import[0].version = 6;
            let mut session = load_proto(&proto).unwrap().session().unwrap();
            let outputs = session.run(&[fp32("X", &[2, 2], &[0.0; 4])]).unwrap();
            assert_eq!(outputs[0], fp32("Y", &[2, 2], &expected), "axis {axis}");
        }
    }
}
