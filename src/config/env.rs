//! The environment's layer.

use std::ffi::OsString;

use super::KEYS;
use super::raw::{Layers, Source, Value};

/// What every variable of ours starts with.
const PREFIX: &str = "FORESHADOW_";

/// Names the configuration file.
pub const CONFIG_VARIABLE: &str = "FORESHADOW_CONFIG";

/// What others call the library of ONNX Runtime; below all settings of ours.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Variables of the client commands: where the gateway answers. They may
/// stand in a server's environment too.
pub const CLIENT_VARIABLES: [&str; 2] = ["FORESHADOW_ADMIN", "FORESHADOW_INFERENCE"];

/// Puts the environment's values into `layers`. Variables with our prefix
/// that nothing reads go to `problems`: they are most likely misspelt.
pub(super) fn read(
    environment: &[(OsString, OsString)],
    layers: &mut Layers,
    problems: &mut Vec<String>,
) {
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name == CONFIG_VARIABLE || CLIENT_VARIABLES.contains(&name) {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            if !is_service_link(name) {
                problems.push(unknown(name));
            }
            continue;
        };
        match value.to_str() {
            Some(text) => {
                let source = Source::Variable(name.to_owned());
                layers.set(key.path(), Value::Plain(text.to_owned()), source);
            }
            None => problems.push(format!("{name}: expected UTF-8 text")),
        }
    }
}

/// Puts what a common variable of others says into `layers`, where our own
/// settings replace it.
pub(super) fn read_common(environment: &[(OsString, OsString)], layers: &mut Layers) {
    let found = environment.iter().find(|(name, _)| name == LIBRARY_VARIABLE);
    if let Some(path) = found.and_then(|(_, value)| value.to_str()) {
        let source = Source::Variable(LIBRARY_VARIABLE.to_owned());
        let value = Value::Plain(path.to_owned());
        layers.set("engine.onnxruntime_library".to_owned(), value, source);
    }
}

/// The file that the environment names, if it does.
pub(super) fn config_file(environment: &[(OsString, OsString)]) -> Option<OsString> {
    let found = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}

/// Whether Kubernetes put it there: in the namespace of a Service named
/// `foreshadow` every container gets `FORESHADOW_SERVICE_HOST`,
/// `FORESHADOW_PORT_8000_TCP` and the like.
fn is_service_link(name: &str) -> bool {
    let numbered = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let known = ["_TCP", "_UDP", "_SCTP"].iter().any(|known| protocol.starts_with(known));
        protocol.len() < rest.len() && known
    });
    numbered
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
}

fn unknown(name: &str) -> String {
    let section = KEYS.iter().map(|key| key.section).find(|section| {
        let start = format!("{PREFIX}{}_", section.to_uppercase());
        name.starts_with(&start)
    });
    let similar = KEYS.iter().filter(|key| section.is_none_or(|section| key.section == section));
    let names: Vec<_> = match section {
        Some(_) => similar.map(super::Key::variable).collect(),
        None => {
            let mut stems: Vec<_> = similar.map(|key| key.section.to_uppercase()).collect();
            stems.dedup();
            stems.into_iter().map(|stem| format!("{PREFIX}{stem}_…")).collect()
        }
    };
    format!("{name}: unknown variable; known: {}, {CONFIG_VARIABLE}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Key;

    #[test]
    fn kubernetes_service_links_are_nobodys_typing_errors() {
        for theirs in [
            "FORESHADOW_SERVICE_HOST",
            "FORESHADOW_SERVICE_PORT",
            "FORESHADOW_SERVICE_PORT_HTTP",
            "FORESHADOW_PORT",
            "FORESHADOW_PORT_8000_TCP",
            "FORESHADOW_PORT_8000_TCP_ADDR",
            "FORESHADOW_ADMIN_PORT_8002_TCP_PROTO",
        ] {
            assert!(is_service_link(theirs), "{theirs}");
        }
        let misspelt = ["FORESHADOW_SERVER_LISEN", "FORESHADOW_PORT_X", "FORESHADOW_PORT_80"];
        for ours in misspelt.into_iter().map(str::to_owned).chain(KEYS.iter().map(Key::variable)) {
            assert!(!is_service_link(&ours), "{ours}");
        }
    }
}
