//! The Open Inference Protocol, from body to body.

use crate::protocol::testing::{
    Bench, Got, classifier, classifier_signature, echo, echo_signature, golden, spec, sums,
    sums_signature, version,
};
use std::sync::Arc;

use crate::types::{
    Datatype, Declared, DeclaredTensor, ModelSettings, TensorSpec, TritonSettings, VersionId,
    VersionPolicy,
};

const INFER: &str = "/v2/models/echo/infer";

fn echo_bench(inputs: &[TensorSpec]) -> Bench {
    let bench = Bench::new();
    let echo = version("echo", 1, echo_signature(inputs), echo);
    bench.add(&ModelSettings::default(), &[echo], None);
    bench
}

fn x(datatype: Datatype) -> TensorSpec {
    spec("x", datatype, &[-1, 2])
}

/// A request for input `x`.
fn tensor(datatype: &str, shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#
    )
}

/// Posts JSON and raw bytes behind it.
async fn mixed(bench: &Bench, json: &str, tail: &[u8]) -> Got {
    let body = [json.as_bytes(), tail].concat();
    let length = json.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    bench.send("POST", INFER, &headers, body).await
}

/// The JSON and the bytes behind it.
fn split(got: &Got) -> (String, Vec<u8>) {
    let length: usize = got.header("inference-header-content-length").parse().unwrap();
    let id = got.header("x-prediction-id");
    let json = String::from_utf8(got.body[..length].to_vec()).unwrap();
    (json.replace(id, "ID"), got.body[length..].to_vec())
}

#[tokio::test]
async fn replies_look_like_this() {
    let bench = Bench::new();
    let versions =
        [version("sums", 1, sums_signature(2), sums), version("sums", 2, sums_signature(2), sums)];
    bench.add(&ModelSettings::default(), &versions, None);
    let infer =
        r#"{"id":"42","inputs":[{"name":"X","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}]}"#;
    let got = bench.post("/v2/models/sums/infer", infer).await;
    assert_eq!(got.header("content-type"), "application/json");
    golden("v2_infer.json", &got.text());
    let binary = infer.replace("\"id\"", "\"parameters\":{\"binary_data_output\":true},\"id\"");
    let got = bench.post("/v2/models/sums/versions/2/infer", &binary).await;
    assert_eq!(got.header("content-type"), "application/octet-stream");
    let (json, tail) = split(&got);
    golden("v2_infer_binary.json", &json);
    assert_eq!(tail, [3_f32.to_le_bytes(), 7_f32.to_le_bytes()].concat());
    for (path, name) in [
        ("/v2", "v2_server.json"),
        ("/v2/health/live", "v2_live.json"),
        ("/v2/models/sums", "v2_model.json"),
        ("/v2/models/sums/versions/2", "v2_model_version.json"),
        ("/v2/models/sums/ready", "v2_model_ready.json"),
        ("/v2/models/sums/config", "v2_config.json"),
        ("/v2/models/sums/versions/2/config", "v2_config.json"),
        ("/v2/models/sums/versions/2/ready", "v2_model_ready.json"),
    ] {
        let got = bench.send("GET", path, &[], "").await;
        assert_eq!(got.status, 200, "{path}");
        golden(name, &got.text());
    }
    let got = bench.send("GET", "/v2/models/sums/versions/3/ready", &[], "").await;
    assert_eq!(got.error(), (404, "model sums has no ready version 3; ready: 1, 2".to_owned()));
}

/// What a `config.pbtxt` says, its clients are told again.
#[tokio::test]
async fn a_declared_configuration_is_told_again() {
    let bench = Bench::new();
    let scores = DeclaredTensor {
        name: "probability".into(),
        datatype: Datatype::Fp32,
        dims: vec![Some(2)],
        reshape: None,
        label_file: Some("labels.txt".into()),
        classes: vec![],
    };
    let label = DeclaredTensor {
        name: "label".into(),
        datatype: Datatype::Bytes,
        dims: vec![],
        reshape: None,
        label_file: None,
        classes: vec![],
    };
    let declared =
        Declared { batched: Some(true), outputs: vec![label, scores], ..Declared::default() };
    let triton = TritonSettings {
        max_batch_size: Some(8),
        declared: Arc::new(declared),
        version_policy: VersionPolicy::Specific(vec![VersionId::new(1).unwrap()]),
        default_model_filename: Some("net.onnx".into()),
        parameters: [("owner".to_owned(), "growth".to_owned())].into(),
    };
    let settings = ModelSettings {
        rows_max: triton.max_batch_size,
        triton: Some(Arc::new(triton)),
        ..ModelSettings::default()
    };
    let version = version("leaves", 1, classifier_signature(), classifier);
    bench.add(&settings, &[version], None);
    let got = bench.send("GET", "/v2/models/leaves/config", &[], "").await;
    golden("v2_config_declared.json", &got.text());
    let infer = r#"{"inputs":[{"name":"X","shape":[9,2],"datatype":"FP32","data":[1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9]}]}"#;
    let (status, why) = bench.post("/v2/models/leaves/infer", infer).await.error();
    assert_eq!(status, 400);
    assert!(why.contains("at most 8 rows (max_batch_size), got 9"), "{why}");
    let got = bench.send("GET", "/v2/models/leaves/versions/2/config", &[], "").await;
    assert_eq!(got.status, 404);
}

