//! The engine beside the default one. All but the first need the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};

use super::OnnxRuntime;
use crate::engine::{Engine, EngineError, EngineErrorKind, Model, Tract};
use crate::types::{Data, Datatype, Dim, Tensor};

/// The engine, or `None` where there is no library to test with.
fn engine() -> Option<OnnxRuntime> {
    let path = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: set ORT_DYLIB_PATH to libonnxruntime.so");
    }
    path.map(|path| OnnxRuntime::new(Some(path)))
}

/// `None` is a size that varies, called N.
fn value(name: &str, datatype: DataType, shape: &[Option<i64>]) -> ValueInfoProto {
    let dim = |size: &Option<i64>| {
        let value = size.map_or_else(|| DimValue::DimParam("N".into()), DimValue::DimValue);
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: datatype as i32, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

fn node(domain: &str, op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        domain: domain.into(),
        op_type: op_type.into(),
        input: names(input),
        output: names(output),
        ..NodeProto::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        graph: Some(GraphProto { name: "g".into(), ..graph }),
        ..ModelProto::default()
    }
}

fn load(engine: &dyn Engine, proto: &ModelProto) -> Result<Arc<dyn Model>, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    engine.load(&path)
}

fn run(model: &dyn Model, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    model.session()?.run(inputs)
}

#[test]
fn an_absent_library_says_what_to_set() {
    let engine = OnnxRuntime::new(Some("/nowhere/libonnxruntime.so".into()));
    let error = load(&engine, &model(GraphProto::default())).err().unwrap();
    assert_eq!(error.kind, EngineErrorKind::Unsupported);
    for words in ["/nowhere/libonnxruntime.so", "FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY"] {
        assert!(error.message.contains(words), "{error}");
    }
}

#[test]
fn both_engines_give_the_samples_the_same_signature_and_answers() {
    let Some(engine) = engine() else { return };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for sample in ["churn/1", "churn/2", "churn/3", "digits/1", "digits/2"] {
        let artifact = models.join(sample).join("model.onnx");
        let ours = Tract::new().load(&artifact).unwrap();
        let theirs = engine.load(&artifact).unwrap();
        assert_eq!(ours.signature(), theirs.signature(), "{sample}");
        assert_eq!(ours.operators(), theirs.operators(), "{sample}");
        let Dim::Fixed(width) = ours.signature().inputs[0].shape[1] else { unreachable!() };
        let numbers = (0_u16..).take(5 * width).map(|i| f32::from(i * 7 % 16)).collect();
        let input = Tensor::new("input", vec![5, width], Data::Fp32(numbers)).unwrap();
        let input = std::slice::from_ref(&input);
        let (a, b) = (run(&*ours, input).unwrap(), run(&*theirs, input).unwrap());
        assert_eq!(a[0], b[0], "{sample}");
        for i in 0..a[1].data().len() {
            let (a, b) = (a[1].data().as_f64(i).unwrap(), b[1].data().as_f64(i).unwrap());
            assert!((a - b).abs() < 1e-5, "{sample}: {a} {b}");
        }
    }
}

/// One of each datatype, with three elements where not stated otherwise.
fn of_each() -> Vec<(DataType, Data)> {
    let bytes = |texts: [&str; 3]| texts.map(|text| text.as_bytes().to_vec()).to_vec();
    vec![
        (DataType::Bool, Data::Bool(vec![true, false, true])),
        (DataType::Uint8, Data::Uint8(vec![0, 1, 255])),
        (DataType::Uint16, Data::Uint16(vec![0, 1, 65535])),
        (DataType::Uint32, Data::Uint32(vec![0, 1, u32::MAX])),
        (DataType::Uint64, Data::Uint64(vec![0, 1, u64::MAX])),
        (DataType::Int8, Data::Int8(vec![-128, 0, 127])),
        (DataType::Int16, Data::Int16(vec![i16::MIN, 0, 1])),
        (DataType::Int32, Data::Int32(vec![i32::MIN, 0, 1])),
        (DataType::Int64, Data::Int64(vec![i64::MIN, 0, i64::MAX])),
        (DataType::Float16, Data::Fp16([0.5, -1.0, 65504.0].map(f16::from_f32).to_vec())),
        (DataType::Float, Data::Fp32(vec![0.1, f32::INFINITY, -0.0])),
        (DataType::Double, Data::Fp64(vec![0.1, f64::MIN, 1e300])),
        (DataType::String, Data::Bytes(bytes(["", "a\0b", "zwölf"]))),
    ]
}

