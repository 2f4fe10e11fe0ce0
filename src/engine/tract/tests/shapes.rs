//! Models with several varying dimensions give onnxruntime's answers at every
//! size of each (`tests/data/engine/shapes.py` made them).

use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::super::plans::PLANS_MAX;
use super::super::{Tract, TractModel, load};
use super::answers::{difference, read_bytes, read_tensor};
use super::graphs::{D, fp32, ints, load_proto, model as model_of, node, value};
use crate::engine::{EngineErrorKind, Model, Session};
use crate::types::{Data, Tensor};

const MODELS: &str = include_str!("../../../../tests/data/engine/shapes.jsonl");

type Run = (Vec<Tensor>, Vec<Tensor>);

/// The model of this name, and its runs: inputs and expected outputs.
fn model(name: &str) -> (TractModel, Vec<Run>) {
    let lines = MODELS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.into_iter().find(|line| line["name"] == name).unwrap();
    let tensors = |run: &Value, key: &str| -> Vec<Tensor> {
        run[key].as_array().unwrap().iter().map(read_tensor).collect()
    };
    let runs = line["runs"].as_array().unwrap().iter();
    let runs = runs.map(|run| (tensors(run, "inputs"), tensors(run, "outputs"))).collect();
    let loaded = load::load_bytes(&Tract::new().onnx, &read_bytes(&line["model"])).unwrap();
    (loaded, runs)
}

fn check(name: &str, session: &mut dyn Session, (inputs, expected): &Run) {
    let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
    let outputs = session.run(inputs).unwrap_or_else(|e| panic!("{name} at {shapes:?}: {e}"));
    assert_eq!(outputs.len(), expected.len());
    for (got, expected) in outputs.iter().zip(expected) {
        assert_eq!(difference(got, expected), None, "{name} at {shapes:?}");
    }
}

#[test]
fn any_sizes_give_onnxruntimes_answers() {
    let kinds = [
        ("transformer", "open"),
        ("transformer_unnamed", "open, Shapes"),
        ("two_towers", "open"),
        ("centred", "open"),
        ("series", "open"),
        ("image", "open"),
        ("recurrent", "Others(0)"),
    ];
    let mut found = Vec::new();
    for (name, _) in kinds {
        let (loaded, runs) = model(name);
        found.push((name, loaded.plans.kind()));
        // One session for all, up and down; and a new one for each.
        let mut session = loaded.session().unwrap();
        for run in runs.iter().chain(runs.iter().rev()) {
            check(name, &mut *session, run);
            check(name, &mut *loaded.session().unwrap(), run);
        }
        for (inputs, _) in &runs {
            loaded.signature().check(inputs).unwrap();
        }
    }
    let found: Vec<_> = found.iter().map(|(name, kind)| (*name, &**kind)).collect();
    assert_eq!(found, kinds);
}

/// Exporters that give each input dimensions of its own leave it to the
/// request to make them equal; where it does not, onnxruntime broadcasts.
#[test]
fn inputs_whose_names_differ_may_have_equal_sizes_or_not() {
    let own = |name: &str, rows| value(name, DataType::Float, &[D::S(rows), D::N(2)]);
    let inputs = vec![own("A", "unk__1"), own("B", "unk__2")];
    let sum = node("", "Add", &["A", "B"], &["Y"]);
    let loaded =
        load_proto(&model_of(vec![sum], inputs, vec![own("Y", "unk__3")], vec![])).unwrap();
    assert_eq!(loaded.plans.kind(), "open, Shapes");
    let mut session = loaded.session().unwrap();
    for (a, b) in [(1, 1), (3, 3), (3, 1), (1, 4), (5, 5)] {
        let inputs = [fp32("A", &[a, 2], &vec![1.0; 2 * a]), fp32("B", &[b, 2], &vec![2.0; 2 * b])];
        let rows = a.max(b);
        let expected = fp32("Y", &[rows, 2], &vec![3.0; 2 * rows]);
        assert_eq!(session.run(&inputs).unwrap(), [expected], "{a} and {b} rows");
    }
    let inputs = [fp32("A", &[2, 2], &[0.0; 4]), fp32("B", &[3, 2], &[0.0; 6])];
    let error = session.run(&inputs).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::BadInput);
    assert!(error.message.contains("inputs of shapes [[2, 2], [3, 2]]"), "{error}");
}

/// A loop's last values must not reach the next request.
#[test]
fn a_recurrent_model_forgets() {
    let (loaded, runs) = model("recurrent");
    let mut session = loaded.session().unwrap();
    let first = session.run(&runs[0].0).unwrap();
    for _ in 0..3 {
        assert_eq!(session.run(&runs[0].0).unwrap(), first);
    }
}

