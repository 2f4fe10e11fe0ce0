//! The file of a table: rows in memory, column by column, and onto the disk.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use half::f16;
use parquet::basic::Repetition;
use parquet::data_type::ByteArray;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::capture::column::{Column, Kind};
use crate::capture::file::{GROUP_BYTES, properties};
use crate::capture::latest;
use crate::types::Datatype;

/// What a row takes besides its values, about, in bytes: rows of few values are bounded too.
const ROW_BYTES: usize = 16;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SheetForm {
    /// A line of names, then a line for each row; what is missing is empty.
    Csv,
    /// Parquet.
    Parquet,
}

impl SheetForm {
    /// As a file's name says.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `true` and `false`.
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// Times.
    Time,
}

impl ValueType {
    const fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Element(Datatype::Bool),
            Self::Int => Kind::Element(Datatype::Int64),
            Self::Number => Kind::Element(Datatype::Fp64),
            Self::Text => Kind::Text,
            Self::Time => Kind::Time,
        }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// None.
    Missing,
    /// Of a column of [`ValueType::Bool`].
    Bool(bool),
    /// Of a column of [`ValueType::Int`].
    Int(i64),
    /// Of a column of [`ValueType::Number`].
    Number(f64),
    /// Of a column of [`ValueType::Text`].
    Text(Cow<'a, str>),
    /// Of a column of [`ValueType::Time`]: microseconds since 1970, UTC.
    Time(i64),
}

/// A column, and its values of the rows that are not written yet.
struct Field {
    name: String,
    kind: Kind,
    values: Column,
    /// Of each row, whether it has a value; `None` where all have.
    levels: Option<Vec<i16>>,
}

enum Out {
    Csv(csv::Writer<File>),
    Parquet(SerializedFileWriter<File>),
}

/// A table that is being written.
pub struct Sheet {
    out: Out,
    fields: Vec<Field>,
    rows: usize,
    bytes: usize,
    written: u64,
}

impl Sheet {
    /// Begins a table with these columns, each of whose values may be missing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(
        file: File,
        form: SheetForm,
        columns: &[(String, ValueType)],
    ) -> Result<Self, String> {
        let fields = columns.iter().map(|(name, of)| Field::optional(name, *of));
        Self::begin(file, form, fields.collect())
    }

    /// Begins one with the columns of a captured file, and one more.
    pub(super) fn of_captured(
        file: File,
        form: SheetForm,
        captured: &[(String, Kind)],
        (label, of): (&str, ValueType),
    ) -> Result<Self, String> {
        let raw = captured.iter().find(|(_, kind)| form == SheetForm::Csv && *kind == Kind::Raw);
        if let Some((name, _)) = raw {
            return Err(format!(
                "column {name:?}: expected values that CSV has words for, got raw bytes; write \
                 Parquet (--out with a name that ends in .parquet)"
            ));
        }
        let captured = captured.iter().map(|(name, kind)| Field {
            name: name.clone(),
            kind: *kind,
            values: kind.column(),
            levels: None,
        });
        Self::begin(file, form, captured.chain([Field::optional(label, of)]).collect())
    }

    fn begin(file: File, form: SheetForm, fields: Vec<Field>) -> Result<Self, String> {
        let out = match form {
            SheetForm::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(fields.iter().map(|field| &field.name)).map_err(cannot)?;
                Out::Csv(writer)
            }
            SheetForm::Parquet => {
                let schema = schema(&fields).map_err(cannot)?;
                let properties = Arc::new(properties().build());
                let writer = SerializedFileWriter::new(file, Arc::new(schema), properties);
                Out::Parquet(writer.map_err(cannot)?)
            }
        };
        Ok(Self { out, fields, rows: 0, bytes: 0, written: 0 })
    }

    /// How many columns it has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.fields.len()
    }

    /// Adds a row: a value for each column, in their order.
    ///
    /// # Errors
    /// A value is of another type than its column; it cannot be written.
    pub fn row<'a>(&mut self, values: impl IntoIterator<Item = Value<'a>>) -> Result<(), String> {
        let mut values = values.into_iter();
        for field in &mut self.fields {
            let value = values.next().unwrap_or(Value::Missing);
            self.bytes += field.push(&value)?;
        }
        self.added();
        self.write_if_full()
    }

    /// Adds a row that was captured: its values in those columns, and one more. Who adds such
    /// writes what is full, too: that fails for other reasons than a captured file's.
    pub(super) fn captured_row(
        &mut self,
        captured: &[Column],
        row: usize,
        label: &Value<'_>,
    ) -> Result<(), String> {
        let (own, more) = self.fields.split_at_mut(captured.len());
        for (field, from) in own.iter_mut().zip(captured) {
            let copied = field.values.copy(from, row);
            self.bytes += copied.ok_or_else(|| {
                format!("cannot be read: column {:?} is not what its footer says", field.name)
            })?;
        }
        for field in more {
            self.bytes += field.push(label)?;
        }
        self.added();
        Ok(())
    }

    const fn added(&mut self) {
        self.rows += 1;
        self.bytes += ROW_BYTES;
    }

    /// Writes what is in memory, if that is as much as a group of rows may have.
    pub(super) fn write_if_full(&mut self) -> Result<(), String> {
        if self.bytes >= GROUP_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what is in memory.
    fn write(&mut self) -> Result<(), String> {
        self.written += u64::try_from(self.rows).unwrap_or(u64::MAX);
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        match &mut self.out {
            Out::Csv(writer) => lines(writer, &mut self.fields, rows).map_err(cannot),
            Out::Parquet(writer) => group(writer, &mut self.fields).map_err(cannot),
        }
    }

    /// Writes what is left; how many rows it has. It is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<u64, String> {
        if self.rows > 0 {
            self.write()?;
        }
        let file = match self.out {
            Out::Csv(writer) => writer.into_inner().map_err(|error| cannot(error.error()))?,
            Out::Parquet(writer) => writer.into_inner().map_err(cannot)?,
        };
        file.sync_all().map_err(cannot)?;
        Ok(self.written)
    }
}

