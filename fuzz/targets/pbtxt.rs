//! Any text as a `config.pbtxt`: taken, or refused with what is wrong.
#![no_main]

use std::sync::LazyLock;

use foreshadow::registry::steps::read_config;
use foreshadow::types::ModelName;
use libfuzzer_sys::fuzz_target;

static MODEL: LazyLock<ModelName> = LazyLock::new(|| ModelName::new("m").expect("a good name"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(why) = read_config(text, &MODEL) {
        assert!(why.starts_with("config.pbtxt"), "{why}");
    }
});
