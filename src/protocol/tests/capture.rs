//! What is offered to be stored, beside the reply.

use std::sync::Arc;

use crate::protocol::testing::{Bench, sums, sums_signature, version};
use crate::types::{CaptureRule, ModelSettings, Share};

#[tokio::test]
async fn a_stored_request_has_the_ids_of_its_reply() {
    let bench = Bench::new();
    let metrics = bench.service.metrics();
    let queue = metrics.captures().open(10, 1 << 20).unwrap();
    let rule = CaptureRule { sample: Share::ALL, ..CaptureRule::default() };
    let settings = ModelSettings {
        capture: Some(Arc::new(rule)),
        allow_forced_role: true,
        ..ModelSettings::default()
    };
    let sums = version("sums", 1, sums_signature(2), sums);
    sums.watch().capture_by(metrics.captures().tap(sums.model(), &settings));
    bench.add(&settings, &[sums], None);
    let row = r#"{"instances":[[1,2]]}"#;
    for headers in [&[("x-request-id", "mine")][..], &[]] {
        let reply = bench.send("POST", "/predict/sums", headers, row).await;
        // It is offered behind the reply.
        assert!(queue.is_empty());
        tokio::task::yield_now().await;
        let record = queue.pop().unwrap();
        assert_eq!(&*record.request_id, reply.header("x-request-id"));
        assert_eq!(&*record.prediction_id, reply.header("x-prediction-id"));
        assert_eq!((record.inputs[0].rows(), record.outputs[0].rows()), (1, 1));
    }
    // What was asked for by its role, or failed, is no traffic to run again.
    let forced = [("x-foreshadow-role", "champion")];
    assert_eq!(bench.send("POST", "/predict/sums", &forced, row).await.status, 200);
    assert_eq!(bench.post("/predict/sums", r#"{"instances":[[7,2]]}"#).await.status, 500);
    tokio::task::yield_now().await;
    assert!(queue.is_empty());
}

#[tokio::test]
async fn a_request_is_stored_that_a_shadow_gets_as_well() {
    let bench = Bench::new();
    let metrics = bench.service.metrics();
    let queue = metrics.captures().open(10, 1 << 20).unwrap();
    let champion = version("sums", 1, sums_signature(2), sums);
    let rule = CaptureRule { sample: Share::ALL, ..CaptureRule::default() };
    let settings = ModelSettings { capture: Some(Arc::new(rule)), ..ModelSettings::default() };
    let tap = metrics.captures().tap(champion.model(), &settings).unwrap();
    champion.watch().capture_by(Some(Arc::clone(&tap)));
    let shadow = version("sums", 2, sums_signature(2), sums);
    let plan = bench.add_shadowed(&champion, &shadow);
    let row = r#"{"instances":[[1,2]]}"#;
    assert_eq!(bench.post("/predict/sums", row).await.status, 200);
    while plan.shadows[0].stats.snapshot().compared < 1 {
        tokio::task::yield_now().await;
    }
    let record = queue.pop().unwrap();
    assert_eq!((record.inputs[0].rows(), record.outputs[0].rows()), (1, 1));
    assert_eq!((tap.stats().snapshot().sampled, queue.is_empty()), (1, true));
}
