//! Rows of a file in memory, column by column.

use std::borrow::Cow;
use std::iter::repeat_n;
use std::sync::Arc;
use std::time::SystemTime;

use parquet::basic::Repetition;
use parquet::errors::Result;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::capture::column::{Column, Kind};
use crate::capture::element::{encode, shape_text};
use crate::capture::hash::Key;
use crate::capture::layout::{FIXED, Form, Layout, REQUEST_ID, Stored, TensorOf, shape_of};
use crate::telemetry::Record;
use crate::types::{Data, Datatype, Tensor};

/// Rows that wait to be written.
pub(super) struct Rows {
    layout: Arc<Layout>,
    key: Option<Key>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// The columns of a file in their order: names, and what their values are.
pub(super) fn columns(layout: &Layout) -> Vec<(String, Kind)> {
    let kinds = [
        Kind::Time,
        Kind::Text,
        Kind::Text,
        Kind::Element(Datatype::Int64),
        Kind::Element(Datatype::Int64),
        Kind::Text,
        Kind::Text,
    ];
    let mut columns: Vec<_> = FIXED.map(str::to_owned).into_iter().zip(kinds).collect();
    for tensor in layout.tensors() {
        for column in &tensor.columns {
            let name = column.column.clone();
            match (column.stored, tensor.form) {
                (Stored::Dropped, _) => {}
                (Stored::Hashed, _) => columns.push((name, Kind::Text)),
                (Stored::Plain, Form::Columns) => {
                    columns.push((name, Kind::Element(tensor.datatype)));
                }
                (Stored::Plain, Form::Bytes) => {
                    let shape = shape_of(&name);
                    columns.extend([(name, Kind::Raw), (shape, Kind::Text)]);
                }
            }
        }
    }
    columns
}

/// The schema of a file.
pub(super) fn schema(layout: &Layout) -> Result<Type> {
    let fields = columns(layout).into_iter();
    let fields = fields.map(|(name, kind)| kind.schema(&name, Repetition::REQUIRED).map(Arc::new));
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Type::group_type_builder("capture")
        .with_repetition(Repetition::REQUIRED)
        .with_fields(fields)
        .build()
}

impl Rows {
    /// None yet. What is hashed is hashed with this key.
    pub(super) fn new(layout: Arc<Layout>, key: Option<Key>) -> Self {
        let columns = columns(&layout).into_iter().map(|(_, kind)| kind.column()).collect();
        Self { layout, key, columns, rows: 0, bytes: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.rows
    }

    /// Memory of the values, about.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a request; how many rows that is. Its tensors are those of the layout.
    pub(super) fn add(&mut self, record: &Record) -> usize {
        let rows = record.rows.unwrap_or(1);
        self.bytes += self.add_fixed(record, rows);
        let (layout, key) = (&self.layout, self.key);
        let mut own = self.columns.iter_mut().skip(FIXED.len());
        for (tensor, of) in record.inputs.iter().chain(&record.outputs).zip(layout.tensors()) {
            let filling = Filling { tensor, of, rows, whole: layout.whole_requests, key };
            self.bytes += filling.fill(&mut own);
        }
        self.rows += rows;
        rows
    }

    /// Fills the columns that every file has. A text is one value, which all rows share:
    /// a request of few bytes may have very many.
    fn add_fixed(&mut self, record: &Record, rows: usize) -> usize {
        let asked = self.request_id(record).into_owned();
        let [time, request_id, prediction_id, row, version, digest, role, ..] =
            &mut self.columns[..]
        else {
            unreachable!("every file has them")
        };
        let of = i64::try_from(record.version.version().get()).unwrap_or(i64::MAX);
        let last = i64::try_from(rows).unwrap_or(i64::MAX);
        time.push_ints(repeat_n(micros(record.time), rows))
            + request_id.push_bytes(asked.into_bytes(), rows)
            + prediction_id.push_bytes(&*record.prediction_id, rows)
            + row.push_ints(0..last)
            + version.push_ints(repeat_n(of, rows))
            + digest.push_bytes(record.version.digest().to_string().into_bytes(), rows)
            + role.push_bytes(record.role.as_str(), rows)
    }

    /// What is stored of a request's id.
    fn request_id<'a>(&self, record: &'a Record) -> Cow<'a, str> {
        let id = &*record.request_id;
        match self.layout.request_id {
            Stored::Plain => id.into(),
            // Without a key there is nothing to be told of it.
            Stored::Hashed => {
                self.key.map(|key| key.hash(REQUEST_ID, id.as_bytes())).unwrap_or_default().into()
            }
            Stored::Dropped => "".into(),
        }
    }

    /// Writes all rows as a row group, and has none afterwards.
    pub(super) fn write(&mut self, writer: &mut SerializedFileWriter<std::fs::File>) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        let mut group = writer.next_row_group()?;
        for own in &mut self.columns {
            let Some(mut column) = group.next_column()? else { break };
            own.write(column.untyped(), None)?;
            column.close()?;
        }
        group.close().map(drop)
    }
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A tensor on its way into its columns.
struct Filling<'a> {
    tensor: &'a Tensor,
    of: &'a TensorOf,
    rows: usize,
    whole: bool,
    key: Option<Key>,
}

impl Filling<'_> {
    /// Returns the bytes of memory that this takes, about.
    fn fill<'c>(&self, columns: &mut impl Iterator<Item = &'c mut Column>) -> usize {
        let (data, mut bytes) = (self.tensor.data(), 0);
        for (at, column) in self.of.columns.iter().enumerate() {
            if column.stored == Stored::Dropped {
                continue;
            }
            let Some(own) = columns.next() else { break };
            match (column.stored, self.of.form) {
                (Stored::Plain, Form::Columns) => {
                    bytes += own.push_elements(data, at, self.of.columns.len());
                }
                (Stored::Plain, Form::Bytes) => {
                    for row in 0..self.rows {
                        bytes += own.push_bytes(encode(data, self.span(row)), 1);
                    }
                    let shape = self.tensor.shape();
                    let shape = if self.whole { shape } else { shape.get(1..).unwrap_or_default() };
                    if let Some(shapes) = columns.next() {
                        bytes += shapes.push_bytes(shape_text(shape).into_bytes(), self.rows);
                    }
                }
                (Stored::Hashed, form) => {
                    for row in 0..self.rows {
                        let span = self.span(row);
                        let value = match form {
                            Form::Columns => value(data, span.start + at),
                            Form::Bytes => encode(data, span),
                        };
                        // Without a key there is nothing to be told of it.
                        let hash = self.key.map(|key| key.hash(&column.name, &value));
                        bytes += own.push_bytes(hash.unwrap_or_default().into_bytes(), 1);
                    }
                }
                (Stored::Dropped, _) => {}
            }
        }
        bytes
    }

    /// The elements of a row.
    fn span(&self, row: usize) -> std::ops::Range<usize> {
        let width = self.tensor.data().len() / self.rows.max(1);
        row * width..(row + 1) * width
    }
}

/// What is hashed of an element: a text's own bytes, a number's in little-endian order.
fn value(data: &Data, at: usize) -> Vec<u8> {
    match data {
        Data::Bytes(texts) => texts[at].clone(),
        _ => encode(data, at..at + 1),
    }
}
