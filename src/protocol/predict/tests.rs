//! `/predict`, from body to body.

use std::slice::from_ref;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Dialect, Envelope, Values, columns, rows};
use crate::error::Error;
use crate::protocol::json::testing::damage;
use crate::protocol::json::{Object, Reader, parse};
use crate::protocol::testing::{
    Bench, classifier, classifier_signature, echo, echo_signature, golden, spec, sums,
    sums_signature, version,
};
use crate::types::{Data, Datatype, ModelSettings, Tensor, TensorSpec};

/// A model that gives back what it gets.
fn echo_bench(inputs: &[TensorSpec], features: &[&str]) -> Bench {
    let bench = Bench::new();
    let echo = version("echo", 1, echo_signature(inputs), echo);
    let features = features.iter().map(|f| (*f).to_owned()).collect();
    bench.add(&ModelSettings { features, ..ModelSettings::default() }, &[echo], None);
    bench
}

/// The part of a reply behind the prediction id.
async fn values(bench: &Bench, body: &str) -> String {
    let text = bench.post("/predict", body).await.text();
    match text.split_once("\"prediction_id\":\"ID\",") {
        Some((_, values)) => values.strip_suffix('}').unwrap().to_owned(),
        None => text,
    }
}

#[tokio::test]
async fn replies_look_like_this() {
    let bench = Bench::new();
    let sums = version("sums", 1, sums_signature(2), sums);
    bench.add(&ModelSettings::default(), &[sums], None);
    let rows = bench.post("/predict/sums", r#"{"instances":[[1,2],[0.1,0.5]]}"#).await;
    golden("predict_rows.json", &rows.text());
    let columns = bench.post("/predict", r#"{"model":"sums","inputs":[[1,2]]}"#).await;
    golden("predict_columns.json", &columns.text());
    let error = bench.post("/predict", r#"{"instances":[[1,2],[1]]}"#).await;
    assert_eq!(error.status, 400);
    golden("predict_error.json", &error.text());
}

#[tokio::test]
async fn named_scores_are_objects() {
    let bench = Bench::new();
    let version = version("leaves", 1, classifier_signature(), classifier);
    bench.add(&ModelSettings::default(), &[version], None);
    let rows = bench.post("/predict", r#"{"instances":[[0.75,0.25],[0.5,0.5]]}"#).await;
    golden("predict_classes_rows.json", &rows.text());
    let columns = bench.post("/predict", r#"{"inputs":[[0.75,0.25],[0.25,0.75]]}"#).await;
    golden("predict_classes_columns.json", &columns.text());
}

/// What scikit-learn's pipelines over tables of words and numbers take.
#[tokio::test]
async fn a_column_of_its_own_kind_each() {
    let inputs = [
        spec("plan", Datatype::Bytes, &[-1, 1]),
        spec("age", Datatype::Fp32, &[-1, 1]),
        spec("calls", Datatype::Int64, &[-1, 1]),
    ];
    let bench = echo_bench(&inputs, &[]);
    let rows = r#"{"instances":[{"plan":"plus","age":29.5,"calls":3},{"calls":[0],"plan":["é"],"age":[1]}]}"#;
    let expected = r#""predictions":[{"plan_out":["plus"],"age_out":[29.5],"calls_out":[3]},{"plan_out":["é"],"age_out":[1.0],"calls_out":[0]}]"#;
    assert_eq!(values(&bench, rows).await, expected);
    let columns = r#"{"inputs":{"plan":["plus","é"],"age":[29.5,1],"calls":[3,0]}}"#;
    let expected =
        r#""outputs":{"plan_out":[["plus"],["é"]],"age_out":[[29.5],[1.0]],"calls_out":[[3],[0]]}"#;
    assert_eq!(values(&bench, columns).await, expected);
    let wrong = bench.post("/predict", r#"{"instances":[{"plan":3,"age":1,"calls":1}]}"#).await;
    let message =
        "input \"plan\", instance 0: expected a string (BYTES), got a number (line 1 column 23)";
    assert_eq!(wrong.error(), (400, message.to_owned()));
}

#[tokio::test]
async fn rows_have_many_forms() {
    let x = spec("x", Datatype::Fp32, &[-1, 2]);
    let cases: [(&[TensorSpec], &[&str], &str, &str); 17] = [
        (from_ref(&x), &[], "[[1,2],[3,4]]", r#""predictions":[[1.0,2.0],[3.0,4.0]]"#),
        (
            from_ref(&x),
            &["a", "b"],
            r#"[[1,2],{"b":4,"a":3}]"#,
            r#""predictions":[[1.0,2.0],[3.0,4.0]]"#,
        ),
        (
            from_ref(&x),
            &["a", "b"],
            r#"[{"\u0061":1,"b":2},{"a":3,"b":4}]"#,
            r#""predictions":[[1.0,2.0],[3.0,4.0]]"#,
        ),
        (from_ref(&x), &["a", "b"], r#"[{"x":[1,2]}]"#, r#""predictions":[[1.0,2.0]]"#),
        (from_ref(&x), &["a", "x"], r#"[{"x":1,"a":2}]"#, r#""predictions":[[2.0,1.0]]"#),
        (from_ref(&x), &[], r#"[{"x":[1,2]}]"#, r#""predictions":[[1.0,2.0]]"#),
        (
            &[spec("x", Datatype::Int64, &[-1])],
            &[],
            "[1,9223372036854775807]",
            r#""predictions":[1,9223372036854775807]"#,
        ),
        (&[spec("x", Datatype::Int64, &[-1, 1])], &[], "[1,[2]]", r#""predictions":[[1],[2]]"#),
        (
            &[spec("x", Datatype::Uint8, &[-1, 2, 2])],
            &[],
            "[[[1,2],[3,4]]]",
            r#""predictions":[[[1,2],[3,4]]]"#,
        ),
        (
            &[spec("x", Datatype::Bool, &[-1, 2])],
            &[],
            "[[true,false]]",
            r#""predictions":[[true,false]]"#,
        ),
        (
            &[spec("x", Datatype::Bytes, &[-1, 2])],
            &[],
            r#"[["a\n","\u00e9"]]"#,
            r#""predictions":[["a\n","é"]]"#,
        ),
        (&[spec("x", Datatype::Fp16, &[-1, 2])], &[], "[[0.5,1]]", r#""predictions":[[0.5,1.0]]"#),
        (
            &[spec("x", Datatype::Fp64, &[-1, -1])],
            &[],
            "[[0.1,0.2],[3,4]]",
            r#""predictions":[[0.1,0.2],[3.0,4.0]]"#,
        ),
        (&[spec("x", Datatype::Fp32, &[1, 2])], &[], "[[1,2]]", r#""predictions":[[1.0,2.0]]"#),
        (&[spec("x", Datatype::Fp32, &[3])], &[], "[[1,2,3]]", r#""predictions":[[1.0,2.0,3.0]]"#),
        (
            &[x.clone(), spec("n", Datatype::Int32, &[-1, 1])],
            &[],
            r#"[{"n":7,"x":[1,2]},{"x":[3,4],"n":[8]}]"#,
            r#""predictions":[{"x_out":[1.0,2.0],"n_out":[7]},{"x_out":[3.0,4.0],"n_out":[8]}]"#,
        ),
        (
            from_ref(&x),
            &["a", "b"],
            " [ { \"a\" : 1 , \"b\" : 2 } ] ",
            r#""predictions":[[1.0,2.0]]"#,
        ),
    ];
    for (inputs, features, rows, expected) in cases {
        let bench = echo_bench(inputs, features);
        assert_eq!(values(&bench, &format!(r#"{{"instances":{rows}}}"#)).await, expected, "{rows}");
    }
}

#[tokio::test]
async fn columns_have_few_forms() {
    let x = spec("x", Datatype::Fp32, &[-1, 2]);
    let n = spec("n", Datatype::Int32, &[-1, 1]);
    let cases: [(&[TensorSpec], &str, &str); 5] = [
        (from_ref(&x), "[[1,2],[3,4]]", r#""outputs":[[1.0,2.0],[3.0,4.0]]"#),
        (from_ref(&x), r#"{"x":[[1,2]]}"#, r#""outputs":[[1.0,2.0]]"#),
        (from_ref(&n), "[1,2]", r#""outputs":[[1],[2]]"#),
        (&[spec("x", Datatype::Fp32, &[])], "3", r#""outputs":3.0"#),
        (
            &[x.clone(), n.clone()],
            r#"{"n":[7],"x":[[1,2]]}"#,
            r#""outputs":{"x_out":[[1.0,2.0]],"n_out":[[7]]}"#,
        ),
    ];
    for (inputs, columns, expected) in cases {
        let bench = echo_bench(inputs, &[]);
        let got = values(&bench, &format!(r#"{{"inputs":{columns}}}"#)).await;
        assert_eq!(got, expected, "{columns}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_rows_is_said() {
    let x = || spec("X", Datatype::Fp32, &[-1, 3]);
    let cases: [(TensorSpec, &[&str], &str, &str); 22] = [
        (
            x(),
            &[],
            "[[1,2,3],[1,2]]",
            "input \"X\": expected shape [-1, 3], got [1, 2]; instance 1 has 2 values",
        ),
        (
            x(),
            &[],
            "[[1,2,3],7]",
            "input \"X\": expected shape [-1, 3]; instance 1 has a number where an array must stand (line 1 column 23)",
        ),
        (
            x(),
            &[],
            "[[1,2,[3]]]",
            "input \"X\", instance 0: expected a number (FP32), got an array (line 1 column 20)",
        ),
        (
            x(),
            &[],
            "[[1,\"2\",3]]",
            "input \"X\", instance 0: expected a number (FP32), got a string (line 1 column 18)",
        ),
        (
            x(),
            &[],
            "[[1,null,3]]",
            "input \"X\", instance 0: expected a number (FP32), got null (line 1 column 18)",
        ),
        (
            x(),
            &[],
            "[[1,1e39,3]]",
            "input \"X\", instance 0: 1e39 is out of range for FP32 (up to 3.4028235e38) (line 1 column 18)",
        ),
        (x(), &[], "[[1,NaN,3]]", "JSON has no NaN; line 1 column 18"),
        (x(), &[], "[]", "\"instances\": expected at least one row, got none"),
        (x(), &[], "{}", "\"instances\": expected an array of rows, got an object"),
        (
            x(),
            &["a", "b", "c"],
            r#"[{"a":1,"b":2}]"#,
            "instance 0: feature \"c\" is missing (line 1 column 27)",
        ),
        (
            x(),
            &["a", "b", "c"],
            r#"[{"a":1,"b":2,"d":3}]"#,
            "instance 0: feature \"d\" is unknown; known: a, b, c (line 1 column 28)",
        ),
        (
            x(),
            &["a", "b", "c"],
            r#"[[1,2,3],{"a":1,"b":2,"b":3}]"#,
            "instance 1: feature \"b\" is given twice (line 1 column 36)",
        ),
        (
            x(),
            &["a", "b", "c"],
            r#"[{"a":1,"b":true,"c":3}]"#,
            "instance 0: feature \"b\": expected a number (FP32), got a boolean (line 1 column 26)",
        ),
        (
            x(),
            &["a", "b"],
            r#"[{"a":1,"b":2}]"#,
            "model.toml names 2 features, but input \"X\" has shape [-1, 3]; send rows as arrays",
        ),
        (
            x(),
            &[],
            r#"[{"Y":[1,2,3]}]"#,
            "instance 0: input \"Y\" is unknown; this model takes \"X\"",
        ),
        (x(), &[], "[{}]", "instance 0: input \"X\" is missing"),
        (x(), &[], r#"[{"X":[1,2,3],"X":[1,2,3]}]"#, "instance 0: input \"X\" is given twice"),
        (
            spec("X", Datatype::Fp32, &[-1, -1]),
            &[],
            "[[1,2],[1]]",
            "input \"X\": ragged: instance 1 has 1 values, those before it 2",
        ),
        (
            spec("X", Datatype::Uint8, &[-1]),
            &[],
            "[1,300]",
            "input \"X\", instance 1: 300 is out of range for UINT8 (0 to 255) (line 1 column 17)",
        ),
        (
            spec("X", Datatype::Int64, &[-1]),
            &[],
            "[1.5]",
            "input \"X\", instance 0: 1.5 is not a whole number, which INT64 needs (line 1 column 15)",
        ),
        (
            spec("X", Datatype::Fp32, &[-1, 2, 2]),
            &[],
            "[[[1,2],[3]]]",
            "input \"X\": expected shape [-1, 2, 2]; instance 0 has 1 values in dimension 2, expected 2 (line 1 column 22)",
        ),
        (
            spec("X", Datatype::Fp32, &[2]),
            &[],
            "[[1,2],[3,4]]",
            "\"instances\": input \"X\" has shape [2] and no batch dimension; expected exactly one row, got 2",
        ),
    ];
    for (input, features, rows, expected) in cases {
        let bench = echo_bench(&[input], features);
        let got = bench.post("/predict", &format!(r#"{{"instances":{rows}}}"#)).await;
        assert_eq!(got.error(), (400, expected.to_owned()), "{rows}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_columns_is_said() {
    let x = spec("X", Datatype::Fp32, &[-1, 3]);
    let open = spec("X", Datatype::Fp32, &[-1, -1]);
    let cases: [(&TensorSpec, &str, &str); 6] = [
        (
            &x,
            "[[1,2]]",
            "input \"X\": expected shape [-1, 3]; dimension 1 has 2 values, expected 3 (line 1 column 12)",
        ),
        (
            &open,
            "[[1,2],[1]]",
            "input \"X\": ragged: dimension 1 has 1 values here and 2 before (line 1 column 18)",
        ),
        (
            &x,
            "[1,2]",
            "input \"X\": expected shape [-1, 3]; a number stands where an array must (line 1 column 12)",
        ),
        (&x, r#"{"Y":[[1]]}"#, "input \"Y\" is unknown; this model takes \"X\""),
        (&x, r#"{"X":[[1,2,3]],"X":[[1,2,3]]}"#, "input \"X\" is given twice"),
        (&x, "[]", "input \"X\": expected shape [-1, 3], got no values"),
    ];
    for (input, columns, expected) in cases {
        let bench = echo_bench(from_ref(input), &[]);
        let got = bench.post("/predict", &format!(r#"{{"inputs":{columns}}}"#)).await;
        assert_eq!(got.error(), (400, expected.to_owned()), "{columns}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_envelope_is_said() {
    let bench = echo_bench(&[spec("x", Datatype::Fp32, &[-1])], &[]);
    let keys = "instances, inputs, model, version, parameters, signature_name";
    let cases = [
        ("", 400, "the body is empty; expected a JSON object".to_owned()),
        ("{}", 400, format!("\"instances\" (rows) or \"inputs\" (columns) is missing; known keys: {keys}")),
        (r#"{"instances":[1],"inputs":[1]}"#, 400, "both \"instances\" and \"inputs\"; send one of them".to_owned()),
        (r#"{"instances":[1],"foo":1}"#, 400, format!("unknown key \"foo\"; known: {keys}")),
        (r#"{"instances":[1],"instances":[1]}"#, 400, "wrong JSON at line 1 column 28: key \"instances\" is given twice".to_owned()),
        (r#"{"instances":[1],"model":7}"#, 400, "\"model\": expected a string, got a number".to_owned()),
        (r#"{"instances":[1],"model":"other"}"#, 404, "unknown model \"other\"; models: echo".to_owned()),
        (r#"{"instances":[1],"version":0}"#, 400, "\"version\": \"0\" is no version number".to_owned()),
        (r#"{"instances":[1],"version":[1]}"#, 400, "\"version\": expected a number from 1, got an array".to_owned()),
        (r#"{"instances":[1],"version":2}"#, 404, "model echo has no ready version 2; ready: 1".to_owned()),
        (r#"{"instances":[1],"parameters":[]}"#, 400, "wrong JSON at line 1 column 31: invalid type: sequence, expected an object".to_owned()),
        (r#"{"instances":[1],"parameters":{"a":1}}"#, 400, "unknown parameter \"a\"; known: role, timeout".to_owned()),
        (r#"{"instances":[1],"parameters":{"timeout":-1}}"#, 400, "parameter \"timeout\": expected a whole number of microseconds".to_owned()),
        (
            r#"{"instances":[1],"parameters":{"role":"canary"}}"#,
            403,
            "model echo does not let a request choose its role; set allow_forced_role in its model.toml".to_owned(),
        ),
    ];
    for (body, status, expected) in cases {
        assert_eq!(bench.post("/predict", body).await.error(), (status, expected), "{body}");
    }
    let other = bench.post("/predict/echo", r#"{"instances":[1],"model":"b"}"#).await;
    assert_eq!(other.error().1, "the path names model \"echo\", the body \"b\"");
    let deep = format!(r#"{{"instances":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let got = bench.post("/predict", &deep).await;
    assert_eq!(got.error().0, 400);
}

#[tokio::test]
async fn what_json_lacks_is_an_error_or_null_and_counted() {
    for (nonfinite_as_null, status) in [(false, 500), (true, 200)] {
        let bench = Bench::new();
        let sums = version("sums", 1, sums_signature(1), sums);
        let settings = ModelSettings { nonfinite_as_null, ..ModelSettings::default() };
        let plan = bench.add(&settings, &[Arc::clone(&sums)], None);
        let got = bench.post("/predict", r#"{"instances":[[1],[-1]]}"#).await;
        assert_eq!(got.status, status);
        assert_eq!(plan.champion.as_ref().unwrap().stats.snapshot().nonfinite, 1);
        if nonfinite_as_null {
            assert!(got.text().ends_with(r#""predictions":[1.0,null]}"#), "{}", got.text());
        } else {
            let message = "output \"sum\": element 1 is NaN, which JSON does not have; ask for \
                           binary tensors (/v2), or set nonfinite_as_null in model.toml";
            assert_eq!(got.error().1, message);
        }
    }
}

#[tokio::test]
async fn an_output_without_rows_answers_one_row_only() {
    let bench = Bench::new();
    let mut signature = sums_signature(1);
    signature.outputs = vec![spec("three", Datatype::Fp32, &[3])];
    let run = |_: &[Tensor]| {
        Ok(vec![Tensor::new("three", vec![3], Data::Fp32(vec![1., 2., 3.])).unwrap()])
    };
    bench.add(&ModelSettings::default(), &[version("three", 1, signature, run)], None);
    let one = values(&bench, r#"{"instances":[[1]]}"#).await;
    assert_eq!(one, r#""predictions":[[1.0,2.0,3.0]]"#);
    let two = bench.post("/predict", r#"{"instances":[[1],[2]]}"#).await;
    assert_eq!(two.status, 400);
    assert!(two.error().1.starts_with("output \"three\" has shape [3]"), "{}", two.text());
}

#[tokio::test]
async fn rows_without_values_reach_no_model() {
    let bench = echo_bench(&[spec("x", Datatype::Fp32, &[-1, -1])], &[]);
    let got = bench.post("/predict", r#"{"instances":[[],[]]}"#).await;
    let message = "input \"x\": expected shape [-1, -1], got no values";
    assert_eq!(got.error(), (400, message.to_owned()));
}

/// Bodies, some of which fit an input `x` of two numbers, features `a` and `b`.
fn bodies() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        4 => any::<f32>().prop_map(|x| x.to_string()),
        2 => any::<f64>().prop_map(|x| format!("{x:e}")),
        2 => any::<i16>().prop_map(|x| x.to_string()),
        1 => prop_oneof!["null", "true", "\"1\"", "1e39", "[1]", "\\{\\}"],
    ];
    let row = (0..6, number.clone(), number).prop_map(|(form, a, b)| match form {
        0 | 1 => format!("[{a}, {b}]"),
        2 => format!("{{\"a\":{a},\"b\": {b}}}"),
        3 => format!("{{ \"b\" : {b} , \"\\u0061\":{a} }}"),
        4 => format!("{{\"x\":[{a},{b}]}}"),
        _ => a,
    });
    (0..4, proptest::collection::vec(row, 1..4)).prop_map(|(form, rows)| match form {
        0 => format!("{{\"inputs\":[{}]}}", rows.join(", ")),
        1 => format!("{{\"version\":1,\"instances\":[{}],\"model\":\"m\"}}", rows.join(",")),
        2 => format!("{{\"inputs\":{{\"x\":[{}]}}}}\n", rows.join("\n,")),
        _ => format!("{{\"instances\": [{}]}}", rows.join(", ")),
    })
}

fn tensors(envelope: &Envelope<'_>) -> Result<Vec<Tensor>, Error> {
    let signature = echo_signature(&[spec("x", Datatype::Fp32, &[-1, 2])]);
    let features = ["a".to_owned(), "b".to_owned()];
    match envelope.values {
        Values::Rows(value) => {
            let reader = Reader::new(envelope.body, value);
            Ok(rows::decode(envelope.body, reader, &signature, &features)?.0)
        }
        Values::Columns(value) => {
            let reader = Reader::new(envelope.body, value);
            columns::decode(envelope.body, reader, &signature)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// In one pass a body comes to the same tensors, or the same message, as when
    /// serde_json has read all of it before.
    #[test]
    fn one_pass_is_as_good_as_two(
        body in bodies(),
        at in any::<usize>(),
        mark in any::<usize>(),
        how in any::<u8>(),
    ) {
        for body in [damage(&body, at, mark, how), body] {
            let once = Envelope::read(body.as_bytes(), Dialect::Short).and_then(|envelope| {
                tensors(&envelope).map_err(|error| envelope.grammar().unwrap_or(error))
            });
            let twice = parse::<Object<'_>>(&body)
                .and_then(|object| Envelope::of(&body, &object, true, Dialect::Short))
                .and_then(|envelope| tensors(&envelope));
            match (once, twice) {
                (Ok(once), Ok(twice)) => prop_assert_eq!(once, twice),
                (once, twice) => {
                    let message = |result: Result<_, Error>| result.err().map(|e| e.to_string());
                    prop_assert_eq!(message(once), message(twice), "{}", body);
                }
            }
        }
    }
}