#[test]
fn every_datatype_goes_in_and_comes_out() {
    let Some(engine) = engine() else { return };
    for (datatype, data) in of_each() {
        let proto = model(GraphProto {
            node: vec![node("", "Identity", &["x"], &["y"])],
            input: vec![value("x", datatype, &[None])],
            output: vec![value("y", datatype, &[None])],
            ..GraphProto::default()
        });
        let loaded = load(&engine, &proto).unwrap();
        assert_eq!(loaded.signature().inputs[0].datatype, data.datatype());
        let x = Tensor::new("x", vec![3], data.clone()).unwrap();
        let y = run(&*loaded, &[x]).unwrap();
        assert_eq!((y[0].name(), y[0].shape(), y[0].data()), ("y", &[3][..], &data));
        let none = Data::zeros(data.datatype(), 0);
        let x = Tensor::new("x", vec![0], none.clone()).unwrap();
        assert_eq!(run(&*loaded, &[x]).unwrap()[0].data(), &none);
    }
}

#[test]
fn a_scalar_has_no_dimension() {
    let Some(engine) = engine() else { return };
    let proto = model(GraphProto {
        node: vec![node("", "Neg", &["x"], &["y"])],
        input: vec![value("x", DataType::Float, &[])],
        output: vec![value("y", DataType::Float, &[])],
        ..GraphProto::default()
    });
    let loaded = load(&engine, &proto).unwrap();
    let y = run(&*loaded, &[Tensor::new("x", vec![], Data::Fp32(vec![2.0])).unwrap()]).unwrap();
    assert_eq!((y[0].shape(), y[0].data()), (&[][..], &Data::Fp32(vec![-2.0])));
}

/// A linear classifier of two inputs whose probabilities are a ZipMap, as
/// scikit-learn's converter writes it.
fn zip_map() -> ModelProto {
    let floats = |name: &str, floats: &[f32]| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Floats as i32,
        floats: floats.to_vec(),
        ..AttributeProto::default()
    };
    let labels = |name: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Strings as i32,
        strings: vec![b"stays".to_vec(), b"leaves".to_vec()],
        ..AttributeProto::default()
    };
    let mut classifier = node("ai.onnx.ml", "LinearClassifier", &["x"], &["label", "scores"]);
    classifier.attribute = vec![
        floats("coefficients", &[1.0, 0.5, -1.0, -0.5]),
        floats("intercepts", &[0.25, -0.25]),
        labels("classlabels_strings"),
    ];
    let mut zip = node("ai.onnx.ml", "ZipMap", &["scores"], &["probabilities"]);
    zip.attribute = vec![labels("classlabels_strings")];
    let map = ValueInfoProto {
        name: "probabilities".into(),
        r#type: Some(TypeProto::default()),
        ..ValueInfoProto::default()
    };
    model(GraphProto {
        node: vec![classifier, zip],
        input: vec![value("x", DataType::Float, &[None, Some(2)])],
        output: vec![value("label", DataType::String, &[None]), map],
        ..GraphProto::default()
    })
}

#[test]
fn a_zip_map_is_served_as_the_tensor_that_goes_in() {
    let Some(engine) = engine() else { return };
    let (ours, theirs) = (load(&Tract::new(), &zip_map()), load(&engine, &zip_map()));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours.signature(), theirs.signature());
    assert_eq!(theirs.signature().outputs[1].wire_shape(), [-1, 2]);
    let x = Data::Fp32(vec![1.0, 2.0, -3.0, 0.5]);
    let x = [Tensor::new("x", vec![2, 2], x).unwrap()];
    assert_eq!(run(&*ours, &x).unwrap(), run(&*theirs, &x).unwrap());
}

