//! The environment's layer.

use std::ffi::OsString;

use super::KEYS;
use super::raw::{Layers, Source, Value};

/// What every variable of ours starts with.
const PREFIX: &str = "FORESHADOW_";

/// Names the configuration file.
pub const CONFIG_VARIABLE: &str = "FORESHADOW_CONFIG";

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
            problems.push(unknown(name));
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

/// The file that the environment names, if it does.
pub(super) fn config_file(environment: &[(OsString, OsString)]) -> Option<OsString> {
    let found = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
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
