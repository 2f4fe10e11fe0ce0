//! Parquet files: plain columns of numbers, truth values and texts.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use crate::cli::data::Table;
use crate::cli::data::cell::Cell;

/// A file that is read.
pub(super) struct Parquet {
    /// Until the columns are selected.
    file: Option<SerializedFileReader<File>>,
    columns: Vec<String>,
    rows: Option<RowIter<'static>>,
    /// By the places in what was selected: places in the rows that are read.
    selected: Vec<usize>,
    fields: Vec<Field>,
    row: u64,
}

impl Parquet {
    pub(super) fn open(file: File) -> Result<Self, String> {
        let file = SerializedFileReader::new(file).map_err(|error| {
            format!("is no whole Parquet file: {error}; was it cut off when it was copied?")
        })?;
        let schema = file.metadata().file_metadata().schema();
        let columns = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let (rows, selected, fields) = (None, Vec::new(), Vec::new());
        Ok(Self { file: Some(file), columns, rows, selected, fields, row: 0 })
    }
}

/// Why a column is not read.
fn unfit(field: &Type) -> Option<&'static str> {
    let info = field.get_basic_info();
    if !field.is_primitive() || info.converted_type() == ConvertedType::LIST {
        return Some("a nested column; write its parts as columns of their own");
    }
    if info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED {
        return Some("a list; write its parts as columns of their own");
    }
    let time = matches!(
        info.converted_type(),
        ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
            | ConvertedType::INTERVAL
    );
    let logical = matches!(
        info.logical_type_ref(),
        Some(LogicalType::Date | LogicalType::Time { .. } | LogicalType::Timestamp { .. })
    );
    (time || logical || field.get_physical_type() == PhysicalType::INT96)
        .then_some("a date or time; write it as the number that the model takes")
}

impl Table for Parquet {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<(), String> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let schema = file.metadata().file_metadata().schema();
        let mut read: Vec<usize> = columns.to_vec();
        read.sort_unstable();
        read.dedup();
        let mut fields = Vec::with_capacity(read.len());
        for at in &read {
            let field = &schema.get_fields()[*at];
            if let Some(why) = unfit(field) {
                let name = field.name();
                return Err(format!(
                    "column {name:?}: expected a column of numbers, truth values or texts, got {why}"
                ));
            }
            fields.push(Arc::clone(field));
        }
        let wanted = Type::group_type_builder(schema.name()).with_fields(fields).build();
        let rows =
            wanted.and_then(|wanted| RowIter::from_file_into(Box::new(file)).project(Some(wanted)));
        self.rows = Some(rows.map_err(|error| format!("cannot be read: {error}"))?);
        self.selected = columns.iter().map(|at| read.partition_point(|known| known < at)).collect();
        Ok(())
    }

    fn next(&mut self) -> Result<bool, String> {
        let Some(row) = self.rows.as_mut().and_then(Iterator::next) else { return Ok(false) };
        self.row += 1;
        let row = row.map_err(|error| format!("row {}: cannot be read: {error}", self.row))?;
        self.fields = row.into_columns().into_iter().map(|(_, field)| field).collect();
        Ok(true)
    }

    fn place(&self) -> (&'static str, u64) {
        ("row", self.row)
    }

    fn cell(&self, at: usize) -> Cell<'_> {
        match self.selected.get(at).and_then(|place| self.fields.get(*place)) {
            Some(field) => cell(field),
            None => Cell::Missing,
        }
    }
}

fn cell(field: &Field) -> Cell<'_> {
    match field {
        Field::Null => Cell::Missing,
        Field::Bool(truth) => Cell::Bool(*truth),
        Field::Byte(n) => Cell::Integer((*n).into()),
        Field::Short(n) => Cell::Integer((*n).into()),
        Field::Int(n) => Cell::Integer((*n).into()),
        Field::Long(n) => Cell::Integer((*n).into()),
        Field::UByte(n) => Cell::Integer((*n).into()),
        Field::UShort(n) => Cell::Integer((*n).into()),
        Field::UInt(n) => Cell::Integer((*n).into()),
        Field::ULong(n) => Cell::Integer((*n).into()),
        Field::Float16(n) => Cell::Number((*n).into()),
        Field::Float(n) => Cell::Number((*n).into()),
        Field::Double(n) => Cell::Number(*n),
        Field::Str(text) => Cell::Text(Cow::Borrowed(text.as_bytes())),
        Field::Bytes(bytes) => Cell::Text(Cow::Borrowed(bytes.data())),
        // A decimal as its digits; what else there is was refused.
        other => Cell::Text(Cow::Owned(other.to_string().into_bytes())),
    }
}
