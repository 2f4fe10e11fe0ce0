//! What becomes of folders and files.

use super::*;

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn what_fails_changes_nothing_and_says_why() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    let generation = gateway.plan().generation;
    let cases: [(u64, Files<'_>, &str); 6] = [
        (2, &[("model.onnx", "broken here")], "broken here"),
        (3, &[("model.onnx", "hostile")], "preflight: hostile"),
        (
            4,
            &[("model.onnx", "b"), ("version.toml", "autor = 1")],
            "version.toml, line 1, column 1",
        ),
        (
            5,
            &[("model.onnx", "b"), ("version.toml", "artifact_digest = \"12\"")],
            "artifact_digest",
        ),
        (
            6,
            &[("model.onnx", "b"), ("version.toml", "engine = \"magic\"")],
            "version.toml: engine \"magic\" is unknown; this server has \"tract\"",
        ),
        (
            7,
            &[("model.onnx", "b"), ("version.toml", "file_digests = { x = \"12\" }")],
            "file_digests names \"x\", which model.onnx does not",
        ),
    ];
    for (number, files, expected) in cases {
        add(&gateway.root, number, files);
        let view = gateway.until_state(number, State::Failed).await;
        assert!(reason(&view, number).contains(expected), "{}", reason(&view, number));
    }
    assert_eq!(gateway.plan().generation, generation);
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_stated_digest_is_waited_for() {
    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let gateway = Gateway::open(repository(None, &[]));
    let stated = format!("author = \"ann\"\nartifact_digest = \"{ABC}\"");
    add(&gateway.root, 1, &[("model.onnx", "a"), ("version.toml", &stated)]);
    let view = gateway.until(|view| reason(view, 1).contains(ABC)).await;
    assert_eq!(state(&view, 1), Some(State::Discovered));
    // It holds readiness back no longer than it takes to see that.
    gateway.until_tried().await;
    fs::write(gateway.root.path().join("models/churn/1/model.onnx"), "abc").unwrap();
    let view = gateway.until_roles("1/-/-").await;
    assert_eq!(view.versions[0].digest, Some(format!("sha256:{ABC}")));
    assert_eq!(view.versions[0].lineage.author.as_deref(), Some("ann"));
}

#[tokio::test]
async fn files_that_arrive_slowly_are_waited_for() {
    let gateway = Gateway::open(repository(None, &[]));
    let folder = gateway.root.path().join("models/churn/1");
    fs::create_dir(&folder).unwrap();
    let view = gateway.until_state(1, State::Discovered).await;
    assert!(reason(&view, 1).contains("model.onnx"), "{view:?}");
    fs::write(folder.join("model.onnx"), "a").unwrap();
    gateway.until_roles("1/-/-").await;
}

#[tokio::test]
async fn a_changed_file_is_reported_and_not_loaded() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    let view = gateway.until_roles("1/-/-").await;
    let artifact = gateway.root.path().join("models/churn/1/model.onnx");
    fs::write(&artifact, "changed").unwrap();
    let changed = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(changed.problems[0].contains("push it under a new number"), "{changed:?}");
    assert_eq!(changed.versions[0].digest, view.versions[0].digest);
    assert_eq!(state(&changed, 1), Some(State::Ready));
    // Put back, it is as if nothing had been.
    fs::write(&artifact, "a").unwrap();
    gateway.until(|view| view.problems.is_empty()).await;
}

#[tokio::test]
async fn a_removed_folder_retires_its_version_unless_it_serves() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b"), (3, "c")]));
    gateway.until_roles("3/-/-").await;
    gateway.until_state(1, State::Ready).await;
    let request = gateway.plan();
    let folder = |n: u64| gateway.root.path().join("models/churn").join(n.to_string());
    fs::remove_dir_all(folder(1)).unwrap();
    fs::remove_dir_all(folder(3)).unwrap();
    let view = gateway.until(|view| reason(view, 3).contains("leaves the plan")).await;
    assert_eq!(roles(&view), "3/-/-");
    gateway.until_state(1, State::Retiring).await;
    assert!(!gateway.plan().ready.contains_key(&id(1)));
    assert!(request.ready.contains_key(&id(1)), "a request goes on on its plan");
    drop(request);
    gateway.until_state(1, State::Retired).await;
    assert!(!gateway.metrics.render().contains("version=\"1\""));
    // The champion leaves the plan, and with it the process.
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    gateway.until_state(3, State::Retired).await;
    let error = gateway.change(Change::Rollback).await.unwrap_err();
    assert!(error.message().contains("no previous champion"), "{error}");
    // Its number is free again.
    add(&gateway.root, 3, &[("model.onnx", "d")]);
    gateway.until_state(3, State::Ready).await;
    let error = gateway.change(Change::Rollback).await.unwrap_err();
    assert!(error.message().contains("no previous champion"), "not with another content");
}

