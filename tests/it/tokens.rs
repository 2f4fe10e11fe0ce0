//! Who may do what, with the real program.

use std::path::Path;
use std::process::Output;

use crate::http::Client;
use crate::program::{Program, command, run, serve};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");

fn start(state: &Path, settings: &[(&str, &str)]) -> Program {
    let mut program = serve(Path::new(MODELS), state, settings);
    program.line("Try:");
    program
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].iter().map(|s| String::from_utf8_lossy(s)).collect()
}

/// Makes a token; its secret.
fn create(program: &Program, secret: Option<&str>, name: &str, role: &str) -> String {
    let output = client(program, secret, &["token", "create", name, "--role", role]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn client(program: &Program, secret: Option<&str>, args: &[&str]) -> Output {
    let mut command = command(args);
    command.env("FORESHADOW_ADMIN", format!("http://{}", program.admin));
    if let Some(secret) = secret {
        command.env("FORESHADOW_ADMIN_TOKEN", secret);
    }
    command.output().unwrap()
}

#[test]
fn a_role_is_kept_to_and_a_token_ends_when_it_is_revoked() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_str().unwrap();
    // The first one, before there is a gateway.
    let made = run(&["token", "create", "ann", "--role", "admin", "--state", path]);
    assert!(made.status.success(), "{}", text(&made));
    let ann = String::from_utf8(made.stdout).unwrap().trim().to_owned();

    let closed = [("FORESHADOW_ADMIN_OPEN", "off")];
    let program = start(state.path(), &closed);
    let nobody = client(&program, None, &["models"]);
    assert!(!nobody.status.success() && text(&nobody).contains("token"), "{}", text(&nobody));
    let eve = create(&program, Some(&ann), "eve", "operator");
    let bob = create(&program, Some(&ann), "bob", "viewer");

    assert!(client(&program, Some(&bob), &["models"]).status.success());
    let promote = ["promote", "churn", "2", "--actor", "somebody"];
    let refused = client(&program, Some(&bob), &promote);
    let expected = "this needs the role operator; the token \"bob\" has viewer";
    assert!(text(&refused).contains(expected), "{}", text(&refused));
    assert!(client(&program, Some(&eve), &promote).status.success());
    let refused = client(&program, Some(&eve), &["token", "list"]);
    assert!(text(&refused).contains("needs the role admin"), "{}", text(&refused));

    let history = client(&program, Some(&bob), &["history", "churn", "--limit", "1"]);
    assert!(text(&history).contains("promote 2  (by eve)"), "{}", text(&history));
    drop(program);

    // They outlive the process; the log has none of them.
    let mut program = start(state.path(), &closed);
    assert!(client(&program, Some(&bob), &["models"]).status.success());
    let revoked = client(&program, Some(&ann), &["token", "revoke", "bob"]);
    assert!(text(&revoked).contains("token bob is revoked"), "{}", text(&revoked));
    let late = client(&program, Some(&bob), &["models"]);
    assert!(!late.status.success(), "{}", text(&late));
    // Who let whom in is in the chain of the audit log.
    let history = text(&client(&program, Some(&eve), &["history"]));
    for line in ["token eve made: operator  (by ann)", "token bob revoked  (by ann)"] {
        assert!(history.contains(&format!("foreshadow  {line}")), "{line}: {history}");
    }
    let verified = run(&["audit", "verify", "--state", path]);
    assert!(verified.status.success(), "{}", text(&verified));
    let list = text(&client(&program, Some(&ann), &["token", "list"]));
    assert!(list.contains("eve") && !list.contains("bob"), "{list}");
    program.signal("TERM");
    let (_, log) = program.wait();
    for secret in [&ann, &eve, &bob] {
        assert!(!log.contains(&**secret) && !list.contains(&**secret));
    }
}

#[test]
fn another_spelling_of_a_path_is_no_way_around_a_role() {
    let state = tempfile::tempdir().unwrap();
    let program = start(state.path(), &[]);
    let bob = create(&program, None, "bob", "viewer");
    let bearer = format!("Bearer {bob}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut admin = Client::connect(program.admin).await;
        for (method, path) in [
            ("GET", "/v1/tokens"),
            ("GET", "/v1//tokens"),
            ("GET", "//v1/tokens"),
            ("GET", "/v1/%74okens"),
            ("GET", "/v1/tokens/"),
            ("GET", "/v1/./tokens"),
            ("GET", "/v1/models/churn/answers"),
            ("GET", "//v1/models/churn/answers"),
            ("GET", "/v1/models/churn/%61nswers"),
            ("GET", "/v1/%6dodels/churn/answers"),
            ("GET", "/v1/models/churn/answers/"),
            ("GET", "/v1/models//churn/answers"),
            ("POST", "/v1/models/churn/promote?x=/rollout/plan"),
            ("POST", "/v1/models/churn%2frollout%2fplan"),
            ("POST", "/v1/models/churn/promote/"),
        ] {
            let headers = [("authorization", bearer.as_str())];
            let reply = admin.send(method, path, &headers, "").await;
            assert!([403, 404, 405].contains(&reply.status), "{method} {path}: {}", reply.status);
        }
        // A token that nobody knows is worse than none, where none is asked for.
        let headers = [("authorization", "Bearer fsh_0123456789abcdef")];
        assert_eq!(admin.send("GET", "/v1/models", &headers, "").await.status, 401);
        assert_eq!(admin.send("GET", "/v1/models", &[], "").await.status, 200);
    });
}