/// Class names and documentation stand in the metadata; tensors stay tensors.
#[tokio::test]
async fn classes_are_named_in_the_metadata() {
    let bench = Bench::new();
    let version = version("leaves", 1, classifier_signature(), classifier);
    bench.add(&ModelSettings::default(), &[version], None);
    let got = bench.send("GET", "/v2/models/leaves", &[], "").await;
    golden("v2_model_classes.json", &got.text());
    let infer = r#"{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[0.75,0.25]}]}"#;
    let got = bench.post("/v2/models/leaves/infer", infer).await;
    let scores = r#"{"name":"probability","datatype":"FP32","shape":[1,2],"data":[0.75,0.25]}"#;
    assert!(got.text().contains(scores), "{}", got.text());
}

#[tokio::test]
async fn readiness_is_told() {
    let bench = Bench::new();
    let ready = || bench.send("GET", "/v2/health/ready", &[], "");
    assert_eq!(ready().await.error(), (503, "not ready: starting".to_owned()));
    assert_eq!(ready().await.header("retry-after"), "1");
    bench.readiness.set_ready();
    let got = ready().await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, r#"{"ready":true}"#));
    bench.readiness.set_draining();
    assert_eq!(ready().await.error(), (503, "not ready: draining".to_owned()));
    // A probe that is told no was not refused.
    assert!(!bench.metrics().contains("foreshadow_rejected_total"));
}

#[tokio::test]
async fn data_may_be_flat_or_nested_for_every_datatype() {
    let cases = [
        (Datatype::Bool, "true,false", "true,false"),
        (Datatype::Uint8, "0,255", "0,255"),
        (Datatype::Uint16, "0,65535", "0,65535"),
        (Datatype::Uint32, "0,4294967295", "0,4294967295"),
        (Datatype::Uint64, "0,18446744073709551615", "0,18446744073709551615"),
        (Datatype::Int8, "-128,127", "-128,127"),
        (Datatype::Int16, "-32768,32767", "-32768,32767"),
        (Datatype::Int32, "-2147483648,1", "-2147483648,1"),
        (Datatype::Int64, "-9223372036854775808,1", "-9223372036854775808,1"),
        (Datatype::Fp32, "0.1,1e3", "0.1,1000.0"),
        (Datatype::Fp64, "0.1,1e300", "0.1,1e+300"),
        (Datatype::Bytes, r#""a","\u00e9""#, r#""a","é""#),
    ];
    for (datatype, values, expected) in cases {
        let bench = echo_bench(&[x(datatype)]);
        for data in [format!("[{values}]"), format!("[[{values}]]")] {
            let got = bench.post(INFER, &tensor(datatype.as_str(), "[1,2]", &data)).await;
            let expected = format!("\"shape\":[1,2],\"data\":[{expected}]}}]}}");
            assert!(got.text().ends_with(&expected), "{datatype}: {}", got.text());
        }
    }
}

#[tokio::test]
async fn binary_tensors_come_back_as_they_were() {
    let strings = [&1_u32.to_le_bytes()[..], b"\xff", &0_u32.to_le_bytes()].concat();
    for datatype in Datatype::ALL {
        let bench = echo_bench(&[x(datatype)]);
        let bytes = match datatype.size() {
            // NaN among others: binary tensors may carry anything.
            Some(size) => vec![if datatype == Datatype::Bool { 1 } else { 0xff }; 2 * size],
            None => strings.clone(),
        };
        let json = format!(
            r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,2],"parameters":{{"binary_data_size":{}}}}}]}}"#,
            bytes.len()
        );
        let got = mixed(&bench, &json, &bytes).await;
        assert_eq!(got.status, 200, "{datatype}: {}", String::from_utf8_lossy(&got.body));
        let (reply, tail) = split(&got);
        assert_eq!(tail, bytes, "{datatype}");
        let size = format!("\"parameters\":{{\"binary_data_size\":{}}}}}]}}", bytes.len());
        assert!(reply.ends_with(&size), "{reply}");
    }
}

