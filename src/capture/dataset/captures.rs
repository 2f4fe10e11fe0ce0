//! Captured rows, each with its label.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::capture::captured::{Captured, RowGroup, told};
use crate::capture::column::{Column, Kind};
use crate::capture::dataset::labels::Taken;
use crate::capture::dataset::{LABEL, Labels, Sheet, SheetForm, Value, ValueType, label_value};
use crate::capture::layout::{ID, ROW};
use crate::capture::rows::columns;
use crate::types::{ModelName, PredictionId};

/// Of a file that is there no more.
const REMOVED: &str = "has gone meanwhile: the gateway removes old captures (keep_for and \
                       keep_bytes of [capture] in its settings); copy them before";

/// Captured files of one form.
#[derive(Debug)]
pub struct Captures {
    files: Vec<PathBuf>,
    /// Their columns; in another order in some of them, maybe.
    columns: Vec<(String, Kind)>,
}

/// How labels are put beside captured rows.
pub struct Labelling {
    /// The labels.
    pub labels: Labels,
    /// Whether rows without a label are written, too.
    pub all: bool,
    /// How the table is written,
    pub form: SheetForm,
    /// and where to.
    pub file: File,
}

/// What was written, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Rows that were written.
    pub rows: u64,
    /// Of them, those with a label.
    pub labelled: u64,
    /// The table's columns.
    pub columns: usize,
    /// What the column of labels is called: `label`, unless a captured one is.
    pub label: String,
    /// Rows with a label that were not captured, in these files at least.
    pub not_captured: u64,
    /// Captured rows without a label; they were written if all were asked for.
    pub not_labelled: u64,
    /// Captured rows with a label that came before; they were not written again.
    pub repeated: u64,
}

/// A table that is being written.
struct Writing {
    labels: Labels,
    of: ValueType,
    all: bool,
    sheet: Sheet,
    done: Labelled,
}

impl Captures {
    /// Looks at files of a model; none stays open.
    ///
    /// # Errors
    /// One is there twice, is not whole, is no capture, is another model's, has other columns
    /// than the first one, or has no row for each that was scored; the message names it.
    pub fn open(files: &[PathBuf], model: &ModelName) -> Result<Self, String> {
        let mut wanted: Option<(&Path, Vec<(String, Kind)>)> = None;
        let mut seen = BTreeSet::new();
        for path in files {
            // What has no such path is told when it is opened.
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                return Err(told(path, "is there twice; give each file once"));
            }
            let own = fitting(path, model).map_err(|why| told(path, &why))?;
            match &wanted {
                None => wanted = Some((path, own)),
                Some((first, wanted)) => {
                    differs(wanted, &own, first).map_err(|why| told(path, &why))?;
                }
            }
        }
        let columns = wanted.map(|(_, columns)| columns).unwrap_or_default();
        Ok(Self { files: files.to_vec(), columns })
    }

    /// Writes a table of the captured rows that have a label, or of all.
    ///
    /// # Errors
    /// A file cannot be read any more, or holds no ids; the table cannot be written. The
    /// message names the file.
    pub fn label(&self, how: Labelling) -> Result<Labelled, String> {
        let Labelling { mut labels, all, form, file } = how;
        labels.sort();
        let (label, of) = (self.label_name(), labels.value_type());
        let sheet = Sheet::of_captured(file, form, &self.columns, (&label, of))?;
        let done = Labelled { columns: sheet.columns(), label, ..Labelled::default() };
        let mut writing = Writing { labels, of, all, sheet, done };
        for path in &self.files {
            self.read(path, &mut writing)?;
        }
        let Writing { labels, sheet, mut done, .. } = writing;
        done.not_captured = u64::try_from(labels.left()).unwrap_or(u64::MAX);
        done.rows = sheet.finish()?;
        Ok(done)
    }

    /// What no captured column is called.
    fn label_name(&self) -> String {
        let mut name = LABEL.to_owned();
        while self.columns.iter().any(|(own, _)| *own == name) {
            name.push('_');
        }
        name
    }

    /// Writes the rows of one file.
    fn read(&self, path: &Path, writing: &mut Writing) -> Result<(), String> {
        let at = |why: String| told(path, &why);
        let file = Captured::open(path).map_err(|why| match path.exists() {
            true => told(path, &why),
            false => told(path, REMOVED),
        })?;
        for group in 0..file.groups() {
            let group = file.row_group(group).map_err(at)?;
            let wanted = writing.wanted(&group).map_err(at)?;
            if wanted.is_empty() {
                continue;
            }
            let columns = self.columns.iter().map(|(name, _)| group.column(name));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(at)?;
            for (row, label) in wanted {
                writing.row(&columns, row, label).map_err(at)?;
                // That the table cannot be written is not this file's fault.
                writing.sheet.write_if_full()?;
            }
        }
        Ok(())
    }
}

