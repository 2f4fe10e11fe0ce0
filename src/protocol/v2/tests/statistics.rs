//! `…/stats`.

use serde_json::Value;

use super::{Bench, sums, sums_signature, version};
use crate::types::ModelSettings;

const INFER: &str = "/v2/models/sums/infer";

fn body(rows: &str, shape: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"X","shape":{shape},"datatype":"FP32","data":{rows}}}]}}"#)
}

/// The statistics under a path.
async fn stats(bench: &Bench, path: &str) -> Vec<Value> {
    let got = bench.send("GET", path, &[], "").await;
    assert_eq!(got.status, 200, "{}", got.text());
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    body["model_stats"].as_array().unwrap().clone()
}

#[tokio::test]
async fn requests_are_told_by_version_and_part() {
    let bench = Bench::new();
    let versions =
        [version("sums", 1, sums_signature(2), sums), version("sums", 2, sums_signature(2), sums)];
    bench.add(&ModelSettings::default(), &versions, None);
    bench.post(INFER, &body("[1,2,3,4,5,6]", "[3,2]")).await;
    bench.post("/v2/models/sums/versions/1/infer", &body("[1,2]", "[1,2]")).await;
    // One that the model refuses, and one that no version sees.
    assert_eq!(bench.post(INFER, &body("[7,2]", "[1,2]")).await.status, 500);
    assert_eq!(bench.post(INFER, "{").await.status, 400);
    let both = stats(&bench, "/v2/models/sums/stats").await;
    assert_eq!(stats(&bench, "/v2/models/stats").await, both);
    assert_eq!(stats(&bench, "/v2/models/sums/versions/1/stats").await, both[..1]);
    let one = &both[0];
    assert_eq!((&one["name"], &one["version"]), (&"sums".into(), &"1".into()));
    assert_eq!((&one["inference_count"], &one["execution_count"]), (&4.into(), &2.into()));
    assert!(one["last_inference"].as_u64().unwrap() > 1_700_000_000_000);
    let parts = &one["inference_stats"];
    let count = |part: &str| parts[part]["count"].as_u64().unwrap();
    let ns = |part: &str| parts[part]["ns"].as_u64().unwrap();
    for part in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(count(part), 2, "{part}");
    }
    assert_eq!((count("fail"), count("cache_hit"), count("cache_miss")), (1, 0, 0));
    assert!(ns("success") > 0 && ns("fail") > 0 && ns("compute_infer") > 0);
    let inside = ["queue", "compute_input", "compute_infer", "compute_output"].map(ns);
    assert!(inside.iter().sum::<u64>() <= ns("success"), "{one}");
    let two = &both[1];
    assert_eq!((&two["inference_count"], &two["last_inference"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn there_are_none_of_what_is_not_there() {
    let bench = Bench::new();
    assert_eq!(stats(&bench, "/v2/models/stats").await, Vec::<Value>::new());
    bench.add(&ModelSettings::default(), &[version("sums", 1, sums_signature(2), sums)], None);
    for path in ["/v2/models/nobody/stats", "/v2/models/sums/versions/9/stats"] {
        assert_eq!(bench.send("GET", path, &[], "").await.status, 404, "{path}");
    }
    assert_eq!(bench.send("GET", "/v2/models/sums/versions/x/stats", &[], "").await.status, 400);
    assert_eq!(bench.post("/v2/models/stats", "").await.status, 405);
}
