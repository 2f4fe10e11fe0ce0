//! Recurrent operators start anew with every run.
//!
//! tract keeps the state of Scan, LSTM, GRU and RNN from one run of a session
//! to the next, for streams of audio; in ONNX a run knows nothing of the ones
//! before it. Without this, a request would be answered from another's rows.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::Scan;

/// Makes the operators of `model`, and of the graphs within, forget. For a
/// typed model: the optimiser keeps what is set here.
pub(super) fn forget_between_runs(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            forget_between_runs(&mut scan.body);
        } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
            gru.reset_every_turn = true;
        } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
            forget_between_runs(&mut branches.then_body);
            forget_between_runs(&mut branches.else_body);
        }
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

    use super::super::tests::graphs::*;
    use crate::engine::Model;

    /// `last` and `sums` are running sums over the rows of X, from the start S.
    fn running_sum() -> NodeProto {
        let rows = || [D::N(2)];
        let body = GraphProto {
            node: vec![
                node("", "Add", &["state", "row"], &["sum"]),
                node("", "Identity", &["sum"], &["kept"]),
            ],
            name: "body".into(),
            input: ["state", "row"].map(|name| value(name, DataType::Float, &rows())).to_vec(),
            output: ["sum", "kept"].map(|name| value(name, DataType::Float, &rows())).to_vec(),
            ..GraphProto::default()
        };
        let body = AttributeProto {
            name: "body".into(),
            r#type: AttributeType::Graph as i32,
            g: Some(body),
            ..AttributeProto::default()
        };
        let mut scan = node("", "Scan", &["S", "X"], &["last", "sums"]);
        scan.attribute = vec![int("num_scan_inputs", 1), body];
        scan
    }

    #[test]
    fn a_run_knows_nothing_of_the_one_before() {
        let float = |name, shape: &[D]| value(name, DataType::Float, shape);
        let inputs = vec![float("S", &[D::N(2)]), float("X", &[D::S("N"), D::N(2)])];
        let outputs = vec![float("last", &[D::N(2)]), float("sums", &[D::S("N"), D::N(2)])];
        let proto = model(vec![running_sum()], inputs, outputs, vec![]);
        let model = load_proto(&proto).unwrap();
        let mut session = model.session().unwrap();
        for (start, rows) in [(0.0, 1), (10.0, 3), (20.0, 1)] {
            let inputs =
                [fp32("S", &[2], &[start; 2]), fp32("X", &[rows, 2], &vec![1.0; rows * 2])];
            let outputs = session.run(&inputs).unwrap();
            let sums = (1..=rows).flat_map(|i| [start + i as f32; 2]).collect::<Vec<_>>();
            assert_eq!(outputs[0], fp32("last", &[2], &[start + rows as f32; 2]));
            assert_eq!(outputs[1], fp32("sums", &[rows, 2], &sums));
        }
    }
}
