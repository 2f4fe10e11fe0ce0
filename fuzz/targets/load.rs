//! Any bytes as a model file: an error, or a model that runs.
#![no_main]

use foreshadow_fuzz::{forget_caught_panics, load, run};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: forget_caught_panics(), |bytes: &[u8]| {
    if let Ok(model) = load(bytes) {
        let _ = run(&*model, &mut Unstructured::new(bytes));
    }
});
