//! Broken and hostile files are refused with a reason, and never panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::super::{Tract, load};
use super::graphs::*;
use crate::engine::{Engine, EngineErrorKind, Model};
use crate::types::{Data, Datatype, Dim, Tensor};

const ML: &str = "ai.onnx.ml";

fn graph(proto: &mut ModelProto) -> &mut GraphProto {
    proto.graph.as_mut().unwrap()
}

fn first(proto: &mut ModelProto) -> &mut NodeProto {
    &mut graph(proto).node[0]
}

#[test]
fn what_is_no_onnx_file_is_refused() {
    let onnx = Tract::new().onnx;
    for bytes in [&b""[..], b"not a model", b"\x08\x08", &[0xff; 64]] {
        let error = load::load_bytes(&onnx, bytes).err().unwrap();
        assert_eq!(error.kind, EngineErrorKind::Unsupported, "{error}");
    }
    let error = Tract::new().load(std::path::Path::new("/no/such/model.onnx")).err().unwrap();
    assert!(error.message.contains("/no/such/model.onnx"), "{error}");
}

#[test]
fn every_unsupported_operator_is_named() {
    let mut proto = unary(ML, "NoSuchMachine", vec![]);
    first(&mut proto).name = "svc".into();
    graph(&mut proto).node.push(node("", "NoSuchOp", &["X"], &["Z"]));
    assert_eq!(
        refusal(&proto),
        "unsupported operators: ai.onnx.ml.NoSuchMachine (node \"svc\"), \
         NoSuchOp (node \"NoSuchOp0\")"
    );
}

/// tract registers by short name: a Relu of somebody else's must not run.
#[test]
fn an_operator_of_another_domain_is_not_taken_for_a_known_one() {
    let mut proto = unary("com.example", "Relu", vec![]);
    assert!(refusal(&proto).contains("\"com.example\", which the file does not import"));
    // The other way about: tract has a short name for an operator of ai.onnx.ml.
    let short = unary("", "Normalizer", vec![]);
    assert!(refusal(&short).starts_with("unsupported operators: Normalizer (node"));

    let opset = tract_onnx::pb::OperatorSetIdProto { domain: "com.example".into(), version: 1 };
    proto.opset_import.push(opset);
    assert!(refusal(&proto).starts_with("unsupported operators: com.example.Relu"));
}

