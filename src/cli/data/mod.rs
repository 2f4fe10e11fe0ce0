//! A file of rows, whatever its form.

pub(super) mod cell;
mod csv;
mod parquet;

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::path::Path;

use crate::cli::data::cell::Cell;

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// Rows, one after the other.
pub(super) trait Table {
    /// The columns' names.
    fn columns(&self) -> &[String];

    /// Which columns are read, by their places; once, before the first row.
    fn select(&mut self, columns: &[usize]) -> Result<(), String>;

    /// Goes to the next row; `false` behind the last one.
    fn next(&mut self) -> Result<bool, String>;

    /// What people count its rows by, `line` or `row`, and which the present one is.
    fn place(&self) -> (&'static str, u64);

    /// A value of the present row, by its place in what was selected.
    fn cell(&self, at: usize) -> Cell<'_>;
}

/// Opens a file, by what it begins with. Errors do not name it.
pub(super) fn open(path: &Path) -> Result<Box<dyn Table>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err("is a folder; expected a CSV or Parquet file".to_owned());
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Err("is empty; expected a CSV or Parquet file with rows".to_owned());
    }
    let mut start = Vec::new();
    (&mut file).take(4).read_to_end(&mut start).map_err(unreadable)?;
    let named = path.extension().is_some_and(|extension| extension == "parquet");
    if start == PARQUET || named {
        file.rewind().map_err(unreadable)?;
        return Ok(Box::new(parquet::Parquet::open(file)?));
    }
    // Not gone back to: it may be a pipe.
    Ok(Box::new(csv::Csv::open(Cursor::new(start).chain(file))?))
}
