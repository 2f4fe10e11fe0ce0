//! `foreshadow check`: what a CI pipeline sees of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::hostile::{endless, runs};
use crate::program::{children, command, serve};

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(120);

fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
}

/// Puts a version of a sample into `models/<place>`.
fn put(root: &Path, place: &str, sample: &str) -> PathBuf {
    let folder = root.join("models").join(place);
    fs::create_dir_all(&folder).unwrap();
    for file in ["model.onnx", "version.toml", "golden.json"] {
        fs::copy(samples().join(sample).join(file), folder.join(file)).unwrap();
    }
    folder
}

/// A good version, a slow one, a wrong one, a broken one, and one of another
/// signature than its champion.
fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "good/1", "churn/1");
    let slow = put(root.path(), "slow/1", "churn/2").join("../model.toml");
    fs::write(slow, "cost_max = \"10ns\"\n").unwrap();
    let wrong = put(root.path(), "wrong/1", "churn/1");
    fs::copy(samples().join("churn/2/golden.json"), wrong.join("golden.json")).unwrap();
    let broken = put(root.path(), "broken/1", "churn/1");
    fs::write(broken.join("model.onnx"), "no <model> & nothing else").unwrap();
    fs::remove_file(broken.join("version.toml")).unwrap();
    put(root.path(), "changed/1", "churn/1");
    let changed = put(root.path(), "changed/2", "digits/1").join("../model.toml");
    fs::write(changed, "[start]\nchampion = 1\n").unwrap();
    root
}