#[test]
fn sizes_must_fit_the_file() {
    let huge = 50_000_000_000;
    let weights = |dims: &[i64]| TensorProto {
        name: "W".into(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        float_data: vec![1.0, 2.0],
        ..TensorProto::default()
    };
    let with = |tensor: TensorProto| {
        let mut proto = unary("", "Add", vec![]);
        first(&mut proto).input.push("W".into());
        graph(&mut proto).initializer.push(tensor);
        proto
    };
    assert!(load_proto(&with(weights(&[2]))).is_ok());
    for dims in [&[huge][..], &[-2], &[3], &[i64::MAX, i64::MAX], &[0]] {
        assert!(refusal(&with(weights(dims))).starts_with("initialiser \"W\": the shape"));
    }
    let location = Some(DataLocation::External as i32);
    let external = TensorProto { data_location: location, ..weights(&[2]) };
    assert!(refusal(&with(external)).contains("external data at \"\""));

    let filled = vec![value("Y", DataType::Float, &[D::S("")])];
    let shape = TensorProto {
        name: "shape".into(),
        data_type: DataType::Int64 as i32,
        dims: vec![1],
        int64_data: vec![huge],
        ..TensorProto::default()
    };
    let input = vec![value("X", DataType::Float, &[D::N(1)])];
    let fill = node("", "ConstantOfShape", &["shape"], &["Y"]);
    let proto = model(vec![fill], input, filled, vec![shape]);
    assert!(refusal(&proto).starts_with("ConstantOfShape (node \"ConstantOfShape0\") asks for"));

    let mut proto = unary("", "Relu", vec![]);
    graph(&mut proto).input[0] = value("X", DataType::Float, &[D::N(huge), D::N(2)]);
    assert!(refusal(&proto).starts_with("input \"X\" of shape"));
}

#[test]
fn a_constant_reshape_must_make_sense() {
    let to = |dims: &[i64]| {
        let shape = TensorProto {
            name: "shape".into(),
            data_type: DataType::Int64 as i32,
            dims: vec![dims.len() as i64],
            int64_data: dims.to_vec(),
            ..TensorProto::default()
        };
        let input = vec![value("X", DataType::Float, &[D::S("N"), D::N(2)])];
        let output = vec![value("Y", DataType::Float, &[D::S(""), D::S("")])];
        model(vec![node("", "Reshape", &["X", "shape"], &["Y"])], input, output, vec![shape])
    };
    assert!(load_proto(&to(&[-1, 1])).is_ok());
    for bad in [[-1, -1], [-7, 2]] {
        assert!(refusal(&to(&bad)).starts_with("Reshape (node \"Reshape0\") to ["));
    }
}

#[test]
fn values_must_have_one_producer_each_before_their_use() {
    let mut proto = unary("", "Relu", vec![]);
    first(&mut proto).input[0] = "nowhere".into();
    assert!(refusal(&proto).contains("nothing before it produces its input \"nowhere\""));

    let mut proto = unary("", "Relu", vec![]);
    graph(&mut proto).output[0].name = "nowhere".into();
    assert_eq!(refusal(&proto), "nothing produces the output \"nowhere\"");

    let mut proto = unary("", "Relu", vec![]);
    graph(&mut proto).node.push(node("", "Relu", &["X"], &["Y"]));
    assert!(refusal(&proto).contains("\"Y\" is produced twice"));
}

#[test]
fn graphs_lie_within_graphs_to_a_depth() {
    let mut inner = graph(&mut unary("", "Relu", vec![])).clone();
    for _ in 0..20 {
        let mut proto = unary("", "If", vec![]);
        first(&mut proto).attribute = vec![tract_onnx::pb::AttributeProto {
            name: "then_branch".into(),
            r#type: tract_onnx::pb::attribute_proto::AttributeType::Graph as i32,
            g: Some(inner),
            ..Default::default()
        }];
        inner = graph(&mut proto).clone();
    }
    let mut proto = unary("", "Relu", vec![]);
    proto.graph = Some(inner);
    assert!(refusal(&proto).contains("graphs within graphs beyond 8 levels"));
}

/// `If` with these two bodies.
fn branches(bodies: [GraphProto; 2]) -> ModelProto {
    let body = |(name, graph): (&str, GraphProto)| tract_onnx::pb::AttributeProto {
        name: name.into(),
        r#type: tract_onnx::pb::attribute_proto::AttributeType::Graph as i32,
        g: Some(graph),
        ..Default::default()
    };
    let mut either = node("", "If", &["C"], &["Y"]);
    either.attribute = ["then_branch", "else_branch"].into_iter().zip(bodies).map(body).collect();
    let inputs =
        vec![value("C", DataType::Bool, &[]), value("X", DataType::Float, &[D::N(1), D::N(2)])];
    model(vec![either], inputs, vec![value("Y", DataType::Float, &[D::N(1), D::N(2)])], vec![])
}

/// A body that uses `of`, which it does not make itself.
fn body(of: &str) -> GraphProto {
    GraphProto {
        node: vec![node("", "Relu", &[of], &["B"])],
        name: "body".into(),
        output: vec![value("B", DataType::Float, &[D::N(1), D::N(2)])],
        ..GraphProto::default()
    }
}

#[test]
fn graphs_within_graphs_are_checked_too() {
    let good = load_proto(&branches([body("X"), body("X")])).unwrap();
    let truth = Tensor::new("C", vec![], Data::Bool(vec![true])).unwrap();
    let x = fp32("X", &[1, 2], &[-1.0, 1.0]);
    let got = good.session().unwrap().run(&[truth, x]).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[0.0, 1.0])]);

    let nowhere = refusal(&branches([body("X"), body("nowhere")]));
    assert_eq!(
        nowhere,
        "in If (node \"If0\"): Relu (node \"Relu0\"): nothing before it produces its input \
         \"nowhere\""
    );
    let mut nameless = body("nowhere");
    nameless.node[0].name.clear();
    let nameless = refusal(&branches([nameless, body("X")]));
    assert!(nameless.contains("Relu (node \"B\")"), "what it makes names it: {nameless}");
    let mut foreign = body("X");
    foreign.node[0].domain = "com.example".into();
    assert!(refusal(&branches([body("X"), foreign])).contains("which the file does not import"));

    let mut greedy = body("ones");
    let shape = TensorProto {
        name: "shape".into(),
        data_type: DataType::Int64 as i32,
        dims: vec![1],
        int64_data: vec![50_000_000_000],
        ..TensorProto::default()
    };
    greedy.initializer.push(shape);
    greedy.node.insert(0, node("", "ConstantOfShape", &["shape"], &["ones"]));
    let greedy = refusal(&branches([body("X"), greedy]));
    assert!(greedy.starts_with("in If (node \"If0\"): ConstantOfShape (node"), "{greedy}");
}