#[tokio::test]
async fn a_raw_body_is_the_only_input() {
    let bench = echo_bench(&[x(Datatype::Fp32)]);
    let body: Vec<u8> = [1_f32, 2., 3., 4.].iter().flat_map(|x| x.to_le_bytes()).collect();
    let headers = [("Inference-Header-Content-Length", "0")];
    let got = bench.send("POST", INFER, &headers, body.clone()).await;
    let (json, tail) = split(&got);
    assert!(json.contains("\"shape\":[2,2]"), "{json}");
    assert_eq!(tail, body);
    let two = echo_bench(&[x(Datatype::Fp32), spec("y", Datatype::Fp32, &[-1])]);
    let got = two.send("POST", INFER, &headers, body).await;
    assert_eq!(got.error().1, "a raw body needs a model with one input, this one has 2");
}

#[tokio::test]
async fn outputs_come_as_they_are_asked_for() {
    let bench = echo_bench(&[spec("a", Datatype::Int8, &[-1]), spec("b", Datatype::Int8, &[-1])]);
    let inputs = r#""inputs":[{"name":"b","datatype":"INT8","shape":[1],"data":[2]},{"name":"a","datatype":"INT8","shape":[1],"data":[1]}]"#;
    let outputs =
        r#""outputs":[{"name":"b_out"},{"name":"a_out","parameters":{"binary_data":false}}]"#;
    let parameters = r#""parameters":{"binary_data_output":true}"#;
    let got = bench.post(INFER, &format!("{{{inputs},{outputs},{parameters}}}")).await;
    let (json, tail) = split(&got);
    let expected = r#""outputs":[{"name":"b_out","datatype":"INT8","shape":[1],"parameters":{"binary_data_size":1}},{"name":"a_out","datatype":"INT8","shape":[1],"data":[1]}]}"#;
    assert!(json.ends_with(expected), "{json}");
    assert_eq!(tail, [2]);
    for (outputs, expected) in [
        (r#"[{"name":"c"}]"#, "output \"c\" is unknown; this model gives \"a_out\", \"b_out\""),
        (r#"[{"name":"a_out"},{"name":"a_out"}]"#, "output \"a_out\" is asked for twice"),
    ] {
        let got = bench.post(INFER, &format!("{{{inputs},\"outputs\":{outputs}}}")).await;
        assert_eq!(got.error(), (400, expected.to_owned()));
    }
    let region = r#""outputs":[{"name":"a_out","parameters":{"shared_memory_region":"a"}}]"#;
    let got = bench.post(INFER, &format!("{{{inputs},{region}}}")).await;
    assert_eq!(got.error().0, 400);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let fp32 = |shape: &str, data: &str| tensor("FP32", shape, data);
    let with = |rest: &str| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2]{rest}}}]}}"#)
    };
    let cases = [
        ("{}".to_owned(), 400, "wrong JSON at line 1 column 2: missing field `inputs`"),
        (
            r#"{"inputs":[]}"#.to_owned(),
            400,
            "input \"x\" is missing; this model takes \"x\" FP32 [-1, 2]",
        ),
        (
            r#"{"inputs":[{"shape":[1,2]}]}"#.to_owned(),
            400,
            "wrong JSON at line 1 column 26: missing field `name`",
        ),
        (
            tensor("FP8", "[1,2]", "[1,2]"),
            400,
            "input \"x\": datatype \"FP8\": expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
        ),
        (tensor("INT64", "[1,2]", "[1,2]"), 400, "input \"x\": expected datatype FP32, got INT64"),
        (fp32("[1,3]", "[1,2]"), 400, "input \"x\": shape [1, 3] means 3 elements, got 2"),
        (fp32("[1,3]", "[1,2,3]"), 400, "input \"x\": expected shape [-1, 2], got [1, 3]"),
        (
            fp32("[2,2]", "[[1,2],[3]]"),
            400,
            "input \"x\": expected shape [2, 2]; dimension 1 has 1 values, expected 2 (line 1 column 70)",
        ),
        (fp32("[-1,2]", "[1,2]"), 400, "input \"x\": shape [-1, 2]: expected sizes from 1"),
        (fp32("[0,2]", "[]"), 400, "input \"x\": shape [0, 2]: expected sizes from 1"),
        (
            fp32("[9223372036854775807,9]", "[1]"),
            400,
            "input \"x\": shape [9223372036854775807, 9] is too large",
        ),
        (
            fp32("[1.5]", "[1]"),
            400,
            "wrong JSON at line 1 column 53: invalid type: floating point `1.5`, expected i64",
        ),
        (
            fp32("[1,2]", "[1,\"a\"]"),
            400,
            "input \"x\": expected a number (FP32), got a string (line 1 column 66)",
        ),
        (fp32("[1,2]", "[1,NaN]"), 400, "JSON has no NaN; line 1 column 66"),
        (with(""), 400, "input \"x\": \"data\" or \"binary_data_size\" is missing"),
        (
            with(r#","parameters":{"binary_data_size":8}"#),
            400,
            "input \"x\": \"binary_data_size\" needs the header Inference-Header-Content-Length",
        ),
        (
            with(r#","data":[1,2],"parameters":{"binary_data_size":8}"#),
            400,
            "input \"x\": both \"data\" and \"binary_data_size\"; send one of them",
        ),
        (
            with(r#","parameters":{"binary_data_size":-8}"#),
            400,
            "input \"x\": parameter \"binary_data_size\": expected a whole number from 0, got -8",
        ),
        (
            with(r#","parameters":{"shared_memory_region":"a"}"#),
            400,
            "input \"x\": parameter \"shared_memory_region\": memory is not shared with clients here; send the tensor's bytes",
        ),
        (
            with(r#","data":[1,2],"data":[1,2]"#),
            400,
            "wrong JSON at line 1 column 74: duplicate field `data`",
        ),
        (
            r#"{"inputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}"#.to_owned(),
            400,
            "input \"y\" is unknown; this model takes \"x\"",
        ),
        (
            format!(
                r#"{{"inputs":[{0},{0}]}}"#,
                r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}"#
            ),
            400,
            "input \"x\" is given twice",
        ),
        (
            fp32("[1,2]", "[1,2]").replacen('{', r#"{"parameters":{"sequence_id":7},"#, 1),
            400,
            "parameter \"sequence_id\": no model here keeps state between requests; send each request by itself, without it",
        ),
        (
            fp32("[1,2]", "[1,2]").replacen('{', r#"{"parameters":{"timeout":"x"},"#, 1),
            400,
            "parameter \"timeout\": expected a whole number from 0, got \"x\"",
        ),
    ];
    let bench = echo_bench(&[x(Datatype::Fp32)]);
    for (body, status, expected) in cases {
        let got = bench.post(INFER, &body).await;
        assert_eq!(got.error(), (status, expected.to_owned()), "{body}");
    }
    let half = echo_bench(&[x(Datatype::Fp16)]);
    let binary = tensor("FP16", "[1,2]", "[1,2]");
    let binary = binary.replacen('{', r#"{"parameters":{"binary_data_output":true},"#, 1);
    let got = half.post(INFER, &binary).await;
    let expected = "input \"x\": FP16 has no JSON form in this protocol; send it as binary";
    assert_eq!(got.error(), (400, expected.to_owned()));
    // Nor has it in a reply, which is said before anything is run.
    let json = r#"{"inputs":[{"name":"x","datatype":"FP16","shape":[1,2],"parameters":{"binary_data_size":4}}]}"#;
    let (status, message) = mixed(&half, json, &[0; 4]).await.error();
    assert_eq!(status, 400);
    assert!(message.starts_with("output \"x_out\": FP16 has no JSON form"), "{message}");
}

/// What the model answered is fine; JSON was the wrong thing to ask for.
#[tokio::test]
async fn bytes_that_are_no_text_are_refused_as_json_alone() {
    let bench = echo_bench(&[x(Datatype::Bytes)]);
    let tail = [1, 0, 0, 0, 0xff, 1, 0, 0, 0, b'a'];
    let json = r#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,2],"parameters":{"binary_data_size":10}}]}"#;
    let said = "output \"x_out\": element 0 is not UTF-8; ask for binary tensors (/v2)";
    assert_eq!(mixed(&bench, json, &tail).await.error(), (400, said.to_owned()));
    let json = json.replacen('{', r#"{"parameters":{"binary_data_output":true},"#, 1);
    assert_eq!(mixed(&bench, &json, &tail).await.status, 200);
}

#[tokio::test]
async fn the_largest_entries_stand_in_an_outputs_place() {
    let bench = Bench::new();
    let version = version("leaves", 1, classifier_signature(), classifier);
    bench.add(&ModelSettings::default(), &[version], None);
    let infer = |parameters: &str| {
        format!(
            r#"{{"inputs":[{{"name":"X","shape":[2,2],"datatype":"FP32","data":[0.75,0.25,0.5,1]}}],
            "outputs":[{{"name":"probability","parameters":{parameters}}}]}}"#
        )
    };
    let path = "/v2/models/leaves/infer";
    let got = bench.post(path, &infer(r#"{"classification":1}"#)).await;
    let expected = r#""outputs":[{"name":"probability","datatype":"BYTES","shape":[2,1],"data":["0.750000:0:no","1.000000:1:yes"]}]}"#;
    assert!(got.text().ends_with(expected), "{}", got.text());
    let got = bench.post(path, &infer(r#"{"classification":5,"binary_data":true}"#)).await;
    let (json, tail) = split(&got);
    assert!(json.contains(r#""datatype":"BYTES","shape":[2,2]"#), "{json}");
    let texts = ["0.750000:0:no", "0.250000:1:yes", "1.000000:1:yes", "0.500000:0:no"];
    let bytes = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    assert_eq!(tail, texts.map(bytes).concat());
    // Zero is none.
    let got = bench.post(path, &infer(r#"{"classification":0}"#)).await;
    assert!(got.text().contains(r#""datatype":"FP32","shape":[2,2]"#), "{}", got.text());
    let got = bench.post(path, &infer(r#"{"classification":-1}"#)).await;
    let expected = "output \"probability\": parameter \"classification\": expected a whole number from 0, got -1";
    assert_eq!(got.error(), (400, expected.to_owned()));
    let label = infer(r#"{"classification":1}"#).replace("probability", "label");
    let (status, message) = bench.post(path, &label).await.error();
    assert_eq!(status, 400);
    assert!(message.contains("BYTES has no largest entries"), "{message}");
}

/// Nested elements are read by nested calls: if the client chose how deep, it
/// could overflow the stack, which ends the process.
#[tokio::test]
async fn the_client_does_not_choose_the_depth() {
    const DEPTH: usize = 200_000;
    let shape = format!("[{}1]", "1,".repeat(DEPTH - 1));
    let bench = echo_bench(&[x(Datatype::Fp32)]);
    for data in [format!("{}1{}", "[".repeat(DEPTH), "]".repeat(DEPTH)), "[1]".to_owned()] {
        let got = bench.post(INFER, &tensor("FP32", &shape, &data)).await;
        let (status, message) = got.error();
        assert_eq!(status, 400);
        let start = "input \"x\": expected shape [-1, 2], got [1, 1, ";
        let fits = message.starts_with(start) && message.ends_with("1] and 199984 more");
        assert!(fits, "{message}");
    }
}

#[tokio::test]
async fn lengths_that_lie_are_refused() {
    let bench = echo_bench(&[x(Datatype::Fp32)]);
    let json = |size: &str| {
        format!(
            r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    let cases: [(&str, usize, &str); 5] = [
        ("8", 7, "input \"x\": \"binary_data_size\" is 8, only 7 bytes are left behind the JSON"),
        (
            "8",
            9,
            "1 bytes are left behind the last binary input; the \"binary_data_size\" of the inputs must add up to the body behind the JSON",
        ),
        ("7", 7, "input \"x\": shape [1, 2] of FP32 means 2 elements of 4 bytes, got 7 bytes"),
        (
            "18446744073709551615",
            8,
            "input \"x\": \"binary_data_size\" is 18446744073709551615, only 8 bytes are left behind the JSON",
        ),
        (
            "18446744073709551616",
            8,
            "input \"x\": parameter \"binary_data_size\": expected a whole number from 0, got 18446744073709551616",
        ),
    ];
    for (size, bytes, expected) in cases {
        let got = mixed(&bench, &json(size), &vec![0; bytes]).await;
        assert_eq!(got.error(), (400, expected.to_owned()), "{size} {bytes}");
    }
    for (length, expected) in [
        ("1000", "1000 bytes of JSON, but the body has only 2"),
        ("-1", "expected a whole number from 0, got \"-1\""),
        ("99999999999999999999", "expected a whole number from 0, got \"99999999999999999999\""),
    ] {
        let headers = [("inference-header-content-length", length)];
        let got = bench.send("POST", INFER, &headers, "{}").await;
        let expected = format!("header inference-header-content-length: {expected}");
        assert_eq!(got.error(), (400, expected));
    }
    // All of the body may be JSON.
    let got = mixed(&bench, &tensor("FP32", "[1,2]", "[1,2]"), b"").await;
    assert_eq!(got.status, 200);
}

mod statistics;
