//! What was acknowledged outlives the process, however it ends.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::http::Client;
use crate::program::{Program, command, run, serve};

/// Runs a client command against a gateway; its stdout.
pub(crate) fn client(program: &Program, args: &[&str]) -> String {
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
pub(crate) fn repository(root: &Path) {
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
pub(crate) fn plan(program: &Program) -> String {
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

/// One command, after a crash, and although nothing of version 1 is left in the
/// repository.
#[test]
fn a_former_state_comes_back_after_its_folder_is_gone() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let mut program = start(root.path());
    client(&program, &["canary", "churn", "2", "--weight", "12.5%"]);
    let before = plan(&program);
    let history: Value =
        serde_json::from_str(&client(&program, &["history", "churn", "--json"])).unwrap();
    let entry = history["entries"][0]["number"].to_string();
    client(&program, &["promote", "churn", "2"]);
    program.signal("KILL");
    assert_eq!(program.wait().0, None);
    fs::remove_dir_all(root.path().join("models/churn/1")).unwrap();

    let mut program = start(root.path());
    assert_eq!(plan(&program), "churn: champion 2");
    client(&program, &["rollback", "churn", "--to", &entry]);
    assert_eq!(plan(&program), before);
    let shown = client(&program, &["show", "churn"]);
    assert!(shown.contains("restored, its folder is gone"), "{shown}");
    program.signal("KILL");
    assert_eq!(program.wait().0, None);

    let program = start(root.path());
    assert_eq!(plan(&program), before);
    let history = client(&program, &["history", "churn"]);
    assert!(history.contains(&format!("rollback to entry {entry}")), "{history}");
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
    assert!(said.contains("store_required = \"off\""), "{said}");
    assert!(fs::read(state.join("foreshadow.db")).unwrap().starts_with(b"this is no"));
    assert_eq!(verify(&state, None).status.code(), Some(1));
}

/// Starts it although its store may be unusable.
fn start_anyhow(root: &Path) -> Program {
    let settings =
        [("FORESHADOW_REPOSITORY_SETTLE", "50ms"), ("FORESHADOW_REPOSITORY_STORE_REQUIRED", "off")];
    let mut program = serve(&root.join("models"), &root.join("state"), &settings);
    program.line("Try:");
    program
}

/// Runs a client command that is refused; what it says.
pub(crate) fn refused(program: &Program, args: &[&str]) -> String {
    let url = format!("http://{}", program.admin);
    let output = command(args).env("FORESHADOW_ADMIN", url).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
    text(&output)
}

/// Does something to the store, beside the gateway.
fn sql(root: &Path, statements: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let file = root.join("state/foreshadow.db");
    runtime.block_on(async {
        use sqlx::ConnectOptions as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    });
}

/// One page of the admin listener.
pub(crate) fn page(program: &Program, path: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Client::connect(program.admin).await.get(path).await.text() })
}

/// Version 1, alone, as model.toml says; and what may be changed and what not.
fn answers_without_its_store(program: &Program, why: &str) {
    assert_eq!(plan(program), "churn: champion 1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = r#"{"instances": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}"#;
    let reply = runtime.block_on(async {
        Client::connect(program.inference).await.post("/predict/churn", row).await
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    let said = refused(program, &["promote", "churn", "2"]);
    assert!(said.contains("nothing was changed") && said.contains(why), "{said}");
    assert!(page(program, "/healthz").contains("changes cannot be recorded"));
    assert!(page(program, "/metrics").contains("\nforeshadow_store_up 0\n"));
    let shown = client(program, &["show", "churn"]);
    assert!(shown.contains("could not be recorded yet"), "{shown}");
}

#[test]
fn a_damaged_store_is_left_and_models_start_anew_where_that_is_wanted() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let file = root.path().join("state/foreshadow.db");
    fs::create_dir(root.path().join("state")).unwrap();
    let garbage = "this is no database, but long enough".repeat(100);
    fs::write(&file, &garbage).unwrap();
    let program = start_anyhow(root.path());
    answers_without_its_store(&program, "not a database");
    drop(program);
    assert_eq!(fs::read_to_string(&file).unwrap(), garbage);
}

#[test]
fn a_store_of_a_newer_version_is_not_touched() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let mut program = start(root.path());
    client(&program, &["promote", "churn", "2"]);
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    let newer = "INSERT INTO _sqlx_migrations
                 (version, description, success, checksum, execution_time)
                 VALUES (9999, 'later', 1, x'00', 0)";
    sql(root.path(), newer);
    let program = start_anyhow(root.path());
    answers_without_its_store(&program, "a newer version of this program wrote it");
    drop(program);
    // The version that wrote it goes on where it was.
    sql(root.path(), "DELETE FROM _sqlx_migrations WHERE version = 9999");
    assert_eq!(plan(&start(root.path())), "churn: champion 2");
}

/// What can be read is in force: only what it says of now on is refused.
#[test]
fn a_store_that_can_only_be_read_says_what_is_wanted() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let mut program = start(root.path());
    client(&program, &["promote", "churn", "2"]);
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    // It lacks a step, which cannot be written.
    sql(
        root.path(),
        "DROP TABLE rollout_keys; DELETE FROM _sqlx_migrations WHERE version = 6;
         CREATE TRIGGER full BEFORE INSERT ON _sqlx_migrations
         BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
    );
    let program = start_anyhow(root.path());
    assert_eq!(plan(&program), "churn: champion 2");
    let said = refused(&program, &["canary", "churn", "3", "--weight", "5%"]);
    assert!(said.contains("nothing was changed"), "{said}");
    assert!(page(&program, "/metrics").contains("\nforeshadow_store_up 0\n"));
}

/// The disk fills up while it serves, and has room again.
#[test]
fn a_store_that_fails_for_a_while_stops_nobody() {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let mut program = start(root.path());
    client(&program, &["canary", "churn", "2", "--weight", "10%"]);
    let full = "CREATE TRIGGER full BEFORE INSERT ON audit
                BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END";
    sql(root.path(), full);
    let said = refused(&program, &["canary", "churn", "2", "--weight", "50%"]);
    assert!(said.contains("database or disk is full"), "{said}");
    client(&program, &["canary", "churn", "2", "--weight", "1%"]);
    assert_eq!(plan(&program), "churn: champion 1, canary 2 at 1%");
    assert!(client(&program, &["show", "churn"]).contains("could not be recorded yet"));
    // What was recorded last is what a restart finds, full as the disk may be.
    program.signal("KILL");
    assert_eq!(program.wait().0, None);
    let program = start(root.path());
    assert_eq!(plan(&program), "churn: champion 1, canary 2 at 10%");
    client(&program, &["canary", "churn", "--off"]);
    sql(root.path(), "DROP TRIGGER full");
    client(&program, &["shadow", "churn", "3"]);
    let history = client(&program, &["history", "churn"]);
    assert!(history.contains("remove canary") && history.contains("shadow 3"), "{history}");
    assert!(!client(&program, &["show", "churn"]).contains("could not be recorded yet"));
    assert!(page(&program, "/metrics").contains("\nforeshadow_store_up 1\n"));
    assert!(verify(&root.path().join("state"), None).status.success());
}
