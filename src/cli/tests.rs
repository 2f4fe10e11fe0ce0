//! The command line itself, and every client command against a gateway whose
//! manager takes notes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use clap::CommandFactory as _;

use super::*;
use crate::admin::testing::{Noted, gateway, version};
use crate::registry::{Change, Provenance};
use crate::types::Share;
use crate::{admin, golden};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_texts_are_golden() {
    let mut command = Cli::command();
    command.build();
    golden::check("cli/foreshadow.txt", &command.render_long_help().to_string());
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let name = sub.get_name().to_owned();
        if name != "help" {
            golden::check(&format!("cli/{name}.txt"), &sub.render_long_help().to_string());
        }
    }
}

#[test]
fn commands_are_taken_and_mistakes_are_refused() {
    for good in [
        "",
        "--models m --check-config",
        "serve --listen 127.0.0.1:0 --grpc-listen off --admin-listen 127.0.0.1:0 --state s --config f",
        "models --json",
        "show churn 2",
        "canary churn 2 --weight 5%",
        "canary churn --off --reason r --actor a",
        "shadow churn 3",
        "shadow churn 3 --sample 10%",
        "shadow churn 3 --off",
        "promote churn 2",
        "rollback churn",
        "rollback churn --to 4",
        "token create eve --role operator --expires 90d",
        "token list --state s",
        "token revoke eve",
        "compare churn --worst",
        "drift churn",
        "drift churn --json",
        "drift churn --relearn 3 --reason r --actor a",
        "profile churn/3 --data f.csv",
        "feedback a.csv b.parquet --id request --label left --row line --json",
        "alerts",
        "alerts --state firing --json",
        "history",
        "history churn --limit 5",
        "history churn --follow",
        "try churn --rate 200 --for 30s --rows f",
        "push churn model.onnx --version-file v.toml --models m",
        "check models/churn/3",
        "check m --against n --engine e --time-max 5s --memory-max 1GiB --format junit --output f",
        "preflight",
        "replay a.parquet b.parquet --against churn/4 --models m --examples 3 --json",
        "dataset churn --out t.csv",
        "dataset churn --out t.parquet --captures a.parquet b.parquet --all --json",
    ] {
        let args = std::iter::once("foreshadow").chain(good.split_whitespace());
        assert!(Cli::try_parse_from(args).is_ok(), "{good:?}");
    }
    for bad in [
        "serv",
        "--models m models",
        "show a/b",
        "show churn 0",
        "canary churn 2",
        "canary churn --weight 5%",
        "canary churn 2 --weight 101%",
        "canary churn 2 --weight 5% --off",
        "token create eve",
        "token create eve --role root",
        "token create eve --role viewer --expires soon",
        "shadow churn",
        "shadow churn 3 --off --sample 5%",
        "drift",
        "drift churn --relearn 0",
        "drift churn --relearn",
        "drift churn --reason r",
        "profile",
        "profile churn/3",
        "feedback",
        "feedback a.csv --inference https://x",
        "alerts --state bad",
        "history churn --limit 0",
        "history churn --limit 5 --follow",
        "replay a.parquet",
        "replay --against churn/4",
        "replay a.parquet --against churn",
        "dataset churn",
        "dataset --out t.csv",
        "dataset churn --out t.csv --captures",
        "try churn --rate 0",
        "try churn --for soon",
        "models --admin ftp://x",
        "check",
        "check m --format xml",
        "check m --time-max 0s",
        "check m --memory-max lots",
    ] {
        let args = std::iter::once("foreshadow").chain(bad.split_whitespace());
        assert!(Cli::try_parse_from(args).is_err(), "{bad:?}");
    }
}

/// A runtime for servers, beside the one that a command makes.
fn background() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

/// Runs command lines against a gateway of their own, one after the other;
/// what its manager was asked for, and how each command ended.
fn run_all(token: Option<&'static str>, lines: &[&str]) -> (Noted, Vec<Result<(), String>>) {
    let runtime = background();
    let (address, noted) = runtime.block_on(async {
        let (router, noted) = gateway(token).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(admin::serve(listener, router, std::future::pending()));
        (address, noted)
    });
    let run = |line: &&str| {
        let args = std::iter::once("foreshadow").chain(line.split_whitespace());
        let admin = format!("http://{address}");
        let cli = Cli::try_parse_from(args.chain(["--admin", &admin])).unwrap();
        run_client(cli.command.unwrap()).map_err(|failure| failure.to_string())
    };
    let ended = lines.iter().map(run).collect();
    runtime.shutdown_background();
    (noted, ended)
}