fn check(root: &Path, args: &[&str]) -> Output {
    let mut command = command(&["check"]);
    command.args(args).current_dir(root).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Without what differs from run to run: times, sizes, measured batches.
fn masked(text: &str) -> String {
    let lines = text.lines().map(without_note).filter(|line| !is_cost(line)).map(mask_line);
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A step that passed, without why the table of costs ends: on a busy machine it
/// ends early.
fn without_note(line: &str) -> &str {
    const PASSED: &str = "  ok    cost";
    if line.starts_with(PASSED) && line.contains("rows would take") { PASSED } else { line }
}

/// A row of the table of costs, or why it ends.
fn is_cost(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    first.parse::<u32>().is_ok() && words.next() != Some("of") || line.contains("rows would take")
}

fn after_comma(text: &str) -> &str {
    text.split_once(',').map_or("", |(_, rest)| rest)
}

fn mask_line(line: &str) -> String {
    const UNITS: [&str; 5] = ["ns", "µs", "ms", "s", "MiB"];
    if line.contains("PER ROW") || line.starts_with("  engine") {
        // Columns as wide as their figures; a version that is updated.
        return line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    }
    const TAKES: &str = "a row takes ";
    if line.contains(TAKES) {
        // Once as an attribute, once as text.
        let mut parts = line.split(TAKES);
        let start = parts.next().unwrap_or_default().to_owned();
        return parts.fold(start, |line, part| format!("{line}{TAKES}#,{}", after_comma(part)));
    }
    if let Some(line) = line.strip_suffix("</system-out>").filter(|line| !line.ends_with('>')) {
        return mask_line(line) + "</system-out>";
    }
    let bare = |word: &str| word.trim_matches(|c: char| "(),;".contains(c)).to_owned();
    let mut masked: Vec<String> = Vec::new();
    let mut words = line.split(' ').peekable();
    while let Some(word) = words.next() {
        let number = bare(word);
        let before = masked.last().map_or("", String::as_str);
        let next = words.peek().copied().unwrap_or_default();
        if let (true, Some(end)) = (word.starts_with("time=\""), word.rfind('"')) {
            masked.push(format!("time=\"#{}", &word[end..]));
        } else if number.parse::<f64>().is_err() {
            masked.push(word.to_owned());
        } else if UNITS.contains(&bare(next).as_str()) {
            masked.push(next.replace(&bare(next), "#"));
            words.next();
        } else if ["difference", "got"].contains(&before) || bare(next) == "rows" {
            masked.push(word.replace(&number, "#"));
        } else {
            masked.push(word.to_owned());
        }
    }
    masked.join(" ")
}

/// Compares with a committed file; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(expected, actual, "{name}; UPDATE_GOLDEN=1 rewrites it, if that is meant");
}

#[test]
fn good_slow_wrong_and_broken_versions_are_told_apart() {
    let root = repository();
    let all = check(root.path(), &["models", "--format", "junit", "--output", "report.xml"]);
    assert_eq!(all.status.code(), Some(1), "{}", String::from_utf8_lossy(&all.stderr));
    golden("text.txt", &masked(&stdout(&all)));
    golden("junit.xml", &masked(&fs::read_to_string(root.path().join("report.xml")).unwrap()));
    for (folder, code) in
        [("good", 0), ("good/1", 0), ("slow", 1), ("wrong", 1), ("broken", 1), ("changed/2", 1)]
    {
        let output = check(root.path(), &[&format!("models/{folder}")]);
        assert_eq!(output.status.code(), Some(code), "{folder}: {}", stdout(&output));
    }
    // Nothing is left, neither here nor in a state folder.
    let names: Vec<_> =
        fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn json_is_the_whole_report() {
    let root = repository();
    let output = check(root.path(), &["models/good/1", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["passed"], true);
    let version = &json["versions"][0];
    assert_eq!((&version["model"], &version["version"]), (&"good".into(), &1.into()));
    let report = &version["report"];
    assert_eq!(report["signature"]["inputs"][0]["shape"], serde_json::json!([-1, 12]));
    assert_eq!(report["rows"]["verdict"], "independent", "{report:#}");
    assert_eq!(report["golden"]["cases"], 2);
    assert!(report["costs"][0]["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["memory"]["peak_bytes"].as_u64().unwrap() > 1 << 20, "{report:#}");
    assert!(report["operators"].as_array().unwrap().iter().any(|o| o["op_type"] == "Scaler"));
}

#[test]
fn the_reference_and_the_limits_are_arguments() {
    let root = repository();
    let same = check(root.path(), &["models/wrong", "--against", "models/good/1"]);
    assert!(stdout(&same).contains("ok    signature: that of champion 1"), "{}", stdout(&same));
    let other = check(root.path(), &["models/good", "--against", "models/changed/2"]);
    let text = stdout(&other);
    assert_eq!(other.status.code(), Some(1), "{text}");
    assert!(text.contains("this takes FP32 [-1, 12]"), "{text}");
    fs::write(root.path().join("models/good/1/model.onnx"), endless()).unwrap();
    fs::remove_file(root.path().join("models/good/1/version.toml")).unwrap();
    let slow = check(root.path(), &["models/good", "--time-max", "1s"]);
    assert!(
        stdout(&slow).contains("killed after 1s (time limit) while it was"),
        "{}",
        stdout(&slow)
    );
    let small = check(root.path(), &["models/slow", "--artifact-max", "1kB"]);
    assert!(stdout(&small).contains("more than 1000 bytes, the limit"), "{}", stdout(&small));
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let root = repository();
    for (args, expected) in [
        (&["nowhere"][..], "cannot be read"),
        (&["models/good", "--engine", "magic"], "\"magic\" is unknown"),
        (&["models/good", "--against", "models"], "is no version's folder"),
        (&["models/good", "--format", "xml"], "possible values"),
    ] {
        let output = check(root.path(), args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn a_signal_ends_the_child_and_the_check() {
    let root = repository();
    fs::write(root.path().join("models/good/1/model.onnx"), endless()).unwrap();
    fs::remove_file(root.path().join("models/good/1/version.toml")).unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = command(&["check", "models/good"]);
        command.current_dir(root.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut check = command.spawn().unwrap();
        let began = Instant::now();
        let child = loop {
            assert!(began.elapsed() < HANG, "no child came");
            if let [child] = children(check.id())[..] {
                break child;
            }
        };
        let id = check.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(sent.unwrap().success());
        assert_eq!(check.wait().unwrap().code(), Some(code));
        while runs(child) {
            assert!(began.elapsed() < HANG, "the child lives on after SIG{signal}");
        }
    }
}

#[test]
fn a_gateway_shows_the_report_and_does_not_try_again_after_a_restart() {
    let (root, state) = (repository(), tempfile::tempdir().unwrap());
    fs::remove_dir_all(root.path().join("models/broken")).unwrap();
    let kept = || -> Vec<(PathBuf, u64)> {
        let files = fs::read_dir(state.path().join("preflight")).unwrap().map(|e| e.unwrap());
        let mut files: Vec<_> =
            files.map(|file| (file.path(), file.metadata().unwrap().ino())).collect();
        files.sort();
        files
    };
    // churn 1 (twice) and digits 1; the wrong one did not pass, and the slow one
    // is measured again.
    let mut before = Vec::new();
    for start in 0..2 {
        let mut program = serve(&root.path().join("models"), state.path(), &[]);
        program.line("  wrong");
        let admin = format!("http://{}", program.admin);
        let shown = |args: &[&str]| {
            let output = command(args).env("FORESHADOW_ADMIN", &admin).output().unwrap();
            stdout(&output)
        };
        let text = shown(&["show", "good", "1"]);
        for expected in ["input FP32 [N, 12]", "rows          independent", "operators", "PER ROW"]
        {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        let text = shown(&["show", "wrong", "1"]);
        assert!(text.contains("golden.json case 1: output"), "{text}");
        let text = shown(&["show", "changed", "2"]);
        assert!(text.contains("champion 1 takes FP32 [-1, 12], this"), "{text}");
        program.signal("TERM");
        assert_eq!(program.wait().0, Some(0));
        if start == 0 {
            before = kept();
            assert_eq!(before.len(), 2);
        }
    }
    assert_eq!(kept(), before, "a new trial would have replaced a file");
}

/// Whether the table of costs ends early depends on the machine.
#[test]
fn a_note_on_the_costs_hides_no_step() {
    let step = "  ok    cost\n";
    assert_eq!(masked(step), step);
    assert_eq!(masked("  ok    cost: 64 rows would take too long to measure\n"), step);
}
