//! A captured file, and its columns, a group of rows at a time.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};

use crate::capture::column::Column;
use crate::capture::layout::Layout;

/// A captured file.
pub(super) struct Captured {
    file: SerializedFileReader<File>,
    layout: Layout,
}

/// Rows that are read at a time: whole requests.
pub(super) struct RowGroup<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    rows: usize,
}

impl Captured {
    /// Opens a file. Errors do not name it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
        let file = SerializedFileReader::new(file).map_err(|error| {
            format!("is no whole Parquet file: {error}; was it cut off when it was copied?")
        })?;
        let pairs = file.metadata().file_metadata().key_value_metadata();
        let own = pairs.into_iter().flatten().find(|pair| pair.key == Layout::KEY);
        let text = own.and_then(|pair| pair.value.as_deref());
        let text = text.ok_or("is no capture of a gateway: its footer does not say so")?;
        let layout: Layout = serde_json::from_str(text)
            .map_err(|error| format!("cannot be read: its footer is of another form: {error}"))?;
        if layout.schema != Layout::SCHEMA {
            let (wanted, got) = (Layout::SCHEMA, layout.schema);
            return Err(format!("cannot be read: expected a capture of form {wanted}, got {got}"));
        }
        Ok(Self { file, layout })
    }

    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    /// A group of rows; its columns are read when they are asked for.
    pub(super) fn row_group(&self, at: usize) -> Result<RowGroup<'_>, String> {
        let group = self.file.get_row_group(at);
        let group = group.map_err(|error| format!("cannot be read: {error}"))?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        Ok(RowGroup { group, rows })
    }
}

impl RowGroup<'_> {
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Reads a column.
    pub(super) fn column(&self, name: &str) -> Result<Column, String> {
        let schema = self.group.metadata().schema_descr_ptr();
        let at = schema.columns().iter().position(|column| column.name() == name);
        let at = at.ok_or_else(|| format!("cannot be read: column {name:?} is not there"))?;
        let column = self.group.get_column_reader(at);
        column
            .and_then(|column| Column::read(column, self.rows))
            .map_err(|error| format!("cannot be read: column {name:?}: {error}"))
    }
}

/// `capture.parquet is …`, or `capture.parquet: …`.
pub(super) fn told(path: &Path, why: &str) -> String {
    let verb = ["is ", "has ", "cannot ", "does "].iter().any(|verb| why.starts_with(verb));
    format!("{}{}{why}", path.display(), if verb { " " } else { ": " })
}
