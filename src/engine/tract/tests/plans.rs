//! Symbolic plans, plans per shape, and sessions that change sizes.

use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::super::plans::PLANS_MAX;
use super::graphs::*;
use crate::engine::{EngineErrorKind, Model};

/// `Y = A · B` with two unrelated inner dimensions, which tract would take
/// for equal and multiply without a check.
fn unrelated() -> ModelProto {
    let input = |name, shape: &[D]| value(name, DataType::Float, shape);
    model(
        vec![node("", "MatMul", &["A", "B"], &["Y"])],
        vec![
            input("A", &[D::S("rows"), D::S("inner of a")]),
            input("B", &[D::S("inner of b"), D::N(2)]),
        ],
        vec![input("Y", &[D::S(""), D::N(2)])],
        vec![],
    )
}

/// More sizes than the cache holds, up and down.
fn sizes() -> impl Iterator<Item = usize> {
    let sizes = 1..=PLANS_MAX + 4;
    sizes.clone().chain(sizes.rev())
}

#[test]
fn one_session_runs_any_batch_size_in_turn() {
    let loaded = load_proto(&unary("", "Relu", vec![])).unwrap();
    assert!(loaded.plans.is_open());
    let mut session = loaded.session().unwrap();
    for rows in sizes() {
        let data = (0..2 * rows).map(|i| i as f32).collect::<Vec<_>>();
        let got = session.run(&[fp32("X", &[rows, 2], &data)]).unwrap();
        assert_eq!(got, [fp32("Y", &[rows, 2], &data)]);
    }
}

#[test]
fn a_plan_per_shape_serves_where_symbols_do_not() {
    let loaded = load_proto(&unrelated()).unwrap();
    assert!(!loaded.plans.is_open());
    let mut session = loaded.session().unwrap();
    for rows in sizes() {
        let a = fp32("A", &[rows, 3], &vec![1.0; 3 * rows]);
        let b = fp32("B", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let got = session.run(&[a, b]).unwrap();
        assert_eq!(got, [fp32("Y", &[rows, 2], &[9.0, 12.0].repeat(rows))]);
    }
}

#[test]
fn a_failed_run_spoils_no_later_one() {
    let loaded = load_proto(&unrelated()).unwrap();
    let mut session = loaded.session().unwrap();
    let ones = |name, shape: &[usize]| fp32(name, shape, &vec![1.0; shape.iter().product()]);
    session.run(&[ones("A", &[1, 2]), ones("B", &[3, 2])]).unwrap_err();
    let got = session.run(&[ones("A", &[1, 3]), ones("B", &[3, 2])]).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[3.0; 2])]);

    let loaded = load_proto(&unary("", "Relu", vec![])).unwrap();
    let mut session = loaded.session().unwrap();
    let error = session.run(&[ones("X", &[2, 3])]).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Internal);
    let got = session.run(&[ones("X", &[5, 2])]).unwrap();
    assert_eq!(got, [fp32("Y", &[5, 2], &[1.0; 10])]);
}

/// Here the symbol meets a number: only a batch of 5 is right.
#[test]
fn a_symbol_is_not_taken_for_a_number() {
    let weights = tract_onnx::pb::TensorProto {
        name: "W".into(),
        data_type: DataType::Float as i32,
        dims: vec![1, 5],
        float_data: vec![1.0; 5],
        ..Default::default()
    };
    let values = |name, rows| vec![value(name, DataType::Float, &[D::S(rows), D::N(2)])];
    let product = node("", "MatMul", &["W", "X"], &["Y"]);
    let proto = model(vec![product], values("X", "N"), values("Y", ""), vec![weights]);
    match load_proto(&proto) {
        Err(error) => assert_eq!(error.kind, EngineErrorKind::Unsupported),
        Ok(loaded) => {
            let mut session = loaded.session().unwrap();
            session.run(&[fp32("X", &[3, 2], &[1.0; 6])]).unwrap_err();
            session.run(&[fp32("X", &[7, 2], &[1.0; 14])]).unwrap_err();
        }
    }
}

/// scikit-learn's converters leave the batch of every column unnamed.
#[test]
fn unnamed_batches_are_one() {
    let mut concat = node("", "Concat", &["A", "B"], &["Y"]);
    concat.attribute = vec![int("axis", 1)];
    let column = |name, width| value(name, DataType::Float, &[D::S(""), D::N(width)]);
    let inputs = vec![column("A", 1), column("B", 1)];
    let loaded = load_proto(&model(vec![concat], inputs, vec![column("Y", 2)], vec![])).unwrap();
    assert!(loaded.plans.is_open());
    let mut session = loaded.session().unwrap();
    let column = |name, data: &[f32]| fp32(name, &[data.len(), 1], data);
    let got = session.run(&[column("A", &[1.0, 2.0]), column("B", &[3.0, 4.0])]).unwrap();
    assert_eq!(got, [fp32("Y", &[2, 2], &[1.0, 3.0, 2.0, 4.0])]);
    let error = session.run(&[column("A", &[1.0, 2.0]), column("B", &[3.0])]).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::BadInput);
    assert!(
        error.message.contains("\"A\" has the size 2, and axis 0 of input \"B\" has 1"),
        "{error}"
    );
}
