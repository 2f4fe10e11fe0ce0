//! What was acknowledged outlives the process, however it ends.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::program::{Program, command, run, serve};

/// Runs a client command against a gateway; its stdout.
fn client(program: &Program, args: &[&str]) -> String {
    let url = format!("http://{}", program.admin);
    let output = command(args).env("FORESHADOW_ADMIN", url).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn verify(state: &Path, head: Option<&str>) -> Output {
    let state = state.to_str().unwrap();
    let head: Vec<_> = head.into_iter().flat_map(|head| ["--head", head]).collect();
    run(&[&["audit", "verify", "--state", state], &head[..]].concat())
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].iter().map(|s| String::from_utf8_lossy(s)).collect()
}

/// Three versions that are one and the same.
fn repository(root: &Path) {
    let sample = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/churn"));
    for version in ["1", "2", "3"] {
        let folder = root.join("models/churn").join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(sample.join("1/model.onnx"), folder.join("model.onnx")).unwrap();
    }
    fs::copy(sample.join("sample.json"), root.join("models/churn/sample.json")).unwrap();
    fs::write(root.join("models/churn/model.toml"), "[start]\nchampion = 1\n").unwrap();
}

fn start(root: &Path) -> Program {
    let settings = [("FORESHADOW_REPOSITORY_SETTLE", "50ms")];
    let mut program = serve(&root.join("models"), &root.join("state"), &settings);
    program.line("Try:");
    program
}

/// The plan, in words.
fn plan(program: &Program) -> String {
    let shown = client(program, &["show", "churn"]);
    shown.lines().next().unwrap().to_owned()
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let state = root.path().join("state");
    let mut program = start(root.path());
    client(&program, &["canary", "churn", "2", "--weight", "12.5%", "--reason", "a try"]);
    client(&program, &["shadow", "churn", "3"]);
    let before = plan(&program);
    assert!(before.contains("canary 2 at 12.5%") && before.contains("shadow 3"), "{before}");
    program.signal("KILL");
    assert_eq!(program.wait().0, None);

    let mut program = start(root.path());
    assert_eq!(plan(&program), before);
    client(&program, &["promote", "churn", "2"]);
    program.signal("KILL");
    assert_eq!(program.wait().0, None);

    let mut program = start(root.path());
    assert!(plan(&program).contains("champion 2"), "{}", plan(&program));
    client(&program, &["rollback", "churn"]);
    assert!(plan(&program).contains("champion 1"), "{}", plan(&program));
    let history: Value =
        serde_json::from_str(&client(&program, &["history", "churn", "--json"])).unwrap();
    let entries = history["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
    for action in ["canary 2 at 12.5%", "shadow 3", "promote 2", "rollback"] {
        assert!(actions.iter().any(|done| done.contains(action)), "{action}: {actions:?}");
    }
    // Beside the gateway, and after it.
    let head = entries[0]["hash"].as_str().unwrap();
    let whole = verify(&state, Some(head));
    assert!(whole.status.success(), "{}", text(&whole));
    assert!(text(&whole).contains(head), "{}", text(&whole));
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    assert!(verify(&state, Some(head)).status.success());
    let other = verify(&state, Some(&format!("sha256:{}", "0".repeat(64))));
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other).contains("no entry has the hash"), "{}", text(&other));
}

#[test]
fn a_store_that_cannot_be_used_is_said_and_left() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let (models, state) = (root.path().join("models"), root.path().join("state"));
    fs::create_dir(&state).unwrap();
    fs::write(state.join("foreshadow.db"), "this is no database, but long enough".repeat(100))
        .unwrap();
    let output = command(&["serve", "--models", models.to_str().unwrap()])
        .args(["--state", state.to_str().unwrap()])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--grpc-listen", "off"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("foreshadow.db cannot be used"), "{said}");
    assert!(said.contains("move it away to begin anew"), "{said}");
    assert!(fs::read(state.join("foreshadow.db")).unwrap().starts_with(b"this is no"));
    assert_eq!(verify(&state, None).status.code(), Some(1));
}
