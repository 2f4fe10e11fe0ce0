//! TensorFlow Serving's REST API, from path to body.

use crate::protocol::testing::{
    Bench, classifier, classifier_signature, echo, echo_signature, golden, spec, sums,
    sums_signature, version,
};
use crate::types::{Datatype, ModelSettings, TensorSpec};

/// Two versions of a model: the second is the canary. `forced` says whether a
/// request may choose a role.
fn sums_bench(forced: bool) -> Bench {
    let bench = Bench::new();
    let versions =
        [version("sums", 1, sums_signature(2), sums), version("sums", 2, sums_signature(2), sums)];
    let settings = ModelSettings { allow_forced_role: forced, ..ModelSettings::default() };
    bench.add(&settings, &versions, Some(0.0));
    bench
}

fn echo_bench(inputs: &[TensorSpec]) -> Bench {
    let bench = Bench::new();
    let echo = version("echo", 1, echo_signature(inputs), echo);
    bench.add(&ModelSettings::default(), &[echo], None);
    bench
}

const ROWS: &str = r#"{"instances":[[1,2],[0.1,0.5]]}"#;

#[tokio::test]
async fn replies_look_like_this() {
    let bench = sums_bench(false);
    for (name, method, path, body) in [
        ("v1_models.json", "GET", "/v1/models", ""),
        ("v1_status.json", "GET", "/v1/models/sums", ""),
        ("v1_status_version.json", "GET", "/v1/models/sums/versions/1", ""),
        ("v1_metadata.json", "GET", "/v1/models/sums/metadata", ""),
        ("v1_predict_rows.json", "POST", "/v1/models/sums:predict", ROWS),
        ("v1_predict_columns.json", "POST", "/v1/models/sums:predict", r#"{"inputs":[[1,2]]}"#),
        ("v1_alive.json", "GET", "/", ""),
    ] {
        let got = bench.send(method, path, &[], body).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        assert_eq!(got.header("content-type"), "application/json");
        golden(name, &got.text());
    }
}

#[tokio::test]
async fn a_version_or_a_label_answers_where_it_is_named() {
    let bench = sums_bench(true);
    for (which, version) in
        [("", "1"), ("/versions/2", "2"), ("/labels/champion", "1"), ("/labels/canary", "2")]
    {
        let got = bench.post(&format!("/v1/models/sums{which}:predict"), ROWS).await;
        assert_eq!((got.status.as_u16(), got.header("x-model-version")), (200, version), "{which}");
        assert_eq!(got.text(), r#"{"predictions":[3.0,0.6]}"#);
        let metadata =
            bench.send("GET", &format!("/v1/models/sums{which}/metadata"), &[], "").await;
        assert!(metadata.text().contains(&format!("\"version\":\"{version}\"")), "{which}");
        if !which.is_empty() {
            let status = bench.send("GET", &format!("/v1/models/sums{which}"), &[], "").await;
            let all = format!("{{\"model_version_status\":[{{\"version\":\"{version}\",");
            assert!(status.text().starts_with(&all), "{}", status.text());
        }
    }
    // The path goes before the header.
    let headers = [("x-foreshadow-role", "canary")];
    let path = "/v1/models/sums/labels/champion:predict";
    let got = bench.send("POST", path, &headers, ROWS).await;
    assert_eq!(got.header("x-model-version"), "1");
}

#[tokio::test]
async fn a_shadow_is_a_label_like_the_others() {
    let bench = Bench::new();
    let champion = version("sums", 1, sums_signature(2), sums);
    let shadow = version("sums", 2, sums_signature(2), sums);
    bench.add_shadowed(&champion, &shadow);
    let got = bench.send("GET", "/v1/models/sums/labels/shadow", &[], "").await;
    assert!(got.text().contains("\"version\":\"2\""), "{}", got.text());
    // Whoever owns the model decides whether a request may choose it.
    let got = bench.post("/v1/models/sums/labels/shadow:predict", ROWS).await;
    assert_eq!(got.error().0, 403);
    let got = bench.send("GET", "/v1/models/sums/labels/canary", &[], "").await;
    assert_eq!(got.error(), (404, "model sums has no canary now".to_owned()));
}

#[tokio::test]
async fn keys_that_others_send_mean_nothing() {
    let bench = sums_bench(false);
    for body in [
        r#"{"signature_name":"serving_default","instances":[[1,2]]}"#,
        r#"{"signature_name":"","instances":[[1,2]]}"#,
        r#"{"model":"other","version":"x","parameters":7,"instances":[[1,2]],"foo":{"bar":[]}}"#,
    ] {
        let got = bench.post("/v1/models/sums:predict", body).await;
        assert_eq!(got.text(), r#"{"predictions":[3.0]}"#, "{body}");
    }
}

#[tokio::test]
async fn scores_are_arrays_although_they_have_names() {
    let bench = Bench::new();
    let version = version("leaves", 1, classifier_signature(), classifier);
    bench.add(&ModelSettings::default(), &[version], None);
    let got = bench.post("/v1/models/leaves:predict", r#"{"instances":[[0.75,0.25]]}"#).await;
    assert_eq!(got.text(), r#"{"predictions":[{"label":"no","probability":[0.75,0.25]}]}"#);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_encoded_both_ways() {
    let x = |name: &str, shape: &[i64]| spec(name, Datatype::Bytes, shape);
    let cases: [(&[TensorSpec], &str, &str); 9] = [
        (
            &[x("x", &[-1])],
            r#"{"instances":[{"b64":"/w=="},"hi"]}"#,
            r#"{"predictions":[{"b64":"/w=="},"hi"]}"#,
        ),
        (
            &[x("x", &[-1])],
            r#"{"instances":[{"b64":"aGk="},{"b64":"\/w"}]}"#,
            r#"{"predictions":["hi",{"b64":"/w=="}]}"#,
        ),
        (
            &[x("x", &[-1, 1])],
            r#"{"instances":[{"b64":"/w=="},[{"b64":"aGk="}]]}"#,
            r#"{"predictions":[[{"b64":"/w=="}],["hi"]]}"#,
        ),
        (
            &[x("x", &[-1, 2])],
            r#"{"instances":[["a",{"b64":"/w=="}]]}"#,
            r#"{"predictions":[["a",{"b64":"/w=="}]]}"#,
        ),
        (
            &[x("x", &[-1])],
            r#"{"instances":[{"x":{"b64":"/w=="}}]}"#,
            r#"{"predictions":[{"b64":"/w=="}]}"#,
        ),
        (
            &[x("x", &[-1, 1])],
            r#"{"inputs":[{"b64":"/w=="},"b"]}"#,
            r#"{"outputs":[[{"b64":"/w=="}],["b"]]}"#,
        ),
        (&[x("x", &[])], r#"{"inputs":{"b64":"/w=="}}"#, r#"{"outputs":{"b64":"/w=="}}"#),
        // The input's own name goes before the convention.
        (&[x("b64", &[-1])], r#"{"instances":[{"b64":"hi"}]}"#, r#"{"predictions":["hi"]}"#),
        (
            &[x("x", &[-1]), x("y", &[-1])],
            r#"{"instances":[{"x":"a","y":{"b64":"YQ=="}}]}"#,
            r#"{"predictions":[{"x_out":"a","y_out":"a"}]}"#,
        ),
    ];
    for (inputs, body, expected) in cases {
        let bench = echo_bench(inputs);
        assert_eq!(bench.post("/v1/models/echo:predict", body).await.text(), expected, "{body}");
        let short = bench.post("/predict/echo", body).await.text();
        assert!(short.ends_with(&expected[1..]), "{short}");
    }
}

#[tokio::test]
async fn an_output_of_bytes_says_so_in_its_name() {
    let bench = Bench::new();
    let mut signature = echo_signature(&[spec("x", Datatype::Bytes, &[-1])]);
    signature.outputs[0].name = "x_bytes".into();
    let run = |inputs: &[crate::types::Tensor]| {
        let (_, shape, data) = inputs[0].clone().into_parts();
        Ok(vec![crate::types::Tensor::new("x_bytes", shape, data).unwrap()])
    };
    bench.add(&ModelSettings::default(), &[version("echo", 1, signature, run)], None);
    let got = bench.post("/v1/models/echo:predict", r#"{"instances":["hi"]}"#).await;
    assert_eq!(got.text(), r#"{"predictions":[{"b64":"aGk="}]}"#);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let bench = sums_bench(false);
    let predict = "/v1/models/sums:predict";
    let cases = [
        (predict, "{}", 400, "\"instances\" (rows) or \"inputs\" (columns) is missing"),
        (predict, "", 400, "the body is empty"),
        (predict, r#"{"instances":[[1]]}"#, 400, "input \"X\": expected shape [-1, 2], got [1, 1]"),
        (predict, r#"{"instances":[[1,NaN]]}"#, 400, "JSON has no NaN; line 1 column 18"),
        (predict, r#"{"instances":[{"b64":"aGk="}]}"#, 400, "instance 0: input \"b64\" is unknown"),
        (
            predict,
            r#"{"instances":[[{"b64":"aGk="},1]]}"#,
            400,
            "input \"X\", instance 0: expected a number (FP32), got an object",
        ),
        (
            predict,
            r#"{"signature_name":"other","instances":[[1,2]]}"#,
            400,
            "\"signature_name\": \"other\" is unknown; a model has \"serving_default\" alone",
        ),
        (
            predict,
            r#"{"signature_name":7,"instances":[[1,2]]}"#,
            400,
            "\"signature_name\": expected a string",
        ),
        ("/v1/models/other:predict", ROWS, 404, "unknown model \"other\"; models: sums"),
        ("/v1/models/sums/versions/9:predict", ROWS, 404, "model sums has no ready version 9"),
        ("/v1/models/sums/versions/x:predict", ROWS, 400, "version \"x\": expected a whole number"),
        (
            "/v1/models/sums/labels/stable:predict",
            ROWS,
            404,
            "no label \"stable\"; labels: champion",
        ),
        (
            "/v1/models/sums/labels/canary:predict",
            ROWS,
            403,
            "model sums does not let a request choose its role",
        ),
        (
            "/v1/models/sums:classify",
            ROWS,
            501,
            "/v1/models/sums:classify: classification and regression",
        ),
    ];
    for (path, body, status, message) in cases {
        let (got, text) = bench.post(path, body).await.error();
        assert_eq!(got, status, "{path} {body}: {text}");
        assert!(text.starts_with(message), "{path} {body}: {text}");
    }
    for (path, status, message) in [
        ("/v1/models/other", 404, "unknown model"),
        ("/v1/models/sums/versions/9", 404, "model sums has no ready version 9; ready: 1, 2"),
        ("/v1/models/sums/labels/stable/metadata", 404, "no label"),
        ("/v1/models/sums/versions/0/metadata", 400, "version \"0\""),
    ] {
        let (got, text) = bench.send("GET", path, &[], "").await.error();
        assert_eq!(got, status, "{path}: {text}");
        assert!(text.starts_with(message), "{path}: {text}");
    }
}

#[tokio::test]
async fn what_is_no_base64_is_said_with_its_place() {
    let bench = echo_bench(&[spec("x", Datatype::Bytes, &[-1])]);
    for (row, message) in [
        (r#"{"b64":"a-b="}"#, "\"b64\": Invalid symbol 45, offset 1. (line 1 column 15)"),
        (r#"{"b64":7}"#, "expected a string or {\"b64\": \"…\"} (BYTES), got another object"),
        (r#"{"b64":"YQ==","more":1}"#, "expected a string or {\"b64\": \"…\"} (BYTES)"),
    ] {
        let body = format!("{{\"instances\":[{row}]}}");
        let (status, text) = bench.post("/v1/models/echo:predict", &body).await.error();
        let expected = format!("input \"x\", instance 0: {message}");
        assert!(status == 400 && text.starts_with(&expected), "{row}: {text}");
    }
    let (status, text) =
        bench.post("/v1/models/echo:predict", r#"{"instances":[{"b64":"YQ=="]}"#).await.error();
    assert!(status == 400 && text.starts_with("malformed JSON"), "{text}");
}
