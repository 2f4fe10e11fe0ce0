//! Over real files, with an engine and a preflight that only pretend.

use std::fs;

use super::*;
use crate::registry::preflight::{
    BatchCost, Candidate, GoldenFailure, GoldenReport, RowsReport, RowsVerdict, SignatureReport,
    Stage,
};
use crate::registry::testing::FakeEngine;
use crate::types::{Datatype, Dim, TensorSpec};

/// Makes of the artifact's words what a child might report: `type FP64`,
/// `cost 0.1`, `load`/`memory` to fail there, `wrong 2` for that golden case.
struct Pretend;

impl Preflight for Pretend {
    fn try_candidate(&self, candidate: &Candidate) -> std::result::Result<Report, Failure> {
        let text = fs::read_to_string(&candidate.artifact).unwrap();
        let after = |word: &str| {
            let mut words = text.split_whitespace().skip_while(|w| *w != word);
            words.next().map(|_| words.next().unwrap_or_default().to_owned())
        };
        if after("load").is_some() {
            return Err(Failure::new(Stage::Load, "it does not load"));
        }
        let datatype = after("type").map_or(Datatype::Fp32, |name| name.parse().unwrap());
        let x = TensorSpec::new("x", datatype, vec![Dim::Any, Dim::Fixed(2)]);
        let y = TensorSpec::new("y", Datatype::Fp32, vec![Dim::Any]);
        let mut report = Report {
            engine: candidate.engine.clone(),
            signature: SignatureReport::of(&Signature::new(vec![x], vec![y])),
            load_seconds: Some(0.25),
            ..Report::default()
        };
        if after("memory").is_some() {
            let reason = "killed at 9.0 GiB".to_owned();
            return Err(Failure { stage: Stage::Memory, reason, report: Box::new(report) });
        }
        report.warm_up_seconds = Some(0.5);
        if candidate.golden.is_some() {
            let wrong = after("wrong").map(|case| GoldenFailure {
                case: case.parse().unwrap(),
                reason: "expected 1, got 2".into(),
            });
            let failures: Vec<_> = wrong.into_iter().collect();
            let failed = failures.first().map(|f| format!("golden.json case {}", f.case));
            report.golden = Some(GoldenReport { cases: 3, failures, ..GoldenReport::default() });
            if let Some(reason) = failed {
                return Err(Failure { stage: Stage::Golden, reason, report: Box::new(report) });
            }
        }
        report.rows = RowsReport { verdict: RowsVerdict::Independent, ..RowsReport::default() };
        let seconds = after("cost").map_or(1e-5, |cost| cost.parse().unwrap());
        report.costs = vec![BatchCost { rows: 1, seconds, ..BatchCost::default() }];
        Ok(report)
    }
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A repository with these files.
fn repository(files: Files<'_>) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn run(folder: &Path, against: Option<&Path>) -> Result<Vec<Checked>> {
    let settings = CheckSettings {
        against: against.map(Path::to_owned),
        engine: None,
        artifact_bytes_max: 1000,
    };
    let engines = EngineSet::default().with(Arc::new(FakeEngine));
    check(folder, &settings, &engines, Arc::new(Pretend), |_| {})
}

/// `load: passed`, one line a step, details behind.
fn told(checked: &Checked) -> String {
    let line = |step: &CheckStep| {
        let detail = step.detail.as_ref().map_or_else(String::new, |d| format!(" ({d})"));
        format!("{}: {:?}{detail}", step.name, step.status)
    };
    checked.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_version_a_model_and_a_repository_are_found() {
    let root = repository(&[
        ("a/model.toml", ""),
        ("a/1/model.onnx", ""),
        ("a/12/model.onnx", ""),
        ("b/3/model.onnx", ""),
        ("notes/x.txt", ""),
        ("build/model.onnx", ""),
    ]);
    let found = |path: &str| -> Vec<String> {
        let checked = run(&root.path().join(path), None).unwrap();
        checked.iter().map(|c| format!("{} {}", c.model, c.version)).collect()
    };
    assert_eq!(found(""), ["a 1", "a 12", "b 3"]);
    assert_eq!(found("a"), ["a 1", "a 12"]);
    assert_eq!(found("a/12"), ["a 12"]);
    assert_eq!(found("b/3/."), ["b 3"]);
    // The folder of a build: no number, and its parent's name may be none.
    assert!(found("build")[0].ends_with(" 1"));
    for (path, expected) in [("notes", "has no versions"), ("nowhere", "cannot be read")] {
        let error = run(&root.path().join(path), None).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
    let error = run(&root.path().join("a/1"), Some(&root.path().join("a"))).unwrap_err();
    assert!(error.message().contains("no version's folder"), "{error}");
}

#[test]
fn every_step_is_told_for_what_passes() {
    let root = repository(&[
        ("m/model.toml", "features = [\"a\", \"b\"]\ncost_max = \"1ms\"\n[start]\nchampion = 1"),
        ("m/1/model.onnx", ""),
        ("m/2/model.onnx", ""),
        ("m/2/golden.json", "{}"),
    ]);
    let checked = run(&root.path().join("m"), None).unwrap();
    assert!(checked.iter().all(|c| c.passed), "{checked:#?}");
    assert_eq!(checked[1].report.engine, "tract");
    assert_eq!(checked[1].steps[1].seconds, Some(0.25));
    let expected = "files: Passed
load: Passed
warm-up: Passed
signature: Passed (that of champion 1)
features: Passed
golden case 1: Passed
golden case 2: Passed
golden case 3: Passed
rows-independent: Passed
cost: Passed
memory: Passed";
    assert_eq!(told(&checked[1]), expected);
    let first = told(&checked[0]);
    assert!(first.contains("signature: Skipped (no champion"), "{first}");
    assert!(first.contains("golden: Skipped (there is no golden.json)"), "{first}");
}

#[test]
fn what_fails_fails_where_it_did() {
    let cases: [(Files<'_>, &[&str]); 11] = [
        (&[("model.onnx", "load")], &["load: Failed (it does not load)", "warm-up: Skipped"]),
        (
            &[("model.onnx", "memory")],
            &["load: Passed", "warm-up: Skipped (not reached)", "memory: Failed (killed at 9.0"],
        ),
        (
            &[("model.onnx", "wrong 2"), ("golden.json", "")],
            &[
                "case 1: Passed",
                "case 2: Failed (expected 1, got 2)",
                "cost: Skipped (not reached)",
            ],
        ),
        (&[("model.onnx", "cost 0.002")], &["cost: Failed (a row takes 2ms, more than the 1ms"]),
        (
            &[("model.onnx", "type FP64")],
            &["signature: Failed (input \"x\": champion 1 takes FP32 [-1, 2], this takes FP64"],
        ),
        (
            &[("../model.toml", "ownr = 1"), ("model.onnx", "")],
            &["files: Failed (model.toml, line"],
        ),
        (
            &[("../model.toml", "features = [\"a\"]"), ("model.onnx", "")],
            &["features: Failed (model.toml: features names 1 columns, version 2 takes 2)"],
        ),
        (
            &[("version.toml", "autor = 1"), ("model.onnx", "")],
            &["files: Failed (version.toml, line 1", "load: Skipped", "golden: Skipped"],
        ),
        (
            &[("version.toml", STATED), ("model.onnx", "")],
            &["files: Failed (model.onnx has the digest sha256:e3b0c44298fc"],
        ),
        (&[("notes.txt", "")], &["files: Failed (model.onnx cannot be read"]),
        (&[("model.onnx", TOO_LARGE)], &["files: Failed (model.onnx has more than 1000 bytes"]),
    ];
    for (files, expected) in cases {
        let root = repository(&[
            ("m/model.toml", "cost_max = \"1ms\"\n[start]\nchampion = 1"),
            ("m/1/model.onnx", ""),
        ]);
        fs::create_dir(root.path().join("m/2")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join("m/2").join(name), text).unwrap();
        }
        let checked = &run(&root.path().join("m/2"), None).unwrap()[0];
        assert!(!checked.passed, "{files:?}");
        for words in expected {
            assert!(told(checked).contains(words), "{words:?} is not in\n{}", told(checked));
        }
    }
}

const STATED: &str = concat!(
    "artifact_digest = \"0000000000000000000000000000000000000000000000000000",
    "000000000000\""
);
const TOO_LARGE: &str = match std::str::from_utf8(&[b'x'; 1001]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn a_change_of_signature_may_be_allowed_and_the_reference_named() {
    let root = repository(&[
        ("m/model.toml", "allow_signature_change = true\n[start]\nchampion = 1"),
        ("m/1/model.onnx", ""),
        ("m/2/model.onnx", "type FP64"),
        ("other/1/model.onnx", "type INT64"),
        ("other/2/model.onnx", "load"),
    ]);
    let path = |path: &str| root.path().join(path);
    let checked = run(&path("m/2"), None).unwrap();
    assert!(told(&checked[0]).contains("signature: Passed (allowed by model.toml: input \"x\""));
    let checked = run(&path("other/1"), Some(&path("m/1"))).unwrap();
    assert!(told(&checked[0]).contains("takes FP32 [-1, 2], this takes INT64"));
    let checked = run(&path("other/1"), Some(&path("other/1"))).unwrap();
    assert!(checked[0].passed, "{}", told(&checked[0]));
    let checked = run(&path("m/1"), Some(&path("other/2"))).unwrap();
    let told = told(&checked[0]);
    assert!(told.contains("signature: Failed (the champion cannot be compared with"), "{told}");
    assert!(told.contains("does not load: it does not load"), "{told}");
}

#[test]
fn an_allowed_change_needs_no_champion_to_compare_with() {
    let root = repository(&[
        ("m/model.toml", "allow_signature_change = true\n[start]\nchampion = 1"),
        ("m/2/model.onnx", ""),
    ]);
    let checked = run(&root.path().join("m"), None).unwrap();
    assert!(checked[0].passed, "{}", told(&checked[0]));
    let expected = "signature: Skipped (no champion to compare with";
    assert!(told(&checked[0]).contains(expected), "{}", told(&checked[0]));
}

/// Passes what is alone in its folder.
struct Alone;

impl Preflight for Alone {
    fn try_candidate(&self, candidate: &Candidate) -> std::result::Result<Report, Failure> {
        let folder = candidate.artifact.parent().unwrap();
        match fs::read_dir(folder).unwrap().count() {
            1 => Ok(Report::default()),
            more => Err(Failure::new(Stage::Load, format!("{more} files"))),
        }
    }
}

#[test]
fn copies_go_when_they_were_tried() {
    let versions = ["m/1/model.onnx", "m/2/model.onnx", "m/3/model.onnx"];
    let root = repository(&versions.map(|path| (path, path)));
    let settings = CheckSettings { artifact_bytes_max: 1000, ..CheckSettings::default() };
    let engines = EngineSet::default().with(Arc::new(FakeEngine));
    let checked = check(root.path(), &settings, &engines, Arc::new(Alone), |_| {}).unwrap();
    assert!(checked.iter().all(|c| c.passed), "{checked:#?}");
    assert_eq!(checked.len(), 3);
}
