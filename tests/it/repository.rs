//! What happens in the models folder while the gateway serves.

use std::fs;

use foreshadow::registry::{Change, ModelView, State, VersionView};

use crate::gateway::{Gateway, start, version, write_version};
use crate::http::Client;

const TWO: &[&str] = &["answers 1", "answers 2"];

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

fn model(gateway: &Gateway) -> std::sync::Arc<ModelView> {
    gateway.app.control().model(&"m".parse().unwrap()).unwrap()
}

fn find(gateway: &Gateway, number: u64) -> Option<VersionView> {
    model(gateway).versions.iter().find(|v| v.version == version(number)).cloned()
}

fn wait_for_state(gateway: &Gateway, number: u64, state: State) -> VersionView {
    gateway.wait(|g| find(g, number).is_some_and(|v| v.state == state));
    find(gateway, number).unwrap()
}

/// Who answers now.
fn answers(gateway: &Gateway) -> String {
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let reply = client.post("/predict/m", r#"{"instances": [[1]]}"#).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header("x-model-version").to_owned()
    })
}

fn metrics(gateway: &Gateway) -> String {
    block_on(async {
        Client::connect(gateway.app.admin_address()).await.get("/metrics").await.text()
    })
}

#[test]
fn a_version_that_appears_is_ready_and_waits_for_a_role() {
    let gateway = start("[start]\nchampion = 1\n", &["answers 1"]);
    write_version(&gateway.model_folder(), 2, "answers 2");
    let found = wait_for_state(&gateway, 2, State::Ready);
    assert!(found.digest.unwrap().starts_with("sha256:"));
    assert_eq!(answers(&gateway), "1");
    block_on(gateway.change(Change::Promote { version: version(2) }));
    assert_eq!(answers(&gateway), "2");
    gateway.app.stop();
}

#[test]
fn a_bad_version_fails_with_its_reason_and_the_others_serve_on() {
    let gateway = start("", &["answers 1"]);
    write_version(&gateway.model_folder(), 2, "nonsense");
    let failed = wait_for_state(&gateway, 2, State::Failed);
    assert!(failed.reason.unwrap().contains("no such script"));
    let folder = gateway.model_folder();
    let hidden = write_version(&folder, 33, "answers 3");
    fs::write(hidden.join("version.toml"), "autor = \"me\"\n").unwrap();
    gateway.wait(|g| {
        find(g, 33).is_some_and(|v| v.state == State::Failed || v.reason.is_some())
            || find(g, 33).is_some_and(|v| v.state == State::Ready)
    });
    fs::create_dir(folder.join("latest")).unwrap();
    gateway.wait(|g| model(g).problems.iter().any(|p| p.contains("latest")));
    assert_eq!(answers(&gateway), "1");
    gateway.app.stop();
}

#[test]
fn a_changed_file_under_a_known_version_is_reported_and_not_loaded() {
    let gateway = start("", &["answers 1"]);
    fs::write(gateway.model_folder().join("1/model.onnx"), "answers 9 changed").unwrap();
    gateway.wait(|g| {
        let model = model(g);
        let told =
            model.problems.iter().chain(model.versions.iter().filter_map(|v| v.reason.as_ref()));
        told.into_iter().any(|text| text.contains("changed"))
    });
    assert_eq!(answers(&gateway), "1");
    gateway.app.stop();
}

#[test]
fn a_removed_folder_retires_its_version_unless_it_serves() {
    let gateway = start("[start]\nchampion = 1\n", TWO);
    wait_for_state(&gateway, 2, State::Ready);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let pinned = client.post("/predict/m", r#"{"version": 2, "instances": [[1]]}"#).await;
        assert_eq!(pinned.header("x-model-version"), "2");
    });
    assert!(metrics(&gateway).contains("role=\"pinned\",version=\"2\"} 1"));
    for number in ["1", "2"] {
        fs::remove_dir_all(gateway.model_folder().join(number)).unwrap();
    }
    gateway.wait(|g| find(g, 2).is_none_or(|v| v.state == State::Retired));
    assert_eq!(answers(&gateway), "1");
    let left = metrics(&gateway);
    let left: Vec<_> = left.lines().filter(|line| line.contains("version=\"2\"")).collect();
    assert!(left.is_empty(), "{left:#?}");
    gateway.app.stop();
}

#[test]
fn a_wrong_model_toml_is_reported_and_the_last_good_one_stays() {
    let gateway = start("", &["answers 1"]);
    fs::write(gateway.model_folder().join("model.toml"), "onwer = \"me\"\n").unwrap();
    gateway.wait(|g| model(g).problems.iter().any(|p| p.contains("onwer")));
    assert_eq!(answers(&gateway), "1");
    gateway.app.stop();
}