#[tokio::test]
async fn a_repository_that_is_a_link_is_followed_when_it_turns() {
    let root = repository(None, &[(1, "a")]);
    let place = root.path().join("models");
    fs::rename(&place, root.path().join("first")).unwrap();
    std::os::unix::fs::symlink("first", &place).unwrap();
    let gateway = Gateway::open(root);
    gateway.until_roles("1/-/-").await;
    let at = |path: &str| gateway.root.path().join(path);
    for version in ["1", "2"] {
        fs::create_dir_all(at("second/churn").join(version)).unwrap();
        fs::write(at("second/churn").join(version).join("model.onnx"), "a").unwrap();
    }
    std::os::unix::fs::symlink("second", at("turned")).unwrap();
    fs::rename(at("turned"), &place).unwrap();
    let view = gateway.until_state(2, State::Ready).await;
    assert_eq!(roles(&view), "1/-/-");
    assert!(view.problems.is_empty(), "the same bytes at another place: {view:?}");
}

#[tokio::test]
async fn a_model_whose_folder_is_gone_keeps_serving() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b")]));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    fs::remove_dir_all(gateway.root.path().join("models/churn")).unwrap();
    let view = gateway.until_state(1, State::Retired).await;
    assert_eq!(roles(&view), "2/-/-");
    assert!(view.problems[0].contains("its folder is gone"), "{view:?}");
}

#[tokio::test]
async fn a_bad_model_file_stops_a_new_model_and_leaves_an_old_one_alone() {
    let gateway = Gateway::open(repository(Some("ownr = 1"), &[(1, "a")]));
    gateway.until_tried().await;
    let view = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(view.problems[0].contains("line 1, column 1") && view.problems[0].contains("ownr"));
    assert_eq!(state(&view, 1), Some(State::Discovered));
    let file = gateway.root.path().join("models/churn/model.toml");
    fs::write(&file, "allow_forced_role = true").unwrap();
    gateway.until_roles("1/-/-").await;
    assert!(gateway.plan().settings.allow_forced_role);
    fs::write(&file, "allow_forced_role = 7").unwrap();
    gateway.until(|view| !view.problems.is_empty()).await;
    assert!(gateway.plan().settings.allow_forced_role, "the last good settings stay");
    let link = file.with_extension("tmp");
    std::os::unix::fs::symlink("model.toml", &link).unwrap();
    fs::rename(&link, &file).unwrap();
    let unreadable = |view: &ModelView| view.problems.iter().any(|p| p.contains("be read"));
    gateway.until(unreadable).await;
    assert!(gateway.plan().settings.allow_forced_role, "unreadable is not absent");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "").unwrap();
    gateway.until(|view| view.problems.is_empty()).await;
    assert!(!gateway.plan().settings.allow_forced_role);
    assert_eq!(gateway.actions().await.last().unwrap(), "settings changed");
    fs::write(&file, "features = [\"a\", \"b\"]").unwrap();
    let view = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(view.problems[0].contains("names 2 columns, version 1 takes 1"), "{view:?}");
}

#[tokio::test]
async fn what_nobody_needs_is_removed_from_the_state_folder() {
    let root = repository(None, &[(1, "a"), (2, "b")]);
    let blobs = root.path().join("state/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("0".repeat(64)), "of a version that is gone").unwrap();
    let gateway = Gateway::open(root);
    gateway.until_ready().await;
    let stored = |count| {
        let blobs = blobs.clone();
        move |_: &Control| (fs::read_dir(&blobs).unwrap().count() == count).then_some(())
    };
    gateway.control.wait_for(stored(2)).await;
    fs::remove_dir_all(gateway.root.path().join("models/churn/1")).unwrap();
    gateway.until_state(1, State::Retired).await;
    gateway.control.wait_for(stored(1)).await;
    // The half that came of an upload is not stored.
    let whole = format!("artifact_digest = \"sha256:{}\"", "0".repeat(64));
    add(&gateway.root, 3, &[("model.onnx", "half"), ("version.toml", &whole)]);
    let waits = |view: &ModelView| {
        let third = view.versions.iter().find(|v| v.version.get() == 3);
        third.and_then(|v| v.reason.as_ref()).is_some_and(|why| why.contains("has the digest"))
    };
    gateway.until(waits).await;
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 1);
}

#[tokio::test]
async fn a_missing_models_folder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let settings =
        RegistrySettings { models_dir: root.path().join("nope"), ..RegistrySettings::default() };
    let result = Prepared::new(settings);
    let error = result.err().unwrap();
    assert!(error.message().contains("nope"), "{error}");
}

#[tokio::test]
async fn stopping_refuses_changes_and_leaves_the_plan() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    let control = gateway.control.clone();
    let started = std::time::Instant::now();
    gateway.registry.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let by = Provenance { actor: "ann".into(), reason: None };
    let error = control.change(&churn(), Change::RemoveCanary, by).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(gateway.catalog.slot("churn").unwrap().load().champion.is_some());
}