#[test]
fn errors_have_their_kind_and_the_session_goes_on() {
    let Some(engine) = engine() else { return };
    let graph = |op_type: &str| GraphProto {
        node: vec![node("", op_type, &["x", "y"], &["z"])],
        input: vec![
            value("x", DataType::Float, &[None, Some(2)]),
            value("y", DataType::Float, &[Some(2), None]),
        ],
        output: vec![value("z", DataType::Float, &[None, None])],
        ..GraphProto::default()
    };
    let unknown = load(&engine, &model(graph("NoSuchOperator"))).err().unwrap();
    assert_eq!(unknown.kind, EngineErrorKind::Unsupported);
    assert!(unknown.message.contains("NoSuchOperator"), "{unknown}");
    let loaded = load(&engine, &model(graph("MatMul"))).unwrap();
    let tensor = |name, shape: Vec<usize>| {
        let len = shape.iter().product();
        Tensor::new(name, shape, Data::zeros(Datatype::Fp32, len)).unwrap()
    };
    let mut session = loaded.session().unwrap();
    // The signature's check is in front of this; the engine stands without it.
    let wrong = session.run(&[tensor("x", vec![1, 3]), tensor("y", vec![2, 1])]).unwrap_err();
    assert_eq!(wrong.kind, EngineErrorKind::BadInput, "{wrong}");
    assert!(session.run(&[tensor("x", vec![1, 2])]).is_err());
    let text = Tensor::new("x", vec![1], Data::Bytes(vec![b"\xff".to_vec()])).unwrap();
    assert_eq!(session.run(&[text]).unwrap_err().kind, EngineErrorKind::BadInput);
    let right = session.run(&[tensor("x", vec![1, 2]), tensor("y", vec![2, 1])]).unwrap();
    assert_eq!(right[0].shape(), [1, 1]);
}

#[test]
fn sessions_of_one_model_run_at_the_same_time() {
    let Some(engine) = engine() else { return };
    let artifact = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/2/model.onnx");
    let loaded = engine.load(&artifact).unwrap();
    let rows = |seed: u16| {
        let numbers = (0_u16..12 * 16).map(|i| f32::from((i * 31 + seed * 7) % 64)).collect();
        [Tensor::new("input", vec![16, 12], Data::Fp32(numbers)).unwrap()]
    };
    let expected: Vec<_> = (0..8).map(|seed| run(&*loaded, &rows(seed)).unwrap()).collect();
    std::thread::scope(|scope| {
        for (seed, expected) in (0..).zip(&expected) {
            let (loaded, rows) = (&loaded, &rows);
            scope.spawn(move || {
                let mut session = loaded.session().unwrap();
                for _ in 0..200 {
                    assert_eq!(&session.run(&rows(seed)).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn external_tensors_are_read_from_the_models_folder() {
    let Some(engine) = engine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let width = 20_000_usize;
    let weights: Vec<u8> = (0..2 * width).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(folder.path().join("w.bin"), &weights).unwrap();
    let entry = |key: &str, value: usize| tract_onnx::pb::StringStringEntryProto {
        key: key.into(),
        value: value.to_string(),
    };
    let external = |name: &str, offset, bytes| TensorProto {
        name: name.into(),
        dims: vec![i64::try_from(bytes / 4).unwrap()],
        data_type: DataType::Float as i32,
        data_location: Some(1),
        external_data: vec![
            tract_onnx::pb::StringStringEntryProto {
                key: "location".into(),
                value: "w.bin".into(),
            },
            entry("offset", offset),
            entry("length", bytes),
        ],
        ..TensorProto::default()
    };
    // A large one, which is mapped, and a small one, which is read in.
    let proto = model(GraphProto {
        node: vec![
            node("", "Add", &["x", "large"], &["sum"]),
            node("", "Mul", &["sum", "small"], &["y"]),
        ],
        input: vec![value("x", DataType::Float, &[None, Some(20_000)])],
        output: vec![value("y", DataType::Float, &[None, Some(20_000)])],
        initializer: vec![external("large", 4 * width, 4 * width), external("small", 8, 4)],
        ..GraphProto::default()
    });
    let artifact = folder.path().join("model.onnx");
    std::fs::write(&artifact, proto.encode_to_vec()).unwrap();
    let x = [Tensor::new("x", vec![1, width], Data::zeros(Datatype::Fp32, width)).unwrap()];
    for engine in [&engine as &dyn Engine, &Tract::new()] {
        let y = run(&*engine.load(&artifact).unwrap(), &x).unwrap();
        assert_eq!(y[0].data().as_f64(0), Some(40_000.0), "{}", engine.name());
        assert_eq!(y[0].data().as_f64(width - 1), Some(79_998.0), "{}", engine.name());
    }
    std::fs::File::options()
        .write(true)
        .open(folder.path().join("w.bin"))
        .and_then(|file| file.set_len(weights.len() as u64 - 1))
        .unwrap();
    for engine in [&engine as &dyn Engine, &Tract::new()] {
        let error = engine.load(&artifact).err().unwrap();
        assert!(error.message.contains("tensor \"large\""), "{error}");
        assert!(error.message.contains("expected at least 160000"), "{error}");
    }
}
