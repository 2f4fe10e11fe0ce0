//! From captured files and labels to a table.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;

use super::*;
use crate::capture::file::properties;
use crate::capture::layout::Layout;
use crate::capture::tests::{World, mixed, model, offer, rows, table};
use crate::types::{
    CaptureRule, Data, Datatype, Dim, LabelValue, ModelName, PredictionId, Signature, Tensor,
    TensorSpec,
};

fn id(n: u8) -> PredictionId {
    PredictionId([n; 16])
}

/// A file with the requests 1 (rows 1 and 2) and 2 (row 3).
fn captured(signature: Signature, features: &[&str]) -> (PathBuf, tempfile::TempDir) {
    let world = World::new(signature, CaptureRule::default(), features);
    world.send(&world.version, &id(1).to_string(), &[1.0, 2.0]);
    world.send(&world.version, &id(2).to_string(), &[f32::NAN]);
    let (files, root, ..) = world.files();
    (files[0].clone(), root)
}

fn labels(all: &[(u8, u32, LabelValue)]) -> Labels {
    let mut labels = Labels::default();
    for (n, row, label) in all {
        labels.add(id(*n), *row, label).unwrap();
    }
    labels
}

/// Writes a table; what was written and where.
fn table_of(
    files: &[PathBuf],
    labels: Labels,
    all: bool,
    form: SheetForm,
) -> Result<(Labelled, tempfile::NamedTempFile), String> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let file = out.reopen().unwrap();
    let done = Captures::open(files, &model())?.label(Labelling { labels, all, form, file })?;
    Ok((done, out))
}

fn one_label() -> Labels {
    labels(&[(1, 1, LabelValue::Number(1.0)), (7, 0, LabelValue::Number(0.0))])
}

#[test]
fn captured_rows_come_with_their_labels_as_they_were_captured() {
    let (file, _root) = captured(mixed(), &[]);
    let number = LabelValue::Number;
    let all = labels(&[(2, 0, number(1.0)), (1, 1, number(0.0)), (7, 0, number(1.0))]);
    let files = [file.clone()];
    let (done, out) = table_of(&files, all, false, SheetForm::Parquet).unwrap();
    let expected = Labelled {
        rows: 2,
        labelled: 2,
        columns: 14,
        label: "label".into(),
        not_captured: 1,
        not_labelled: 1,
        repeated: 0,
    };
    assert_eq!(done, expected);
    let (before, after) = (rows(&file), rows(out.path()));
    let told = |row: &[(String, Field)]| format!("{row:?}");
    for (row, from, label) in [(0, 1, 0), (1, 2, 1)] {
        // NaN is no equal of itself.
        assert_eq!(told(&after[row][..13]), told(&before[from]));
        assert_eq!(after[row][13], ("label".to_owned(), Field::Long(label)));
    }
    // The same types, and no value is missing but labels.
    let schema = |path: &Path| {
        let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        file.metadata().file_metadata().schema().get_fields().to_vec()
    };
    assert_eq!(schema(out.path())[..13], schema(&file)[..]);
    assert!(schema(out.path())[13].is_optional());
}

#[test]
fn all_captured_rows_are_taken_if_they_are_asked_for() {
    let (file, _root) = captured(table(), &["a", "label"]);
    let (other, _other) = captured(table(), &["a", "label"]);
    let one = labels(&[(1, 0, LabelValue::Text("yes".into()))]);
    let (done, out) = table_of(&[file, other], one, true, SheetForm::Csv).unwrap();
    // The second file has the same requests: the labelled row is not written twice.
    assert_eq!((done.rows, done.labelled, done.not_labelled, done.repeated), (5, 1, 4, 1));
    assert_eq!((done.not_captured, &*done.label), (0, "label_"));
    let text = fs::read_to_string(out.path()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "time,request_id,prediction_id,row,version,digest,role,a,label,output.y,label_"
    );
    let ends = [",champion,1,1,2,yes", ",champion,2,1,3,", ",champion,NaN,1,NaN,"];
    for (line, end) in lines[1..4].iter().zip(ends) {
        assert!(line.ends_with(end) && line.contains(":"), "{line}");
    }
    assert_eq!(lines.len(), 6);
}

#[test]
fn what_does_not_fit_is_refused_with_the_file() {
    let (file, root) = captured(table(), &["a", "b"]);
    let refused = |files: &[&Path]| {
        let files: Vec<_> = files.iter().map(|file| file.to_path_buf()).collect();
        Captures::open(&files, &model()).unwrap_err()
    };
    let bytes = fs::read(&file).unwrap();
    let half = root.path().join("half.parquet");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let problem = refused(&[&file, &half]);
    assert!(problem.contains("half.parquet is no whole Parquet file"), "{problem}");
    let problem = refused(&[&file, &file]);
    assert!(problem.ends_with("is there twice; give each file once"), "{problem}");

    let (other, _other) = captured(table(), &["a", "c"]);
    let problem = refused(&[&file, &other]);
    assert!(problem.starts_with(&format!("{} has other columns", other.display())), "{problem}");
    assert!(problem.contains("\"b\" is FP32 there and nothing here"), "{problem}");
    let hash = CaptureRule { hash: vec!["b".into()], ..CaptureRule::default() };
    let world = World::new(table(), hash, &["a", "b"]);
    world.send(&world.version, &id(1).to_string(), &[1.0]);
    let (hashed, _hashed, ..) = world.files();
    let problem = refused(&[&file, &hashed[0]]);
    assert!(problem.contains("\"b\" is FP32 there and a text here"), "{problem}");

    let problem =
        Captures::open(std::slice::from_ref(&file), &ModelName::new("n").unwrap()).unwrap_err();
    assert!(problem.ends_with("is a capture of m; expected one of n"), "{problem}");
    let (_, made) = table_of(&[file], one_label(), false, SheetForm::Parquet).unwrap();
    let problem = refused(&[made.path()]);
    assert!(problem.ends_with("is no capture of a gateway: its footer does not say so"));
}