/// Protobuf's own nesting, far deeper than any graph.
#[test]
fn a_recursion_bomb_is_refused_before_it_is_read() {
    let mut bytes = Vec::new();
    // model.graph.node.attribute.g.node.attribute.g …, from the inside out.
    for depth in 0..3_000 {
        let tag = [7_u8, 1, 5, 6][depth % 4] << 3 | 2;
        let mut outer = vec![tag];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(&bytes);
        bytes = outer;
    }
    let error = load::load_bytes(&Tract::new().onnx, &bytes).err().unwrap();
    assert_eq!(error.kind, EngineErrorKind::Unsupported, "{error}");
    assert!(error.message.starts_with("this is no ONNX file"), "{error}");
}

#[test]
fn negative_dimensions_are_no_sizes() {
    let mut proto = unary("", "Relu", vec![]);
    graph(&mut proto).input[0] = value("X", DataType::Float, &[D::N(-1), D::N(2)]);
    let loaded = load_proto(&proto).unwrap();
    assert_eq!(loaded.signature().inputs[0].shape[0], Dim::Any, "some exporters write -1 for any");
    let got = loaded.session().unwrap().run(&[fp32("X", &[3, 2], &[1.0; 6])]).unwrap();
    assert_eq!(got, [fp32("Y", &[3, 2], &[1.0; 6])]);
}

#[test]
fn attributes_must_be_the_operators() {
    let unknown = refusal(&unary("", "Relu", vec![int("to", 1)]));
    assert_eq!(unknown, "Relu (node \"Relu0\"): it has no attribute \"to\"");

    assert!(load_proto(&unary("", "Softmax", vec![int("axis", 1)])).is_ok());
    let mut wrong = int("axis", 1);
    wrong.r#type = floats("", &[]).r#type;
    let wrong = refusal(&unary("", "Softmax", vec![wrong]));
    assert!(wrong.ends_with("attribute \"axis\": its value is not of its kind, FLOATS"), "{wrong}");
}

#[test]
fn shapes_must_fit_together() {
    let weights = TensorProto {
        name: "W".into(),
        data_type: DataType::Float as i32,
        dims: vec![1, 3],
        float_data: vec![1.0; 3],
        ..TensorProto::default()
    };
    let mut proto = unary("", "Add", vec![]);
    first(&mut proto).input.push("W".into());
    graph(&mut proto).initializer.push(weights);
    assert!(refusal(&proto).contains("fit together"), "{}", refusal(&proto));
}

/// tract would forget the type of such an input.
#[test]
fn an_output_may_be_an_input() {
    let mut proto = unary("", "Relu", vec![]);
    let input = graph(&mut proto).input[0].clone();
    graph(&mut proto).output.push(input);
    let loaded = load_proto(&proto).unwrap();
    let x = fp32("X", &[1, 2], &[-1.0, 1.0]);
    let got = loaded.session().unwrap().run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[0.0, 1.0]), x]);
}

/// One tree: a root and two leaves.
fn tree() -> Vec<tract_onnx::pb::AttributeProto> {
    vec![
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[1, 0, 0]),
        strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        floats("nodes_values", &[0.5, 0.0, 0.0]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[3.0, 4.0]),
        int("n_targets", 1),
    ]
}

fn regressor(change: impl FnOnce(&mut Vec<tract_onnx::pb::AttributeProto>)) -> ModelProto {
    let mut attributes = tree();
    change(&mut attributes);
    let mut proto = unary(ML, "TreeEnsembleRegressor", attributes);
    graph(&mut proto).output[0] = value("Y", DataType::Float, &[D::S("N"), D::N(1)]);
    proto
}

