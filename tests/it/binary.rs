//! The program as a person meets it: what it prints, and how it ends.

use std::path::Path;
use std::process::Command;

use crate::http::Client;
use crate::program::{command, run, serve};

fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
}

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

#[test]
fn the_samples_are_served_in_their_roles_and_the_pasted_line_answers() {
    let state = tempfile::tempdir().unwrap();
    let mut program = serve(samples(), state.path(), &[]);
    let churn = program.line("  churn");
    assert!(churn.contains("champion 1, canary 2 at 10%, shadow 3"), "{churn}");
    let line = program.line("curl ");
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reply["model"], "churn", "{reply}");
    assert_eq!(reply["predictions"].as_array().unwrap().len(), 1);
    block_on(async {
        let mut client = Client::connect(program.inference).await;
        let ready = client.get("/v2/health/ready").await;
        assert_eq!(ready.status, 200);
        let digits = client.get("/v2/models/digits").await.json();
        assert_eq!(digits["inputs"][0]["shape"], serde_json::json!([-1, 64]));
    });
    program.signal("INT");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
fn the_tour_finds_the_bad_version() {
    let state = tempfile::tempdir().unwrap();
    let mut program = serve(samples(), state.path(), &[]);
    program.line("Try:");
    let admin = format!("http://{}", program.admin);
    let url = format!("http://{}", program.inference);
    let cli = |args: &[&str]| {
        let output = command(args).env("FORESHADOW_ADMIN", &admin).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {out}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        out
    };
    let rows = samples().join("churn/sample.json");
    cli(&[
        "try",
        "churn",
        "--rate",
        "400",
        "--for",
        "3s",
        "--inference",
        &url,
        "--rows",
        rows.to_str().unwrap(),
    ]);
    let compared: serde_json::Value =
        serde_json::from_str(&cli(&["compare", "churn", "--json"])).unwrap();
    let shadow = &compared["shadows"][0];
    assert_eq!(shadow["version"], 3, "{compared:#}");
    let rate = shadow["disagreement_rate"].as_f64().unwrap();
    assert!((0.02..0.12).contains(&rate), "{compared:#}");
    assert!(compared["canary"]["ok"].as_u64().unwrap() > 0, "{compared:#}");
    assert!(cli(&["compare", "churn"]).contains("shadow"));
    cli(&["shadow", "churn", "3", "--off", "--reason", "worse"]);
    cli(&["canary", "churn", "2", "--weight", "50%"]);
    cli(&["promote", "churn", "2"]);
    cli(&["rollback", "churn"]);
    let history = cli(&["history", "churn"]);
    assert!(history.contains("worse") && history.contains("promote"), "{history}");
    let shown = cli(&["models"]);
    assert!(shown.contains("digits"), "{shown}");
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = tempfile::tempdir().unwrap();
    let output = command(&["serve", "--models", samples().to_str().unwrap(), "--listen", &address])
        .env("FORESHADOW_GRPC_LISTEN", "127.0.0.1:0")
        .env("FORESHADOW_ADMIN_LISTEN", "127.0.0.1:0")
        .env("FORESHADOW_REPOSITORY_STATE", state.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&address) && text.contains("in use") && text.contains("--listen"),
        "{text}"
    );
}

#[test]
fn wrong_settings_end_with_2_and_say_all_that_is_wrong() {
    let output = run(&["serve", "--listen", "nowhere", "--check-config"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--listen"), "{text}");
    let output = run(&["serve", "--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("[server]"));
}

#[test]
fn a_models_folder_that_is_missing_is_named() {
    let output = run(&["serve", "--models", "/nowhere/at/all", "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("/nowhere/at/all"), "{text}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    use std::io::Write as _;
    let state = tempfile::tempdir().unwrap();
    let mut program = serve(samples(), state.path(), &[]);
    program.line("Try:");
    // Half a request holds the graceful end up, for thirty seconds.
    let mut held = std::net::TcpStream::connect(program.inference).unwrap();
    held.write_all(b"POST /predict/churn HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    block_on(async { Client::connect(program.inference).await.get("/v2/health/live").await });
    program.signal("TERM");
    let began = std::time::Instant::now();
    while std::net::TcpStream::connect(program.inference).is_ok() {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "it still listens");
        std::thread::yield_now();
    }
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(130));
}