#[test]
fn a_burst_of_odd_shapes_is_bounded_and_goes_back() {
    let (loaded, _) = model("recurrent");
    let mut session = loaded.session().unwrap();
    let mut run = |rows: usize| {
        let x = fp32("x", &[2, rows, 2], &vec![0.5; 4 * rows]);
        session.run(&[x]).unwrap()
    };
    let count = PLANS_MAX + 6;
    for rows in 1..=count {
        run(rows);
    }
    let burst = loaded.plans();
    assert_eq!((burst.held, burst.made, burst.evicted), (PLANS_MAX, count as u64, 6));
    run(count);
    assert_eq!(loaded.plans(), burst, "a known shape is made again");
    loaded.trim(Duration::from_secs(3600));
    assert_eq!(loaded.plans(), burst, "nobody was idle");
    loaded.trim(Duration::ZERO);
    let after = loaded.plans();
    assert_eq!((after.held, after.bytes, after.evicted), (0, 0, count as u64));
    run(1);
    assert_eq!(loaded.plans().held, 1);
}

#[test]
fn who_comes_first_makes_the_plan_and_the_others_wait() {
    let (loaded, _) = model("recurrent");
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut session = loaded.session().unwrap();
                start.wait();
                session.run(&[fp32("x", &[3, 5, 2], &[0.5; 30])]).unwrap();
            });
        }
    });
    assert_eq!(loaded.plans().made, 1);
}

#[test]
fn a_plan_that_is_not_there_is_not_made_in_passing() {
    let (loaded, _) = model("recurrent");
    let mut session = loaded.session().unwrap();
    let x = [fp32("x", &[3, 5, 2], &[0.5; 30])];
    assert_eq!((loaded.run_time(&x), session.run_known(&x).unwrap()), (None, None));
    let made = session.run(&x).unwrap();
    assert!(loaded.run_time(&x).is_some());
    assert_eq!(session.run_known(&x).unwrap(), Some(made));
}

/// The batch meets itself: a request of a megabyte would make a tensor of
/// hundreds of gigabytes.
#[test]
fn a_request_cannot_ask_for_any_amount_of_memory() {
    let column = |name: &str, shape: &[D]| value(name, DataType::Float, shape);
    let mut flip = node("", "Transpose", &["X"], &["T"]);
    flip.attribute = vec![ints("perm", &[1, 0])];
    let product = node("", "MatMul", &["X", "T"], &["Y"]);
    let inputs = vec![column("X", &[D::S("N"), D::N(1)])];
    let outputs = vec![column("Y", &[D::S("N"), D::S("N")])];
    let loaded = load_proto(&model_of(vec![flip, product], inputs, outputs, vec![])).unwrap();
    assert_eq!(loaded.plans.kind(), "open");
    let mut session = loaded.session().unwrap();
    let rows = 1 << 18;
    let error = session.run(&[fp32("X", &[rows, 1], &vec![1.0; rows])]).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::BadInput);
    assert!(error.message.contains("larger than 1073741824 bytes"), "{error}");
    assert_eq!(session.run(&[fp32("X", &[1, 1], &[3.0])]).unwrap()[0], fp32("Y", &[1, 1], &[9.0]));
}

/// The size follows from a value: only the run can tell.
#[test]
fn nor_can_a_value() {
    let scalar = |name: &str| value(name, DataType::Int64, &[]);
    let constant = |name: &str, value| TensorProto {
        name: name.into(),
        data_type: DataType::Int64 as i32,
        int64_data: vec![value],
        ..TensorProto::default()
    };
    let range = node("", "Range", &["zero", "X", "one"], &["Y"]);
    let outputs = vec![value("Y", DataType::Int64, &[D::S("")])];
    let constants = vec![constant("zero", 0), constant("one", 1)];
    let loaded = load_proto(&model_of(vec![range], vec![scalar("X")], outputs, constants)).unwrap();
    let mut session = loaded.session().unwrap();
    let end = |end| [Tensor::new("X", vec![], Data::Int64(vec![end])).unwrap()];
    assert_eq!(session.run(&end(3)).unwrap()[0].data(), &Data::Int64(vec![0, 1, 2]));
    let error = session.run(&end(1 << 40)).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::BadInput);
    assert!(error.message.contains("Range (node \"Range0\")"), "{error}");
    assert!(error.message.contains("1099511627776 elements, more than"), "{error}");
    assert_eq!(session.run(&end(1)).unwrap()[0].data(), &Data::Int64(vec![0]));
}
