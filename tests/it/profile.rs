//! `foreshadow profile`: from files of rows to a profile beside the version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::program::command;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");

/// A repository with churn, and the sample's 200 rows as train.csv, a label behind them.
fn repository() -> (tempfile::TempDir, Vec<String>, Vec<Vec<f64>>) {
    let root = tempfile::tempdir().unwrap();
    for version in ["1", "2", "3"] {
        let folder = root.path().join("models/churn").join(version);
        fs::create_dir_all(&folder).unwrap();
        for file in ["model.onnx", "version.toml"] {
            let source = Path::new(SAMPLES).join("churn").join(version).join(file);
            fs::copy(source, folder.join(file)).unwrap();
        }
    }
    let settings = Path::new(SAMPLES).join("churn/model.toml");
    fs::copy(settings, root.path().join("models/churn/model.toml")).unwrap();
    let sample = fs::read(Path::new(SAMPLES).join("churn/sample.json")).unwrap();
    let sample: Value = serde_json::from_slice(&sample).unwrap();
    let rows = sample["instances"].as_array().unwrap();
    let names: Vec<_> = rows[0].as_object().unwrap().keys().cloned().collect();
    let number = |row: &Value, name: &String| row[name].as_f64().unwrap();
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| names.iter().map(|name| number(row, name)).collect()).collect();
    fs::write(root.path().join("train.csv"), csv(&names, &rows)).unwrap();
    (root, names, rows)
}

fn csv(names: &[String], rows: &[Vec<f64>]) -> String {
    let mut text = format!("{},left\n", names.join(","));
    for row in rows {
        let cells: Vec<_> = row.iter().map(ToString::to_string).collect();
        text += &format!("{},maybe\n", cells.join(","));
    }
    text
}

fn profile(root: &Path, args: &[&str]) -> Output {
    command(&["profile"]).args(args).current_dir(root).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn feature<'a>(profile: &'a Value, side: &str, name: &str) -> &'a Value {
    profile[side].as_array().unwrap().iter().find(|feature| feature["name"] == name).unwrap()
}