impl Writing {
    /// The rows of a group that are written, and where their labels are.
    fn wanted(&mut self, group: &RowGroup<'_>) -> Result<Vec<(usize, Option<usize>)>, String> {
        let (ids, rows) = (group.column(ID)?, group.column(ROW)?);
        let mut wanted = Vec::new();
        for at in 0..group.rows() {
            let (id, row) = place(&ids, &rows, at)?;
            match self.labels.take(id, row) {
                Taken::Label(label) => wanted.push((at, Some(label))),
                Taken::Again => self.done.repeated += 1,
                Taken::Nothing => {
                    self.done.not_labelled += 1;
                    wanted.extend(self.all.then_some((at, None)));
                }
            }
        }
        Ok(wanted)
    }

    fn row(&mut self, columns: &[Column], row: usize, label: Option<usize>) -> Result<(), String> {
        let label = label.map(|at| self.labels.label(at));
        self.done.labelled += u64::from(label.is_some());
        let value = label.as_ref().map_or(Value::Missing, |label| label_value(label, self.of));
        self.sheet.captured_row(columns, row, &value)
    }
}

/// Which row of which answer a captured row is.
fn place(ids: &Column, rows: &Column, at: usize) -> Result<(PredictionId, u32), String> {
    let id = ids.bytes(at).and_then(|id| std::str::from_utf8(id).ok());
    let id = id.ok_or_else(|| format!("cannot be read: column {ID:?} has no texts"))?;
    let id = id.parse().map_err(|error: crate::error::Error| error.message().to_owned())?;
    let row = rows.int(at).and_then(|row| u32::try_from(row).ok());
    Ok((id, row.ok_or_else(|| format!("cannot be read: column {ROW:?} has no rows' numbers"))?))
}

/// The columns of a file whose rows may have labels.
fn fitting(path: &Path, model: &ModelName) -> Result<Vec<(String, Kind)>, String> {
    let file = Captured::open(path)?;
    let layout = file.layout();
    if layout.model != *model {
        return Err(format!("is a capture of {}; expected one of {model}", layout.model));
    }
    if layout.whole_requests {
        return Err(
            "has a row for each request, as its model's outputs have none for each row of \
                    the input; a label is of one row: export the answers without captures, and \
                    join the two by prediction_id"
                .to_owned(),
        );
    }
    if let Some(group) = (file.groups() > 0).then(|| file.row_group(0)).transpose()? {
        // That they are there is known before anything is written.
        for name in [ID, ROW] {
            group.column(name).map_err(|why| format!("{why}; give the file as it was captured"))?;
        }
    }
    Ok(columns(layout))
}

/// Fails where columns differ from those of the first file.
fn differs(wanted: &[(String, Kind)], got: &[(String, Kind)], first: &Path) -> Result<(), String> {
    let kind = |columns: &[(String, Kind)], name: &str| {
        let own = columns.iter().find(|(own, _)| own == name);
        own.map(|(_, kind)| *kind)
    };
    let names = wanted.iter().chain(got).map(|(name, _)| name);
    let other = names.map(|name| (name, kind(wanted, name), kind(got, name)));
    let Some((name, wanted, got)) = other.into_iter().find(|(_, wanted, got)| wanted != got) else {
        return Ok(());
    };
    let told = |kind: Option<Kind>| kind.map_or("nothing".to_owned(), |kind| kind.to_string());
    Err(format!(
        "has other columns than {}: {name:?} is {} there and {} here; make a table of each, or \
         look at what changed in model.toml",
        first.display(),
        told(wanted),
        told(got)
    ))
}
