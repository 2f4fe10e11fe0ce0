//! Answers as a table: kept in a file without a name until it is known what their columns
//! are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use crate::app::dataset::{LABEL, LabelTypes, Sheet, SheetForm, Value, ValueType, label_value};
use crate::cli::dataset::pages::{Answer, Said};
use crate::cli::output::folder_of;

/// The most columns of scores, and of groups.
const COLUMNS_MAX: usize = 1024;

/// Answers that wait to be written.
pub(super) struct Spool {
    file: BufWriter<File>,
    seen: Seen,
}

/// What they have.
#[derive(Default)]
struct Seen {
    rows: u64,
    labelled: u64,
    /// A class with a name was answered.
    names: bool,
    /// A number was.
    numbers: bool,
    scores: usize,
    groups: BTreeSet<String>,
    labels: LabelTypes,
}

impl Seen {
    fn see(&mut self, answer: &Answer) -> Result<(), String> {
        self.rows += 1;
        match &answer.answer {
            Some(Said::Name(_)) => self.names = true,
            Some(Said::Number(_)) => self.numbers = true,
            Some(Said::Class(_)) | None => {}
        }
        if let Some(label) = &answer.label {
            self.labelled += 1;
            self.labels.see(label);
        }
        self.scores = self.scores.max(answer.scores.len());
        for name in answer.groups.keys() {
            if !self.groups.contains(name) {
                self.groups.insert(name.clone());
            }
        }
        if self.scores > COLUMNS_MAX || self.groups.len() > COLUMNS_MAX {
            return Err(format!(
                "expected at most {COLUMNS_MAX} columns of scores and of groups each, got {} and {}",
                self.scores,
                self.groups.len()
            ));
        }
        Ok(())
    }

    /// The one type that all answers have.
    const fn answer_type(&self) -> ValueType {
        match self {
            Self { names: true, .. } => ValueType::Text,
            Self { numbers: true, .. } => ValueType::Number,
            _ => ValueType::Int,
        }
    }

    fn columns(&self) -> Vec<(String, ValueType)> {
        let fixed = [
            ("prediction_id", ValueType::Text),
            ("row", ValueType::Int),
            ("time", ValueType::Time),
            ("version", ValueType::Int),
            ("role", ValueType::Text),
            ("answer", self.answer_type()),
        ];
        let fixed = fixed.map(|(name, of)| (name.to_owned(), of)).into_iter();
        let scores = (0..self.scores).map(|at| (format!("scores.{at}"), ValueType::Number));
        let groups = self.groups.iter().map(|name| (format!("group.{name}"), ValueType::Text));
        let label = (LABEL.to_owned(), self.labels.value_type());
        fixed.chain(scores).chain(groups).chain([label]).collect()
    }

    /// The values of an answer, in the columns' order.
    fn values<'a>(&'a self, answer: &'a Answer) -> impl Iterator<Item = Value<'a>> {
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let whole = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let fixed = [
            text(&answer.prediction_id),
            whole(answer.row.into()),
            micros(&answer.time).map_or(Value::Missing, Value::Time),
            whole(answer.version),
            text(&answer.role),
            answer.answer.as_ref().map_or(Value::Missing, |said| value(said, self.answer_type())),
        ];
        let scores = (0..self.scores)
            .map(|at| answer.scores.get(at).map_or(Value::Missing, |score| Value::Number(*score)));
        let groups = self.groups.iter();
        let groups =
            groups.map(move |name| answer.groups.get(name).map_or(Value::Missing, |own| text(own)));
        let of = self.labels.value_type();
        let label = answer.label.as_ref().map_or(Value::Missing, |label| label_value(label, of));
        fixed.into_iter().chain(scores).chain(groups).chain([label])
    }
}

impl Spool {
    /// None yet. The file is gone with this process, however that ends.
    pub(super) fn beside(out: &Path) -> Result<Self, String> {
        let folder = folder_of(out);
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| format!("{}: no file can be made: {error}", folder.display()))?;
        Ok(Self { file: BufWriter::new(file), seen: Seen::default() })
    }

    /// Adds an answer.
    pub(super) fn add(&mut self, answer: &Answer) -> Result<(), String> {
        self.seen.see(answer)?;
        serde_json::to_writer(&mut self.file, answer).map_err(cannot)?;
        self.file.write_all(b"\n").map_err(cannot)
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.seen.rows == 0
    }

    /// Writes them; how many rows, labels and columns that are.
    pub(super) fn write(self, file: File, form: SheetForm) -> Result<(u64, u64, usize), String> {
        let Self { file: spooled, seen } = self;
        let mut spooled = spooled.into_inner().map_err(|error| cannot(error.error()))?;
        spooled.rewind().map_err(cannot)?;
        let mut sheet = Sheet::new(file, form, &seen.columns())?;
        let columns = sheet.columns();
        for line in BufReader::new(spooled).lines() {
            let answer: Answer = serde_json::from_str(&line.map_err(cannot)?).map_err(cannot)?;
            sheet.row(seen.values(&answer))?;
        }
        Ok((sheet.finish()?, seen.labelled, columns))
    }
}

fn cannot(error: impl std::fmt::Display) -> String {
    format!("the answers cannot be kept on the disk: {error}")
}

/// What was answered as a value of a type that all answers have.
fn value(said: &Said, of: ValueType) -> Value<'_> {
    #[expect(clippy::cast_precision_loss, reason = "a class is small")]
    match (said, of) {
        (Said::Class(class), ValueType::Int) => Value::Int(*class),
        (Said::Class(class), ValueType::Number) => Value::Number(*class as f64),
        (Said::Number(number), ValueType::Number) => Value::Number(*number),
        (Said::Class(class), _) => Value::Text(Cow::Owned(class.to_string())),
        (Said::Number(number), _) => Value::Text(Cow::Owned(number.to_string())),
        (Said::Name(name), _) => Value::Text(Cow::Borrowed(name)),
    }
}

/// Microseconds since 1970.
fn micros(time: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}