#[test]
fn a_row_for_each_request_has_no_label_of_its_own() {
    let total = TensorSpec::new("total", Datatype::Fp32, vec![Dim::Fixed(3)]);
    let signature = Signature { outputs: vec![total], ..table() };
    let world = World::new(signature, CaptureRule::default(), &[]);
    let tensor = |name: &str, shape: &[usize]| {
        let data = Data::Fp32(vec![1.0; shape.iter().product()]);
        vec![Tensor::new(name, shape.to_vec(), data).unwrap()]
    };
    let (x, total) = (tensor("x", &[2, 2]), tensor("total", &[3]));
    offer(&world.version, x, total, &id(1).to_string());
    let (files, _root, ..) = world.files();
    let problem = Captures::open(&files, &model()).unwrap_err();
    assert!(problem.contains("has a row for each request"), "{problem}");
    assert!(problem.contains("export the answers without captures"), "{problem}");
}

#[test]
fn a_capture_without_ids_is_refused() {
    let (file, root) = captured(table(), &[]);
    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata();
    let own = metadata.key_value_metadata().unwrap().clone();
    assert!(own.iter().any(|pair| pair.key == Layout::KEY));
    let schema = parquet::schema::parser::parse_message_type("message m { required int64 row; }");
    let properties = properties().set_key_value_metadata(Some(own)).build();
    let poor = root.path().join("poor.parquet");
    let out = File::create(&poor).unwrap();
    let mut writer =
        SerializedFileWriter::new(out, schema.unwrap().into(), properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int64Type>().write_batch(&[0], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let problem = Captures::open(&[poor], &model()).unwrap_err();
    let expected = "poor.parquet cannot be read: column \"prediction_id\" is not there; give the \
                    file as it was captured";
    assert!(problem.ends_with(expected), "{problem}");
}

#[test]
fn raw_bytes_have_no_words_in_csv() {
    let (file, _root) = captured(mixed(), &[]);
    let problem = table_of(&[file], one_label(), false, SheetForm::Csv).unwrap_err();
    assert!(problem.contains("column \"p\": expected values that CSV has words for"), "{problem}");
}

#[test]
fn values_may_be_missing_and_rows_are_written_in_groups() {
    let columns = [
        ("truth", ValueType::Bool),
        ("whole", ValueType::Int),
        ("number", ValueType::Number),
        ("text", ValueType::Text),
        ("time", ValueType::Time),
    ]
    .map(|(name, of)| (name.to_owned(), of));
    let some = || {
        let text = Value::Text("a \"b\",\nc".into());
        [Value::Bool(true), Value::Int(-7), Value::Number(0.5), text, Value::Time(1_500_000)]
    };
    let write = |form| {
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut sheet = Sheet::new(out.reopen().unwrap(), form, &columns).unwrap();
        for row in 0..100_000 {
            match row % 2 {
                0 => sheet.row(some()).unwrap(),
                _ => sheet.row([]).unwrap(),
            }
        }
        assert_eq!((sheet.columns(), sheet.finish().unwrap()), (5, 100_000));
        out
    };
    let out = write(SheetForm::Csv);
    let text = fs::read_to_string(out.path()).unwrap();
    let some_line = "true,-7,0.5,\"a \"\"b\"\",\nc\",1970-01-01T00:00:01.500000Z\n";
    let start = format!("truth,whole,number,text,time\n{some_line},,,,\n{some_line},,,,\n");
    assert!(text.starts_with(&start), "{}", &text[..200]);
    assert_eq!(text.matches(some_line).count(), 50_000);

    let out = write(SheetForm::Parquet);
    let file = SerializedFileReader::new(File::open(out.path()).unwrap()).unwrap();
    assert!(file.num_row_groups() > 1);
    let read: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
    let values = |row: usize| read[row].get_column_iter().map(|(_, value)| value.clone());
    let expected = [
        Field::Bool(true),
        Field::Long(-7),
        Field::Double(0.5),
        Field::Str("a \"b\",\nc".into()),
        Field::TimestampMicros(1_500_000),
    ];
    assert_eq!(values(99_998).collect::<Vec<_>>(), expected);
    assert!(values(99_999).all(|value| value == Field::Null));

    let mut sheet = Sheet::new(tempfile::tempfile().unwrap(), SheetForm::Csv, &columns).unwrap();
    let problem = sheet.row([Value::Int(1)]).unwrap_err();
    assert!(problem.starts_with("column \"truth\": Int(1) is of another type"), "{problem}");
}