#[test]
fn trees_are_checked_at_load() {
    let tract = load_proto(&regressor(|_| {})).unwrap();
    let got = tract.session().unwrap().run(&[fp32("X", &[2, 2], &[0.0, 0.5, 0.0, 0.6])]).unwrap();
    assert_eq!(got, [fp32("Y", &[2, 1], &[3.0, 4.0])]);

    let cases: [(usize, tract_onnx::pb::AttributeProto, &str); 8] = [
        (5, ints("nodes_truenodeids", &[0, 0, 0]), "node 0 of tree 0 is reached twice"),
        (5, ints("nodes_truenodeids", &[7, 0, 0]), "leads to node 7, which is missing"),
        (6, ints("nodes_falsenodeids", &[1, 0, 0]), "node 1 of tree 0 is reached twice"),
        (2, ints("nodes_featureids", &[2, 0, 0]), "the trees ask for 3 features"),
        (2, ints("nodes_featureids", &[-1, 0, 0]), "feature -1"),
        (3, strings("nodes_modes", &["BRANCH_XX", "LEAF", "LEAF"]), "\"BRANCH_XX\""),
        (7, ints("target_treeids", &[1, 0]), "node 1 of tree 1, which is missing"),
        (9, ints("target_ids", &[0, 1]), "\"target_ids\" has 1, expected 0 to 0"),
    ];
    for (at, attribute, expected) in cases {
        let message = refusal(&regressor(|attributes| attributes[at] = attribute));
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

/// Version 5: a root, a branch, and three leaves.
fn ensemble(change: impl FnOnce(&mut Vec<tract_onnx::pb::AttributeProto>)) -> ModelProto {
    let singles = |data: &[f32]| TensorProto {
        data_type: DataType::Float as i32,
        dims: vec![data.len() as i64],
        float_data: data.to_vec(),
        ..TensorProto::default()
    };
    let modes = TensorProto {
        data_type: DataType::Uint8 as i32,
        dims: vec![2],
        raw_data: vec![0, 6],
        ..TensorProto::default()
    };
    let tensor = |name: &str, t: TensorProto| tract_onnx::pb::AttributeProto {
        name: name.into(),
        r#type: tract_onnx::pb::attribute_proto::AttributeType::Tensor as i32,
        t: Some(t),
        ..Default::default()
    };
    let mut attributes = vec![
        tensor("nodes_modes", modes),
        tensor("nodes_splits", singles(&[0.5, 0.0])),
        tensor("leaf_weights", singles(&[1.0, 2.0, 4.0])),
        tensor("membership_values", singles(&[2.0, 3.0, f32::NAN])),
        ints("nodes_featureids", &[0, 1]),
        ints("nodes_truenodeids", &[0, 1]),
        ints("nodes_trueleafs", &[1, 1]),
        ints("nodes_falsenodeids", &[1, 2]),
        ints("nodes_falseleafs", &[0, 1]),
        ints("leaf_targetids", &[0, 0, 0]),
        ints("tree_roots", &[0]),
        int("n_targets", 1),
    ];
    change(&mut attributes);
    let mut proto = unary(ML, "TreeEnsemble", attributes);
    proto.opset_import.iter_mut().filter(|o| o.domain == ML).for_each(|o| o.version = 5);
    graph(&mut proto).output[0] = value("Y", DataType::Float, &[D::S("N"), D::N(1)]);
    proto
}

#[test]
fn ensembles_are_checked_at_load() {
    let loaded = load_proto(&ensemble(|_| {})).unwrap();
    let x = fp32("X", &[3, 2], &[0.5, 0.0, 0.6, 3.0, 0.6, 4.0]);
    let got = loaded.session().unwrap().run(&[x]).unwrap();
    assert_eq!(got, [fp32("Y", &[3, 1], &[1.0, 2.0, 4.0])]);

    let cases: [(usize, tract_onnx::pb::AttributeProto, &str); 9] = [
        (5, ints("nodes_truenodeids", &[3, 1]), "node 0 leads to leaf 3, which is missing"),
        (7, ints("nodes_falsenodeids", &[0, 2]), "node 0 is reached twice"),
        (7, ints("nodes_falsenodeids", &[-1, 2]), "node 0 leads to node -1, which is missing"),
        (8, ints("nodes_falseleafs", &[1, 1]), "node 1 cannot be reached from its root"),
        (8, ints("nodes_falseleafs", &[0]), "expected 2 entries, got 1"),
        (9, ints("leaf_targetids", &[0, 0, 1]), "\"leaf_targetids\" has 1, expected 0 to 0"),
        (10, ints("tree_roots", &[2]), "names a node that is missing"),
        (10, ints("tree_roots", &[]), "expected at least one tree"),
        (3, int("aggregate_function", 4), "expected 0 to 3, got 4"),
    ];
    for (at, attribute, expected) in cases {
        let message = refusal(&ensemble(|attributes| attributes[at] = attribute));
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    let message = refusal(&ensemble(|attributes| drop(attributes.remove(3))));
    assert!(message.contains("\"membership_values\" is missing"), "{message}");
}

#[test]
fn signatures_come_from_the_file() {
    let mut proto = unary("", "Add", vec![]);
    first(&mut proto).input.push("W".into());
    graph(&mut proto).input.push(value("W", DataType::Float, &[D::N(2)]));
    graph(&mut proto).initializer.push(TensorProto {
        name: "W".into(),
        data_type: DataType::Float as i32,
        dims: vec![2],
        float_data: vec![1.0, 2.0],
        ..TensorProto::default()
    });
    graph(&mut proto).output[0] = value("Y", DataType::Float, &[D::S("")]);
    let loaded = load_proto(&proto).unwrap();
    let signature = loaded.signature();
    assert_eq!(signature.inputs.len(), 1);
    assert_eq!(signature.inputs[0].shape, [Dim::Symbol("N".into()), Dim::Fixed(2)]);
    assert_eq!(signature.inputs[0].datatype, Datatype::Fp32);
    assert_eq!(signature.outputs[0].shape, [Dim::Any]);
    let got = loaded.session().unwrap().run(&[fp32("X", &[1, 2], &[1.0, 1.0])]).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[2.0, 3.0])]);
}

