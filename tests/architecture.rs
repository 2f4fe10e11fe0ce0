//! Who may import whom, and how large a file may grow. The table below is
//! the architecture; `src/lib.rs` tells it in words.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Component → what it may use besides [`EVERYONE`]'s words.
const MAY_USE: &[(&str, &[&str])] = &[
    ("admin", &["capture", "monitor", "registry", "rollout", "store"]),
    ("analysis", &[]),
    (
        "app",
        &[
            "admin", "capture", "config", "engine", "monitor", "protocol", "registry", "rollout",
            "routing", "server", "serving", "store", "webhooks",
        ],
    ),
    ("capture", &["analysis", "engine", "routing"]),
    ("cli", &["app", "config", "engine", "registry"]),
    ("config", &[]),
    ("engine", &[]),
    ("error", &[]),
    ("monitor", &["analysis", "store"]),
    ("protocol", &["routing"]),
    ("registry", &["engine", "routing", "serving", "store"]),
    ("rollout", &["analysis", "registry", "store"]),
    ("routing", &["serving"]),
    ("server", &["admin", "protocol"]),
    ("serving", &["engine"]),
    ("store", &[]),
    ("telemetry", &[]),
    ("types", &[]),
    ("webhooks", &["config", "store"]),
];

/// What every component may use.
const EVERYONE: &[&str] = &["error", "telemetry", "types"];

/// Components that compute and do nothing else, and what they may use: counting
/// what they did would be doing something.
const PURE: &[&str] = &["analysis"];
/// See [`PURE`].
const PURE_MAY_USE: &[&str] = &["error", "types"];

/// Crates that a component must not know, and why.
const MUST_NOT_KNOW: &[(&str, &[&str], &str)] = &[
    (
        "analysis",
        &["tokio", "tracing", "std::fs", "std::io", "std::net", "std::time", "getrandom"],
        "a verdict is a pure function of counts, so that it can be made again from its record",
    ),
    ("routing", HTTP_AND_JSON, "nothing from routing down knows HTTP, gRPC or JSON"),
    ("serving", HTTP_AND_JSON, "nothing from routing down knows HTTP, gRPC or JSON"),
    ("engine", HTTP_AND_JSON, "nothing from routing down knows HTTP, gRPC or JSON"),
    ("engine", &["tokio"], "engines are synchronous; the caller chooses the thread"),
    (
        "types",
        &["tokio", "hyper", "serde_json", "tract_onnx"],
        "words that every layer shares stay plain",
    ),
];
const HTTP_AND_JSON: &[&str] = &["http", "hyper", "hyper_util", "axum", "serde_json", "tonic"];

/// Lines of a file, its tests left out.
const LINES_MAX: usize = 500;

/// Files and folders that are compiled for tests only.
const TESTS_ONLY: &[&str] = &["testing.rs", "tests.rs", "tests", "golden.rs"];

struct Source {
    /// `routing`, for `src/routing/plan.rs` as for `src/routing.rs`.
    component: String,
    path: PathBuf,
    /// Without comments and without the tests at the end.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if TESTS_ONLY.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inner = path.strip_prefix(&root).unwrap();
                let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
                let component = first.trim_end_matches(".rs").to_owned();
                let code = code_of(&fs::read_to_string(&path).unwrap());
                found.push(Source { component, path, code });
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// Drops comments, and everything from the first test module on.
fn code_of(text: &str) -> String {
    let seen_by = ["", "pub(super) ", "pub(crate) "];
    let ends = seen_by.map(|seen_by| text.find(&format!("#[cfg(test)]\n{seen_by}mod ")));
    let end = ends.into_iter().flatten().min();
    let code = text[..end.unwrap_or(text.len())].lines();
    code.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The components that some code names as `crate::…`.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let compact: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    for (at, _) in compact.match_indices("crate::") {
        let rest = &compact[at + "crate::".len()..];
        let ends = |c: char| !(c.is_alphanumeric() || c == '_');
        if let Some(group) = rest.strip_prefix('{') {
            // use crate::{a::B, c::{D, E}}: names at depth one.
            let mut depth = 1;
            let mut word = String::new();
            let mut fresh = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && fresh && !ends(c) {
                    word.push(c);
                } else if !word.is_empty() {
                    names.insert(std::mem::take(&mut word));
                    fresh = false;
                }
                if depth == 1 && c == ',' {
                    fresh = true;
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            names.insert(rest.split(ends).next().unwrap_or_default().to_owned());
        }
    }
    names
}

/// What is wrong with one file's imports.
fn violations(component: &str, code: &str) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == component) else {
        return vec![format!(
            "component {component:?} is not in the table: decide what it may use"
        )];
    };
    let everyone = if PURE.contains(&component) { PURE_MAY_USE } else { EVERYONE };
    let mut wrong = Vec::new();
    for name in used(code) {
        let known = MAY_USE.iter().any(|(component, _)| *component == name);
        let fine = name == component || everyone.contains(&&*name) || allowed.contains(&&*name);
        if known && !fine {
            wrong.push(format!("{component} must not use {name}"));
        }
    }
    for (_, crates, why) in MUST_NOT_KNOW.iter().filter(|(name, ..)| *name == component) {
        for krate in *crates {
            let path = format!("{krate}::");
            let names = code.match_indices(&path).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if names {
                wrong.push(format!("{component} must not know {krate}: {why}"));
            }
        }
    }
    wrong
}

#[test]
fn imports_follow_the_table() {
    let mut wrong = Vec::new();
    for source in sources() {
        if matches!(source.component.as_str(), "lib" | "main") {
            continue;
        }
        for violation in violations(&source.component, &source.code) {
            wrong.push(format!("{}: {violation}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_the_registry_publishes() {
    for source in sources() {
        let publishes = source.code.contains(".publish(");
        assert!(
            !publishes || source.component == "registry",
            "{}: only the registry's manager publishes plans",
            source.path.display()
        );
    }
}

#[test]
fn files_stay_small() {
    for source in sources() {
        let lines = source.code.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines, at most {LINES_MAX}",
            source.path.display()
        );
    }
}

#[test]
fn the_check_sees_what_it_should() {
    let cases = [
        ("engine", "use crate::routing::Plan;", "engine must not use routing"),
        (
            "routing",
            "use crate::{error::Error, registry::{Control, State}};",
            "must not use registry",
        ),
        ("protocol", "fn f() { crate::registry::push(); }", "protocol must not use registry"),
        ("serving", "let x = serde_json::to_string(&y);", "serving must not know serde_json"),
        ("config", "use crate::app::serve;", "config must not use app"),
        ("analysis", "use crate::telemetry::Metrics;", "analysis must not use telemetry"),
        ("analysis", "use std::time::Instant;", "analysis must not know std::time"),
        ("novel", "", "not in the table"),
    ];
    for (component, code, expected) in cases {
        let got = violations(component, code);
        assert!(got.iter().any(|v| v.contains(expected)), "{code:?}: {got:?}");
    }
    let fine =
        "use crate::{error::{Error, Result}, types::ModelName};\nuse crate::serving::Executor;";
    assert_eq!(violations("routing", fine), Vec::<String>::new());
    assert_eq!(code_of("a\n// crate::registry\n#[cfg(test)]\nmod tests { crate::app }"), "a");
}
