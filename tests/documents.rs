//! The documents say what is so: every test that PROTOCOLS.md names exists,
//! and nothing that the program offers is missing from it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may")]

use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A row of a table: the route or method, its state, and the tests.
struct Row {
    what: String,
    state: String,
    tests: Vec<(String, String)>,
}

/// The rows of all tables of three columns in a document.
fn rows(text: &str) -> Vec<Row> {
    let cells = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
        let [what, state, tests] = cells[..] else { return None };
        Some((what.trim(), state.trim(), tests.trim()))
    });
    // A table's heading, and the line below it, name no test.
    cells
        .filter(|(what, ..)| what.starts_with('`'))
        .map(|(what, state, tests)| Row {
            what: what.to_owned(),
            state: state.to_owned(),
            tests: tests.split('`').filter_map(|name| name.split_once("::")).map(owned).collect(),
        })
        .collect()
}

fn owned((path, name): (&str, &str)) -> (String, String) {
    (path.to_owned(), name.to_owned())
}

#[test]
fn every_row_names_a_state_and_a_test_that_exists() {
    let rows = rows(&read("PROTOCOLS.md"));
    assert!(rows.len() > 40, "{} rows", rows.len());
    for Row { what, state, tests } in rows {
        let refused = state.strip_prefix("refused: ").is_some_and(|why| why.len() > 10);
        assert!(state.starts_with("works") || refused, "{what}: state {state:?}");
        assert!(!tests.is_empty(), "{what} names no test");
        for (path, name) in tests {
            let text = read(&path);
            let starts = [format!("fn {name}("), format!("def {name}(")];
            assert!(starts.iter().any(|start| text.contains(start)), "{path} has no test {name}");
        }
    }
}

#[test]
fn every_rpc_has_a_row() {
    let rows = rows(&read("PROTOCOLS.md"));
    let service = read("proto/grpc_service.proto");
    let rpcs = service.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    let names: Vec<_> = rpcs.filter_map(|rest| rest.split('(').next()).map(str::trim).collect();
    assert!(names.contains(&"ModelInfer"), "{names:?}");
    for name in names {
        let named = format!("`{name}`");
        assert!(rows.iter().any(|row| row.what.contains(&named)), "{name} has no row");
    }
}

#[test]
fn every_operation_of_the_inference_api_has_a_row() {
    let rows = rows(&read("PROTOCOLS.md"));
    let document: serde_json::Value =
        serde_json::from_str(&read("tests/golden/inference-openapi.json")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let route = format!("{} {path}", method.to_uppercase());
            let known = rows.iter().any(|row| spellings(&row.what).contains(&route));
            assert!(known, "{route} has no row");
        }
    }
}

/// A route's spellings without and with what stands in brackets.
fn spellings(what: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in what.trim_matches('`').split_inclusive(['[', ']']) {
        let (text, optional) = match part.strip_suffix(']') {
            Some(text) => (text, true),
            None => (part.trim_end_matches('['), false),
        };
        let with: Vec<_> = all.iter().map(|start| format!("{start}{text}")).collect();
        all = if optional { all.into_iter().chain(with).collect() } else { with };
    }
    let names = [("{m}", "{model}"), ("{v}", "{version}"), ("{l}", "{label}")];
    let spell =
        |route: String| names.iter().fold(route, |route, (short, long)| route.replace(short, long));
    all.into_iter().map(spell).collect()
}
