//! The operators of `ai.onnx.ml` where onnxruntime gives no answers to compare
//! with: what they refuse, and datatypes that it lacks.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, TensorProto, TypeProto};

use super::graphs::*;
use crate::engine::{EngineErrorKind, Model};
use crate::types::{Data, Dim, Tensor};

const ML: &str = "ai.onnx.ml";

/// A classifier: `label` and `scores` of `X`, rows of two FP32.
fn classifier(op: &str, attributes: &[AttributeProto]) -> ModelProto {
    let mut op = node(ML, op, &["X"], &["label", "scores"]);
    op.attribute = attributes.to_vec();
    let input = vec![value("X", DataType::Float, &[D::S("N"), D::N(2)])];
    let output = vec![
        value("label", DataType::Int64, &[D::S("N")]),
        value("scores", DataType::Float, &[D::S("N"), D::S("")]),
    ];
    model(vec![op], input, output, vec![])
}

/// `Y = op(X)` of any datatypes, rows of two.
fn typed(op: &str, from: DataType, to: DataType, attributes: &[AttributeProto]) -> ModelProto {
    let mut proto = unary(ML, op, attributes.to_vec());
    let graph = proto.graph.as_mut().unwrap();
    graph.input = vec![value("X", from, &[D::S("N"), D::N(2)])];
    graph.output = vec![value("Y", to, &[D::S("N"), D::N(2)])];
    proto
}

fn run(proto: &ModelProto, x: Data) -> Data {
    let loaded = load_proto(proto).unwrap();
    let x = Tensor::new("X", vec![x.len() / 2, 2], x).unwrap();
    let outputs = loaded.session().unwrap().run(&[x]).unwrap();
    outputs.into_iter().next().unwrap().into_parts().2
}