#[test]
fn strings_must_be_utf8() {
    let mut proto = unary("", "Identity", vec![]);
    for value_info in [true, false] {
        let name = if value_info { "X" } else { "Y" };
        let text = value(name, DataType::String, &[D::S("N")]);
        let graph = graph(&mut proto);
        *(if value_info { &mut graph.input[0] } else { &mut graph.output[0] }) = text;
    }
    let loaded = load_proto(&proto).unwrap();
    let mut session = loaded.session().unwrap();
    let send = |bytes: &[u8]| Tensor::new("X", vec![1], Data::Bytes(vec![bytes.to_vec()])).unwrap();
    let error = session.run(&[send(b"\xff")]).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::BadInput);
    assert!(error.message.starts_with("input \"X\": element 0"), "{error}");
}

/// Small files of every kind that the mutations start from.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    super::answers::models(&[
        "logistic_words_zipmap",
        "mlp",
        "forest",
        "encoder_text",
        "argmax",
        "svm_pairs_NONE_3_True",
        "svm_regressor_2.0_1_NONE",
        "pipeline_one_hot_True",
        "encoder4_object_float64_False",
    ])
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// A panic inside tract is an error; one outside of it fails this test.
    #[test]
    fn no_mutation_panics(
        seed in 0..SEEDS.len(),
        cut in proptest::option::weighted(0.3, 0.0_f64..1.0),
        edits in proptest::collection::vec((0.0_f64..1.0, any::<u8>()), 1..6),
    ) {
        let mut bytes = SEEDS[seed].clone();
        if let Some(cut) = cut {
            bytes.truncate((bytes.len() as f64 * cut) as usize);
        }
        let len = bytes.len();
        for (at, byte) in edits {
            if let Some(target) = bytes.get_mut((len as f64 * at) as usize) {
                *target = byte;
            }
        }
        if let Ok(loaded) = load::load_bytes(&Tract::new().onnx, &bytes) {
            prop_assert!(loaded.session().is_ok());
        }
    }
}

#[test]
fn a_loaded_file_reads_back() {
    let proto = unary("", "Relu", vec![]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), proto.encode_to_vec()).unwrap();
    let loaded = Tract::new().load(file.path()).unwrap();
    let got = loaded.session().unwrap().run(&[fp32("X", &[1, 2], &[-1.0, 1.0])]).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[0.0, 1.0])]);
}
