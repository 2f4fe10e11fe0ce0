//! Any inputs to models that are good: an error, or an answer.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use foreshadow::engine::Model;
use foreshadow_fuzz::{forget_caught_panics, load, run};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

/// Every model of the engine's tests.
static MODELS: LazyLock<Vec<Arc<dyn Model>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/engine");
    let mut models = Vec::new();
    for file in ["cases.jsonl", "shapes.jsonl"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("the engine's test data");
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).expect("a case");
            let hex = case["model"].as_str().expect("a model");
            let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
            let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
            models.push(load(&bytes).expect("a good model"));
        }
    }
    models
});

fuzz_target!(init: forget_caught_panics(), |bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    if let Ok(model) = bytes.choose(&MODELS) {
        let _ = run(&**model, &mut bytes);
        // Plans by shape must not pile up over millions of runs.
        model.trim(std::time::Duration::ZERO);
    }
});