fn string(name: &str, text: &str) -> AttributeProto {
    let s = text.as_bytes().to_vec();
    let r#type = tract_onnx::pb::attribute_proto::AttributeType::String as i32;
    AttributeProto { name: name.into(), r#type, s, ..AttributeProto::default() }
}

fn tensor(name: &str, data_type: DataType, of: TensorProto) -> AttributeProto {
    let t = Some(TensorProto { data_type: data_type as i32, ..of });
    let r#type = tract_onnx::pb::attribute_proto::AttributeType::Tensor as i32;
    AttributeProto { name: name.into(), r#type, t, ..AttributeProto::default() }
}

fn svm() -> Vec<AttributeProto> {
    vec![
        ints("classlabels_ints", &[4, 9]),
        floats("coefficients", &[1.0, -1.0]),
        floats("kernel_params", &[0.5, 0.0, 3.0]),
        string("kernel_type", "RBF"),
        floats("rho", &[0.1]),
        floats("support_vectors", &[0.0, 1.0, 2.0, 3.0]),
        ints("vectors_per_class", &[1, 1]),
    ]
}

/// With one attribute changed, or added.
fn changed(attributes: &[AttributeProto], change: AttributeProto) -> Vec<AttributeProto> {
    let others = attributes.iter().filter(|attribute| attribute.name != change.name);
    others.cloned().chain([change.clone()]).collect()
}

#[test]
fn machines_are_checked_at_load() {
    assert!(load_proto(&classifier("SVMClassifier", &svm())).is_ok());
    let cases = [
        (ints("classlabels_ints", &[4]), "\"vectors_per_class\" has 2 for 1 classes"),
        (ints("classlabels_ints", &[]), "exactly one of \"classlabels_ints\""),
        (ints("vectors_per_class", &[1, -1]), "\"vectors_per_class\" is negative"),
        (ints("vectors_per_class", &[i64::MAX, i64::MAX]), "\"coefficients\" has 2 numbers"),
        (ints("vectors_per_class", &[i64::MAX; 4]), "impossibly large"),
        (ints("vectors_per_class", &[1, 2]), "\"coefficients\" has 2 numbers, expected 3"),
        (floats("support_vectors", &[0.0; 3]), "3 numbers in \"support_vectors\" do not divide"),
        (floats("support_vectors", &[0.0; 6]), "expected 3 features, got 2"),
        (floats("rho", &[]), "\"rho\" has 0 numbers, expected 1"),
        (floats("prob_a", &[1.0]), "\"prob_a\" has 1 numbers and \"prob_b\" has 0"),
        (floats("kernel_params", &[1.0]), "expected gamma, coef0 and degree, got 1 numbers"),
        (string("kernel_type", "COSINE"), "\"COSINE\" is none of the four"),
        (string("post_transform", "PROBIT"), "PROBIT of a single score"),
        (string("post_transform", "TANH"), "\"TANH\" is none of the five"),
        (int("degree", 3), "attribute \"degree\" is not supported"),
    ];
    for (attribute, expected) in cases {
        let attributes = match &*attribute.name {
            // Four classes, to overflow the sum of their vectors.
            "vectors_per_class" if attribute.ints.len() == 4 => {
                changed(&changed(&svm(), ints("classlabels_ints", &[1, 2, 3, 4])), attribute)
            }
            _ => changed(&svm(), attribute),
        };
        let message = refusal(&classifier("SVMClassifier", &attributes));
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
        assert!(message.contains("SVMClassifier0"), "{message}");
    }
    let regressor = [
        floats("coefficients", &[1.0, -1.0]),
        int("n_supports", 2),
        floats("rho", &[0.1]),
        floats("support_vectors", &[0.0, 1.0, 2.0, 3.0]),
    ];
    let cases = [
        (int("n_supports", -1), "\"n_supports\" is negative"),
        (int("n_supports", 3), "2 coefficients for 3 support vectors"),
        (floats("rho", &[]), "\"rho\" is missing"),
        (string("kernel_type", "RBF"), "expected gamma, coef0 and degree, got 0 numbers"),
    ];
    for (attribute, expected) in cases {
        let message = refusal(&unary(ML, "SVMRegressor", changed(&regressor, attribute)));
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let cases: [(&str, &[AttributeProto], &str); 15] = [
        ("Imputer", &[], "exactly one of imputed_value_floats"),
        ("Imputer", &[floats("imputed_value_floats", &[1.0; 3])], "3 imputed values, but 2 feat"),
        ("Imputer", &[ints("imputed_value_int64s", &[1])], "whole numbers, the input is of F32"),
        ("OneHotEncoder", &[], "exactly one of cats_int64s and cats_strings"),
        ("OneHotEncoder", &[strings("cats_strings", &["a"])], "the categories are strings"),
        ("FeatureVectorizer", &[ints("inputdimensions", &[1, 1])], "has 2, but there are 1 inputs"),
        ("FeatureVectorizer", &[ints("inputdimensions", &[-1])], "\"inputdimensions\" is negative"),
        ("FeatureVectorizer", &[ints("inputdimensions", &[1 << 40])], "more than 16777216 columns"),
        ("CategoryMapper", &[ints("cats_int64s", &[1])], "\"cats_strings\" has 0"),
        ("LabelEncoder", &[floats("keys_floats", &[1.0])], "exactly one of values_strings"),
        ("LabelEncoder", &[floats("keys_floats", &[1.0]), floats("values_floats", &[])], "values"),
        ("LabelEncoder", &[ints("keys_int64s", &[1]), ints("values_int64s", &[1])], "is of F32"),
        ("ZipMap", &[ints("classlabels_int64s", &[1, 2, 3])], "3 classes, but 2 scores"),
        ("ZipMap", &[strings("classlabels_strings", &["a", "a"])], "\"a\" is named twice"),
        ("Scaler", &[floats("scale", &[1.0])], "\"offset\" has 0 numbers"),
    ];
    for (op, attributes, expected) in cases {
        let mut proto = unary(ML, op, attributes.to_vec());
        // The declared output does not matter to what is tested.
        proto.graph.as_mut().unwrap().output[0] = value("Y", DataType::Float, &[]);
        let message = refusal(&proto);
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
        assert!(message.contains(op), "{message}");
    }
}

#[test]
fn maps_are_refused_with_a_way_out() {
    let mut proto = unary(ML, "DictVectorizer", vec![strings("string_vocabulary", &["a"])]);
    // Map types are what the reader of files does not know.
    proto.graph.as_mut().unwrap().input[0].r#type = Some(TypeProto::default());
    assert_eq!(
        refusal(&proto),
        "input \"X\" is no tensor; sequences and maps are not supported: DictVectorizer (node \
         \"DictVectorizer0\") takes a map; export the model without it, with a column for each key"
    );
}

/// Zeros are no valid values here; that must not cost the symbolic plan.
#[test]
fn a_value_that_a_model_does_not_take_is_the_clients_to_mend() {
    let attributes = [ints("cats_int64s", &[5, 7]), int("zeros", 0)];
    let mut proto = typed("OneHotEncoder", DataType::Int64, DataType::Float, &attributes);
    let output = value("Y", DataType::Float, &[D::S("N"), D::N(2), D::N(2)]);
    proto.graph.as_mut().unwrap().output = vec![output];
    let loaded = load_proto(&proto).unwrap();
    assert!(loaded.takes_new_shapes());
    let mut session = loaded.session().unwrap();
    let mut send = |x: Vec<i64>| {
        let x = Tensor::new("X", vec![x.len() / 2, 2], Data::Int64(x)).unwrap();
        session.run(&[x])
    };
    for _ in 0..2 {
        let error = send(vec![5, 7, 7, 6]).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::BadValue);
        assert!(error.message.ends_with("element 3: unknown category"), "{error}");
        let got = send(vec![5, 7]).unwrap();
        assert_eq!(got[0].data(), &Data::Fp32(vec![1.0, 0.0, 0.0, 1.0]));
    }
    let binarizer = load_proto(&unary(ML, "Binarizer", vec![])).unwrap();
    let error = binarizer.session().unwrap().run(&[fp32("X", &[1, 2], &[0.0, f32::NAN])]);
    assert_eq!(error.unwrap_err().kind, EngineErrorKind::BadValue);
}

/// The standard has these datatypes; onnxruntime does not.
#[test]
fn datatypes_that_onnxruntime_lacks_are_served() {
    let floats = [floats("imputed_value_floats", &[0.1, 7.5])];
    let proto = typed("Imputer", DataType::Double, DataType::Double, &floats);
    let got = run(&proto, Data::Fp64(vec![0.0, 0.0, 1e300, f64::NAN]));
    let Data::Fp64(got) = got else { panic!("{got:?}") };
    assert_eq!(got[..3], [f64::from(0.1_f32), 7.5, 1e300]);
    assert!(got[3].is_nan());
    let ints_ = [ints("imputed_value_int64s", &[8, 9]), int("replaced_value_int64", -1)];
    let proto = typed("Imputer", DataType::Int32, DataType::Int32, &ints_);
    assert_eq!(run(&proto, Data::Int32(vec![-1, -1, 0, 5])), Data::Int32(vec![8, 9, 0, 5]));

    let threshold = AttributeProto {
        name: "threshold".into(),
        r#type: tract_onnx::pb::attribute_proto::AttributeType::Float as i32,
        f: 0.5,
        ..AttributeProto::default()
    };
    let binarizer = |kind| typed("Binarizer", kind, kind, std::slice::from_ref(&threshold));
    let got = run(&binarizer(DataType::Double), Data::Fp64(vec![0.5, 0.500_000_01]));
    assert_eq!(got, Data::Fp64(vec![0.0, 1.0]));
    assert_eq!(run(&binarizer(DataType::Int32), Data::Int32(vec![0, 1])), Data::Int32(vec![0, 1]));
    assert_eq!(
        run(&binarizer(DataType::Int64), Data::Int64(vec![-7, i64::MAX])),
        Data::Int64(vec![0, 1])
    );

    let mut linear = typed(
        "LinearRegressor",
        DataType::Double,
        DataType::Float,
        &[super::graphs::floats("coefficients", &[1.0, -2.0, 0.5, 1.0]), int("targets", 2)],
    );
    let twice = Data::Fp64(vec![1.0, 2.0, 0.25, 4.0]);
    assert_eq!(run(&linear, twice), Data::Fp32(vec![-3.0, 2.5, -7.75, 4.125]));
    linear.graph.as_mut().unwrap().input = vec![value("X", DataType::Int32, &[D::S("N"), D::N(2)])];
    assert_eq!(run(&linear, Data::Int32(vec![1, 2])), Data::Fp32(vec![-3.0, 2.5]));
}

#[test]
fn labels_are_encoded_from_and_to_every_datatype() {
    let bytes = |numbers: &[i64]| TensorProto {
        dims: vec![2],
        int32_data: numbers.iter().map(|&n| n as i32).collect(),
        ..TensorProto::default()
    };
    let kinds = [
        (DataType::Bool, Data::Bool(vec![true, false])),
        (DataType::Int8, Data::Int8(vec![1, 0])),
        (DataType::Int16, Data::Int16(vec![1, 0])),
        (DataType::Int32, Data::Int32(vec![1, 0])),
        (DataType::Uint8, Data::Uint8(vec![1, 0])),
        (DataType::Uint16, Data::Uint16(vec![1, 0])),
    ];
    for (from, keys) in &kinds {
        for (to, values) in &kinds {
            let attributes = [
                tensor("keys_tensor", *from, bytes(&[0, 1])),
                tensor("values_tensor", *to, bytes(&[0, 1])),
            ];
            let mut proto = typed("LabelEncoder", *from, *to, &attributes);
            proto.opset_import[1].version = 4;
            if *to == DataType::Bool {
                // There is no −1 to fall back to.
                let default = TensorProto { dims: vec![1], int32_data: vec![0], ..bytes(&[]) };
                let default = tensor("default_tensor", *to, default);
                proto.graph.as_mut().unwrap().node[0].attribute.push(default);
            }
            assert_eq!(&run(&proto, keys.clone()), values, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_zip_map_names_its_classes() {
    let mut proto = unary(ML, "ZipMap", vec![ints("classlabels_int64s", &[10, 9])]);
    // Its declared type is a sequence of maps, of which nothing is read.
    proto.graph.as_mut().unwrap().output[0].r#type = Some(TypeProto::default());
    let loaded = load_proto(&proto).unwrap();
    let output = &loaded.signature().outputs[0];
    assert_eq!(*output.classes, ["10".to_owned(), "9".to_owned()]);
    assert_eq!(output.shape, [Dim::Symbol("N".into()), Dim::Fixed(2)]);
    let got = loaded.session().unwrap().run(&[fp32("X", &[1, 2], &[0.25, 0.75])]).unwrap();
    assert_eq!(got, [fp32("Y", &[1, 2], &[0.25, 0.75])]);
}

/// Where the file leaves the number of features open, only the run can tell;
/// and it is the request that is wrong.
#[test]
fn rows_with_too_few_features_are_bad_input() {
    let lists = [
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("nodes_featureids", &[2, 0, 0]),
        strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        floats("nodes_values", &[0.5, 0.0, 0.0]),
        int("n_targets", 1),
        ints("target_ids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_treeids", &[0, 0]),
        floats("target_weights", &[1.0, 2.0]),
    ];
    let svm = [
        floats("coefficients", &[1.0]),
        floats("kernel_params", &[0.5, 0.0, 3.0]),
        string("kernel_type", "RBF"),
        int("n_supports", 1),
        floats("rho", &[0.1]),
        floats("support_vectors", &[0.0, 1.0, 2.0]),
    ];
    let three = [1.0, 2.0, 3.0];
    for (op, attributes) in [
        ("TreeEnsembleRegressor", lists.to_vec()),
        ("SVMRegressor", svm.to_vec()),
        ("LinearRegressor", vec![floats("coefficients", &three), floats("intercepts", &[1.0])]),
        ("Scaler", vec![floats("offset", &three), floats("scale", &three)]),
        ("Imputer", vec![floats("imputed_value_floats", &three)]),
    ] {
        let mut proto = unary(ML, op, attributes);
        let graph = proto.graph.as_mut().unwrap();
        let open = |name| vec![value(name, DataType::Float, &[D::S("N"), D::S("")])];
        (graph.input, graph.output) = (open("X"), open("Y"));
        let loaded = load_proto(&proto).unwrap_or_else(|error| panic!("{op}: {error}"));
        let mut session = loaded.session().unwrap();
        session.run(&[fp32("X", &[2, 3], &[0.0; 6])]).unwrap();
        let error = session.run(&[fp32("X", &[2, 2], &[0.0; 4])]).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::BadInput, "{op}: {error}");
        assert!(error.message.contains("feature"), "{op}: {error}");
    }
}