fn cannot(error: impl std::fmt::Display) -> String {
    format!("the table cannot be written: {error}")
}

impl Field {
    fn optional(name: &str, of: ValueType) -> Self {
        let kind = of.kind();
        let (name, values, levels) = (name.to_owned(), kind.column(), Some(Vec::new()));
        Self { name, kind, values, levels }
    }

    /// Adds a value; the bytes of memory that it takes, about.
    fn push(&mut self, value: &Value<'_>) -> Result<usize, String> {
        let bytes = match (&mut self.values, value) {
            (_, Value::Missing) => 0,
            (Column::Bool(values), Value::Bool(truth)) => {
                values.push(*truth);
                size_of::<bool>()
            }
            (Column::Int64(values), Value::Int(number) | Value::Time(number)) => {
                values.push(*number);
                size_of::<i64>()
            }
            (Column::Double(values), Value::Number(number)) => {
                values.push(*number);
                size_of::<f64>()
            }
            (Column::Bytes(values), Value::Text(text)) => {
                values.push(ByteArray::from(text.as_bytes().to_vec()));
                text.len() + size_of::<ByteArray>()
            }
            _ => {
                let name = &self.name;
                return Err(format!("column {name:?}: {value:?} is of another type than others"));
            }
        };
        if let Some(levels) = &mut self.levels {
            levels.push(i16::from(*value != Value::Missing));
        }
        Ok(bytes)
    }
}

fn schema(fields: &[Field]) -> parquet::errors::Result<Type> {
    let own = fields.iter().map(|field| {
        let optional = field.levels.is_some();
        let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        field.kind.schema(&field.name, repetition).map(Arc::new)
    });
    let own = own.collect::<parquet::errors::Result<Vec<_>>>()?;
    Type::group_type_builder("dataset")
        .with_repetition(Repetition::REQUIRED)
        .with_fields(own)
        .build()
}

/// Writes all values as a row group.
fn group(
    writer: &mut SerializedFileWriter<File>,
    fields: &mut [Field],
) -> parquet::errors::Result<()> {
    let mut group = writer.next_row_group()?;
    for field in fields {
        let Some(mut column) = group.next_column()? else { break };
        let levels = field.levels.as_mut().map(std::mem::take);
        field.values.write(column.untyped(), levels.as_deref())?;
        column.close()?;
    }
    group.close().map(drop)
}

/// Writes all values as lines.
fn lines(writer: &mut csv::Writer<File>, fields: &mut [Field], rows: usize) -> csv::Result<()> {
    // Where the next value of each column is: only those that are there are kept.
    let mut next = vec![0; fields.len()];
    for row in 0..rows {
        for (field, next) in fields.iter().zip(&mut next) {
            let there = field.levels.as_ref().is_none_or(|levels| levels.get(row) == Some(&1));
            let text = there.then(|| text(field.kind, &field.values, *next)).flatten();
            writer.write_field(text.as_deref().unwrap_or_default())?;
            *next += usize::from(there);
        }
        writer.write_record(None::<&[u8]>)?;
    }
    for field in fields {
        field.values = field.kind.column();
        field.levels = field.levels.as_ref().map(|_| Vec::new());
    }
    Ok(())
}

/// A value as CSV has it; `None` where there is none.
fn text(kind: Kind, values: &Column, at: usize) -> Option<Cow<'_, str>> {
    let unsigned = matches!(kind, Kind::Element(Datatype::Uint32 | Datatype::Uint64));
    Some(match values {
        Column::Bytes(_) => String::from_utf8_lossy(values.bytes(at)?),
        Column::Bool(v) => Cow::Borrowed(if *v.get(at)? { "true" } else { "false" }),
        Column::Int32(v) if unsigned => Cow::Owned(v.get(at)?.cast_unsigned().to_string()),
        Column::Int32(v) => Cow::Owned(v.get(at)?.to_string()),
        Column::Int64(v) if kind == Kind::Time => Cow::Owned(time(*v.get(at)?)),
        Column::Int64(v) if unsigned => Cow::Owned(v.get(at)?.cast_unsigned().to_string()),
        Column::Int64(v) => Cow::Owned(v.get(at)?.to_string()),
        Column::Float(v) => Cow::Owned(v.get(at)?.to_string()),
        Column::Double(v) => Cow::Owned(v.get(at)?.to_string()),
        Column::Fixed(v) => {
            let bytes = v.get(at)?.data().try_into().ok()?;
            Cow::Owned(f16::from_le_bytes(bytes).to_string())
        }
    })
}

/// Microseconds since 1970 as RFC 3339.
fn time(micros: i64) -> String {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    let time = SystemTime::UNIX_EPOCH + since;
    humantime::format_rfc3339_micros(time.min(latest())).to_string()
}
