use serde_json::json;

use super::*;
use crate::cli::Cli;
use clap::Parser as _;

fn made(label: &str, left: Option<[u64; 3]>) -> Made {
    let left = left.map(|[not_captured, without_label, repeated]| Left {
        labelled_rows_not_captured: not_captured,
        captured_rows_without_label: without_label,
        captured_rows_repeated: repeated,
    });
    Made { rows: 12, labelled: 11, columns: 20, label: label.into(), left }
}

#[test]
fn what_was_not_written_is_told() {
    assert_eq!(text(&made("label", None), false), "12 rows, 11 with a label, in 20 columns");
    let expected = "12 rows, 11 with a label, in 20 columns\n  1 labelled row in none of the \
                    captures\n  5 captured rows without a label: left out";
    assert_eq!(text(&made("label", Some([1, 5, 0])), false), expected);
    let all = text(&made("label_", Some([0, 1, 2])), true);
    assert!(all.contains("labels are in column \"label_\""), "{all}");
    assert!(all.contains("1 captured row without a label: written without one"), "{all}");
    assert!(all.ends_with("2 captured rows that came before: left out"), "{all}");
    let shown = serde_json::to_value(made("label", Some([1, 5, 0]))).unwrap();
    let expected = json!({"rows": 12, "labelled": 11, "columns": 20, "label": "label",
        "labelled_rows_not_captured": 1, "captured_rows_without_label": 5,
        "captured_rows_repeated": 0});
    assert_eq!(shown, expected);
}

fn answer(answer: serde_json::Value, label: serde_json::Value) -> Answer {
    serde_json::from_value(json!({
        "prediction_id": "ab", "row": 1, "time": "2026-01-02T03:04:05.678Z", "version": 3,
        "role": "champion", "answer": answer, "label": label, "new": true,
    }))
    .unwrap()
}

/// A table of answers, as CSV.
fn csv(answers: &[Answer]) -> String {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut spool = Spool::beside(out.path()).unwrap();
    assert!(spool.is_empty());
    answers.iter().for_each(|answer| spool.add(answer).unwrap());
    let (rows, ..) = spool.write(out.reopen().unwrap(), SheetForm::Csv).unwrap();
    assert_eq!(rows, u64::try_from(answers.len()).unwrap());
    std::fs::read_to_string(out.path()).unwrap()
}

#[test]
fn answers_are_a_table_of_their_own() {
    let mut one = answer(json!("stays"), json!("leaves"));
    one.scores = vec![0.75, 0.25];
    one.groups = [("plan".to_owned(), "pro".to_owned())].into();
    let two = answer(json!(1), json!(null));
    let text = "prediction_id,row,time,version,role,answer,scores.0,scores.1,group.plan,label\n\
                ab,1,2026-01-02T03:04:05.678000Z,3,champion,stays,0.75,0.25,pro,leaves\n\
                ab,1,2026-01-02T03:04:05.678000Z,3,champion,1,,,,\n";
    assert_eq!(csv(&[one, two]), text);
    // Numbers among whole ones, and what is none.
    let numbers = [json!(20.0), json!(null)].map(|own| answer(own, json!(true)));
    let lines = csv(&numbers);
    let ends: Vec<_> =
        lines.lines().map(|line| line.rsplit_once("champion").map(|ends| ends.1)).collect();
    assert_eq!(ends, [None, Some(",20,true"), Some(",,true")]);
    let mut wide = answer(json!(1), json!(1));
    wide.scores = vec![0.0; 1025];
    let mut spool = Spool::beside(Path::new("t.csv")).unwrap();
    assert!(spool.add(&wide).unwrap_err().starts_with("expected at most 1024 columns"));
}

#[test]
fn wrong_usage_is_told_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("a.parquet");
    std::fs::write(&there, "x").unwrap();
    let run = |out: &Path, captures: &[&Path]| {
        let mut line: Vec<_> = ["foreshadow", "dataset", "churn", "--out"].map(Into::into).into();
        line.push(out.as_os_str().to_owned());
        if !captures.is_empty() {
            line.push("--captures".into());
            line.extend(captures.iter().map(|file| file.as_os_str().to_owned()));
        }
        let cli = Cli::try_parse_from(line).unwrap();
        let Some(crate::cli::Command::Dataset(args)) = cli.command else { panic!() };
        carry_out(args).unwrap_err()
    };
    let failure = run(Path::new("t.xlsx"), &[]);
    assert!(failure.to_string().contains("ends in .parquet or .csv"), "{failure}");
    let failure = run(&there, &[&there]);
    assert!(failure.to_string().ends_with("is one of the captures; name another"), "{failure}");
    let failure = run(&folder.path().join("t.csv"), &[&there]);
    assert!(failure.to_string().contains("a.parquet is no whole Parquet file"), "{failure}");
    let own = folder.path().join("captures/churn");
    std::fs::create_dir_all(&own).unwrap();
    let stored = own.join("a.parquet");
    std::fs::write(&stored, "x").unwrap();
    let failure = run(&own.join("t.csv"), &[&stored]).to_string();
    assert!(failure.contains("is among the captures"), "{failure}");
    let taken = folder.path().join("t.csv");
    std::fs::create_dir(&taken).unwrap();
    let failure = run(&taken, &[]).to_string();
    assert!(failure.ends_with("is a folder; name a file"), "{failure}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