#[test]
fn changes_ask_for_what_was_typed() {
    let five = "5%".parse().unwrap();
    let by = "--reason too_good --actor eve";
    let cases = [
        ("canary churn 2 --weight 5%", Change::SetCanary { version: version(2), weight: five }),
        ("canary churn --off", Change::RemoveCanary),
        ("shadow churn 3", Change::SetShadow { version: version(3), sample: Share::ALL }),
        ("shadow churn 3 --sample 5%", Change::SetShadow { version: version(3), sample: five }),
        ("shadow churn 3 --off", Change::RemoveShadow { version: version(3) }),
        ("promote churn 2", Change::Promote { version: version(2) }),
        ("rollback churn", Change::Rollback),
        ("rollback churn --to 17", Change::Restore { entry: 17 }),
    ];
    let lines: Vec<_> = cases.iter().map(|(line, _)| format!("{line} {by}")).collect();
    let (noted, ended) = run_all(None, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let who = Provenance { actor: "eve".into(), reason: Some("too_good".into()) };
    for ((change, by), (line, expected)) in noted.lock().unwrap().iter().zip(&cases) {
        assert_eq!((change, by), (expected, &who), "{line}");
    }
    assert_eq!(noted.lock().unwrap().len(), cases.len());
}

#[test]
fn everything_that_can_be_read_is_read() {
    let lines = [
        "models",
        "models --json",
        "show churn",
        "compare churn --worst",
        "compare churn --json",
        "drift churn",
        "drift churn --json",
        "alerts",
        "alerts --state pending --json",
        "history",
        "history churn --limit 1",
    ];
    let (noted, ended) = run_all(None, &lines);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(noted.lock().unwrap().len(), 0);
}

#[test]
fn refusals_end_in_failure_with_the_gateways_words() {
    let lines = ["promote churn 9", "show fraud", "show churn 7", "drift churn --relearn 3"];
    let (_, ended) = run_all(None, &lines);
    let expected = [
        "version 9 is not ready",
        "unknown model \"fraud\"",
        "model churn has no version 7",
        "model churn, version 3: it is not loaded",
    ];
    for (ended, expected) in ended.into_iter().zip(expected) {
        let failure = ended.unwrap_err();
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn the_token_file_opens_a_guarded_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let shown = format!("models --token-file {}", file.display());
    let (_, ended) = run_all(Some("0123456789abcdef"), &[&shown]);
    assert_eq!(ended, [Ok(())]);
    std::fs::write(&file, "0123456789abcdeX\n").unwrap();
    let (_, ended) = run_all(Some("0123456789abcdef"), &[&shown]);
    assert!(ended[0].as_ref().unwrap_err().contains("admin token"), "{ended:?}");
}

#[test]
fn try_sends_the_rows_and_ends_with_the_comparison() {
    let runtime = background();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let predict = move |body: String| async move {
        assert_eq!(body, r#"{"instances":[[1]]}"#);
        counted.fetch_add(1, Relaxed);
        [("x-model-version", "1"), ("x-model-role", "champion")]
    };
    let address = runtime.block_on(async {
        let router = axum::Router::new().route("/predict/churn", axum::routing::post(predict));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(admin::serve(listener, router, std::future::pending()));
        address
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("churn")).unwrap();
    let sample = folder.path().join("churn/sample.json");
    std::fs::write(sample, r#"{"instances": [[1]]}"#).unwrap();
    let line = format!(
        "try churn --rate 50 --for 1s --models {} --inference http://{address}",
        folder.path().display()
    );
    let (_, ended) = run_all(None, &[&line]);
    assert_eq!((ended, seen.load(Relaxed)), (vec![Ok(())], 50));
    let unanswered = line.replace("churn --rate", "fraud --rows /nonexistent --rate");
    let (_, ended) = run_all(None, &[&unanswered]);
    assert!(ended[0].as_ref().unwrap_err().contains("--rows FILE"), "{ended:?}");
    runtime.shutdown_background();
}