/// Everything in a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_csv_file_becomes_a_profile_in_the_versions_folder() {
    let (root, names, rows) = repository();
    let output = profile(root.path(), &["churn/3", "--data", "train.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for expected in [
        "churn: 200 rows of train.csv",
        "monthly_charges",
        "whole numbers",
        "probabilities[1]",
        "written: models/churn/3/profile.json; a gateway that watches the folder takes it up",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let made = read(&root.path().join("models/churn/3/profile.json"));
    assert_eq!((&made["rows"], &made["source"]), (&200.into(), &"train.csv".into()));
    let lineage = fs::read_to_string(root.path().join("models/churn/3/version.toml")).unwrap();
    assert!(lineage.contains(made["artifact"].as_str().unwrap()), "{lineage}");
    // Tenths of what the file has, as the model takes it.
    let at = names.iter().position(|name| name == "total_charges").unwrap();
    let mut sorted: Vec<_> = rows.iter().map(|row| row[at]).collect();
    sorted.sort_by(f64::total_cmp);
    let mut bounds: Vec<_> = (0..10).map(|tenth| sorted[tenth * 20]).collect();
    bounds.push(sorted[199]);
    let charges = feature(&made, "inputs", "total_charges");
    assert_eq!(charges["bins"]["bounds"], serde_json::json!(bounds));
    let bin = |i: usize| {
        let below = |value: &f64| *value < bounds[i + 1] || i == 9;
        sorted.iter().filter(|value| **value >= bounds[i] && below(value)).count()
    };
    let counts: Vec<_> = (0..10).map(bin).collect();
    assert_eq!(charges["counts"]["bins"], serde_json::json!(counts));
    assert_eq!(feature(&made, "inputs", "autopay")["bins"]["integers"], serde_json::json!([0, 1]));
    assert_eq!(feature(&made, "outputs", "label")["bins"]["integers"], serde_json::json!([0, 1]));
    assert_eq!(feature(&made, "outputs", "probabilities[1]")["column"], 1);
    // Once more: in its place, and nothing beside it.
    let output = profile(root.path(), &["churn/3", "--data", "train.csv"]);
    assert!(stdout(&output).contains("written anew: models/churn/3/profile.json"));
    assert_eq!(entries(&root.path().join("models/churn/3")).len(), 3);
}

/// The sample as Parquet: in groups of rows, with a null, truth values and a list.
fn write_parquet(path: &Path, names: &[String], rows: &[Vec<f64>], compression: Compression) {
    let kind = |name: &str| match name {
        "autopay" => "OPTIONAL BOOLEAN",
        "age" => "OPTIONAL INT64",
        _ => "OPTIONAL DOUBLE",
    };
    let columns: Vec<_> = names.iter().map(|name| format!("{} {name};", kind(name))).collect();
    let tags = "OPTIONAL GROUP tags (LIST) { REPEATED GROUP list { OPTIONAL INT64 element; } }";
    let schema = format!(
        "message rows {{ {} {tags} REQUIRED INT64 day (TIMESTAMP(NANOS,true)); }}",
        columns.join(" ")
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in rows.chunks(70) {
        let mut row_group = writer.next_row_group().unwrap();
        for (at, name) in names.iter().enumerate() {
            let mut column = row_group.next_column().unwrap().unwrap();
            let values = group.iter().map(|row| row[at]).filter(|value| value.is_finite());
            let levels: Vec<i16> = group.iter().map(|row| row[at].is_finite().into()).collect();
            match &**name {
                "autopay" => {
                    let values: Vec<_> = values.map(|value| value == 1.0).collect();
                    column.typed::<BoolType>().write_batch(&values, Some(&levels), None).unwrap()
                }
                "age" => {
                    let values: Vec<_> = values.map(|value| value as i64).collect();
                    column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap()
                }
                _ => {
                    let values: Vec<_> = values.collect();
                    column.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap()
                }
            };
            column.close().unwrap();
        }
        let nothing = vec![0_i16; group.len()];
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[], Some(&nothing), Some(&nothing)).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        let days = vec![1_i64; group.len()];
        column.typed::<Int64Type>().write_batch(&days, None, None).unwrap();
        column.close().unwrap();
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_and_csv_come_to_the_same() {
    let (root, names, mut rows) = repository();
    let charges = names.iter().position(|name| name == "total_charges").unwrap();
    rows[7][charges] = f64::NAN;
    let text = csv(&names, &rows).replace("NaN", "");
    fs::write(root.path().join("rows.csv"), text).unwrap();
    let made = |file: &str| {
        let args = ["churn/3", "--data", file, "--json", "--output", "elsewhere.json"];
        let output = profile(root.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let mut made: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(made, read(&root.path().join("elsewhere.json")));
        assert_eq!(made["source"], file);
        made["source"] = Value::Null;
        made["created"] = Value::Null;
        made
    };
    let from_csv = made("rows.csv");
    assert_eq!(feature(&from_csv, "inputs", "total_charges")["counts"]["nan"], 1);
    for (name, compression) in [
        ("plain", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("zstd", Compression::ZSTD(ZstdLevel::default())),
        ("gzip", Compression::GZIP(parquet::basic::GzipLevel::default())),
    ] {
        let file = format!("{name}.parquet");
        write_parquet(&root.path().join(&file), &names, &rows, compression);
        assert_eq!(made(&file), from_csv, "{name}");
    }
    assert!(!root.path().join("models/churn/3/profile.json").exists());
    // What is nested or a time is wrong only where it is wanted.
    for (column, why) in [("tags", "a nested column"), ("day", "a date or time")] {
        let columns = names[1..].join(",") + "," + column;
        let args = ["churn/3", "--data", "plain.parquet", "--columns", &columns];
        let said = stderr(&profile(root.path(), &args));
        assert!(said.contains(&format!("plain.parquet, column {column:?}: expected")), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let whole = fs::read(root.path().join("plain.parquet")).unwrap();
    fs::write(root.path().join("half.parquet"), &whole[..whole.len() / 2]).unwrap();
    let output = profile(root.path(), &["churn/3", "--data", "half.parquet"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("half.parquet is no whole Parquet file"), "{output:?}");
}

#[test]
fn files_are_read_one_after_the_other_up_to_the_limit() {
    let (root, names, rows) = repository();
    fs::write(root.path().join("more.csv"), csv(&names, &rows[..50])).unwrap();
    let data = ["churn/1", "--data", "train.csv", "--data", "more.csv"];
    let made = |args: &[&str]| {
        let output = profile(root.path(), &[&data[..], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let made = read(&root.path().join("models/churn/1/profile.json"));
        (made["rows"].as_u64().unwrap(), stdout(&output))
    };
    let (rows, text) = made(&[]);
    assert!(rows == 250 && text.contains("250 rows of train.csv, more.csv"), "{text}");
    let (rows, text) = made(&["--rows-max", "200"]);
    assert!(rows == 200 && text.contains("the first 200 rows; there are more"), "{text}");
    let (rows, text) = made(&["--rows-max", "250"]);
    assert!(rows == 250 && !text.contains("there are more"), "{text}");
}

#[test]
fn what_is_wrong_is_named_with_file_place_and_column() {
    let (root, names, rows) = repository();
    let good = csv(&names, &rows[..5]);
    let mut lines: Vec<_> = good.lines().collect();
    let bad = lines[3].replacen(&rows[2][0].to_string(), "abc", 1);
    lines[3] = &bad;
    let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    write("bad.csv", &lines.join("\n"));
    lines[3] = "1,2,3";
    write("ragged.csv", &lines.join("\n"));
    write("header.csv", good.lines().next().unwrap());
    write("empty.csv", "");
    write("other.csv", "a,b\n1,2\n");
    let number = format!("bad.csv, line 4, column {:?}: expected a number, got \"abc\"", names[0]);
    let cases = [
        ("churn/3", "bad.csv", 1, &*number),
        ("churn/3", "ragged.csv", 1, "ragged.csv, line 4: expected 13 cells, as line 1 has, got 3"),
        ("churn/3", "header.csv", 1, "header.csv has no rows"),
        ("churn/3", "empty.csv", 1, "empty.csv is empty"),
        ("churn/3", "nowhere.csv", 1, "nowhere.csv cannot be read"),
        ("churn/3", "models", 1, "models is a folder"),
        ("churn/3", "other.csv", 1, "other.csv: there is no column"),
        ("churn/7", "train.csv", 2, "has no version 7; it has 1, 2, 3"),
        ("fraud/1", "train.csv", 2, "models has no model fraud"),
        ("churn", "train.csv", 2, "as in churn/3"),
    ];
    for (version, file, code, expected) in cases {
        let output = profile(root.path(), &[version, "--data", file]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{file}: {said}");
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    // Nobody names the columns, and they are too many.
    fs::remove_file(root.path().join("models/churn/model.toml")).unwrap();
    let output = profile(root.path(), &["churn/3", "--data", "train.csv"]);
    let said = stderr(&output);
    assert!(said.contains("takes 12 columns and names none, here are 13"), "{said}");
    let columns = names.join(",");
    let output = profile(root.path(), &["churn/3", "--data", "train.csv", "--columns", &columns]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let made = read(&root.path().join("models/churn/3/profile.json"));
    assert_eq!(made["inputs"][0]["name"], names[0]);
}

#[test]
fn a_signal_leaves_no_half_file() {
    let (root, names, rows) = repository();
    let folder = root.path().join("models/churn/3");
    let before = entries(&folder);
    // A pipe that never ends: it waits for rows when the signal comes.
    let pipe = root.path().join("pipe.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = command(&["profile", "churn/3", "--data", "pipe.csv"]);
        command.current_dir(root.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut program = command.spawn().unwrap();
        // Opens when the program does.
        let mut writer = File::options().write(true).open(&pipe).unwrap();
        std::io::Write::write_all(&mut writer, csv(&names, &rows).as_bytes()).unwrap();
        let id = program.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(sent.unwrap().success());
        assert_eq!(program.wait().unwrap().code(), Some(code));
        assert_eq!(entries(&folder), before);
    }
}
