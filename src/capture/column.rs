//! The values of one column of a file, in memory: filled by requests and written, or read.

use std::fmt;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::Type;

use half::f16;

use crate::types::{Data, Datatype};

/// What a value of its own allocation takes besides its bytes, about, in bytes.
const ALLOCATION: usize = 32;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Microseconds since 1970, UTC.
    Time,
    /// UTF-8.
    Text,
    /// Raw bytes.
    Raw,
    /// Elements of a tensor.
    Element(Datatype),
}

/// Values as Parquet has them. None is ever missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("a time"),
            Self::Text => f.write_str("a text"),
            Self::Raw => f.write_str("raw bytes"),
            Self::Element(datatype) => datatype.fmt(f),
        }
    }
}

impl Kind {
    fn physical(self) -> PhysicalType {
        match self {
            Self::Time => PhysicalType::INT64,
            Self::Text | Self::Raw => PhysicalType::BYTE_ARRAY,
            Self::Element(datatype) => match datatype {
                Datatype::Bool => PhysicalType::BOOLEAN,
                Datatype::Uint64 | Datatype::Int64 => PhysicalType::INT64,
                Datatype::Fp16 => PhysicalType::FIXED_LEN_BYTE_ARRAY,
                Datatype::Fp32 => PhysicalType::FLOAT,
                Datatype::Fp64 => PhysicalType::DOUBLE,
                Datatype::Bytes => PhysicalType::BYTE_ARRAY,
                _ => PhysicalType::INT32,
            },
        }
    }

    fn logical(self) -> Option<LogicalType> {
        let datatype = match self {
            Self::Time => return Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
            Self::Text => return Some(LogicalType::String),
            Self::Raw => return None,
            Self::Element(datatype) => datatype,
        };
        match datatype {
            Datatype::Uint8 => Some(LogicalType::integer(8, false)),
            Datatype::Uint16 => Some(LogicalType::integer(16, false)),
            Datatype::Uint32 => Some(LogicalType::integer(32, false)),
            Datatype::Uint64 => Some(LogicalType::integer(64, false)),
            Datatype::Int8 => Some(LogicalType::integer(8, true)),
            Datatype::Int16 => Some(LogicalType::integer(16, true)),
            Datatype::Fp16 => Some(LogicalType::Float16),
            Datatype::Bytes => Some(LogicalType::String),
            _ => None,
        }
    }

    /// A column of it in a file's schema.
    pub(super) fn schema(self, name: &str, repetition: Repetition) -> Result<Type> {
        let field = Type::primitive_type_builder(name, self.physical())
            .with_repetition(repetition)
            .with_logical_type(self.logical());
        let half = self == Self::Element(Datatype::Fp16);
        if half { field.with_length(2).build() } else { field.build() }
    }

    /// A column of it without values.
    pub(super) fn column(self) -> Column {
        match self.physical() {
            PhysicalType::BOOLEAN => Column::Bool(Vec::new()),
            PhysicalType::INT32 => Column::Int32(Vec::new()),
            PhysicalType::INT64 => Column::Int64(Vec::new()),
            PhysicalType::FLOAT => Column::Float(Vec::new()),
            PhysicalType::DOUBLE => Column::Double(Vec::new()),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => Column::Fixed(Vec::new()),
            _ => Column::Bytes(Vec::new()),
        }
    }
}

impl Column {
    /// Adds a text, or raw bytes, so many times: they share one value. Returns the bytes of
    /// memory that this takes, about, as all that add do.
    pub(super) fn push_bytes(&mut self, bytes: impl Into<ByteArray>, times: usize) -> usize {
        match self {
            Self::Bytes(values) => {
                let value = bytes.into();
                let own = value.len() + ALLOCATION;
                values.extend(std::iter::repeat_n(value, times));
                own + times * size_of::<ByteArray>()
            }
            _ => unreachable!("the layout makes a column of bytes"),
        }
    }

    /// Adds whole numbers.
    pub(super) fn push_ints(&mut self, ints: impl IntoIterator<Item = i64>) -> usize {
        let before = self.len();
        match self {
            Self::Int64(values) => values.extend(ints),
            _ => unreachable!("the layout makes a column of whole numbers"),
        }
        self.bytes_from(before)
    }

    /// Adds every `width`th element from `at` on: a column of a tensor. Texts are UTF-8:
    /// that was looked at before.
    #[expect(clippy::cast_possible_wrap, reason = "Parquet's unsigned numbers are so")]
    pub(super) fn push_elements(&mut self, data: &Data, at: usize, width: usize) -> usize {
        let before = self.len();
        macro_rules! each {
            ($values:ident, $v:ident, $convert:expr) => {
                $values.extend($v.iter().skip(at).step_by(width).map($convert))
            };
        }
        match (&mut *self, data) {
            (Self::Bool(values), Data::Bool(v)) => each!(values, v, |x| *x),
            (Self::Int32(values), Data::Uint8(v)) => each!(values, v, |x| i32::from(*x)),
            (Self::Int32(values), Data::Uint16(v)) => each!(values, v, |x| i32::from(*x)),
            (Self::Int32(values), Data::Uint32(v)) => each!(values, v, |x| *x as i32),
            (Self::Int32(values), Data::Int8(v)) => each!(values, v, |x| i32::from(*x)),
            (Self::Int32(values), Data::Int16(v)) => each!(values, v, |x| i32::from(*x)),
            (Self::Int32(values), Data::Int32(v)) => each!(values, v, |x| *x),
            (Self::Int64(values), Data::Uint64(v)) => each!(values, v, |x| *x as i64),
            (Self::Int64(values), Data::Int64(v)) => each!(values, v, |x| *x),
            (Self::Float(values), Data::Fp32(v)) => each!(values, v, |x| *x),
            (Self::Double(values), Data::Fp64(v)) => each!(values, v, |x| *x),
            (Self::Fixed(values), Data::Fp16(v)) => {
                each!(values, v, |x| FixedLenByteArray::from(x.to_le_bytes().to_vec()));
            }
            (Self::Bytes(values), Data::Bytes(v)) => {
                each!(values, v, |x| ByteArray::from(x.as_slice()));
            }
            _ => unreachable!("the layout makes a column of the tensor's datatype"),
        }
        self.bytes_from(before)
    }

    /// Memory of the values from this one on, about, in bytes: none shares its own with
    /// another.
    fn bytes_from(&self, from: usize) -> usize {
        let count = self.len().saturating_sub(from);
        match self {
            Self::Bool(_) => count,
            Self::Int32(_) | Self::Float(_) => count * size_of::<i32>(),
            Self::Int64(_) | Self::Double(_) => count * size_of::<i64>(),
            Self::Bytes(values) => {
                let own = values.iter().skip(from).map(ByteArray::len).sum::<usize>();
                own + count * (size_of::<ByteArray>() + ALLOCATION)
            }
            Self::Fixed(_) => count * (size_of::<FixedLenByteArray>() + ALLOCATION),
        }
    }

    /// Adds the value in `row` of another column; `None` if that is of another type, or has
    /// no such row. Texts are copied: they are parts of what was read, which may be much.
    /// Returns the bytes of memory that this takes, about.
    pub(super) fn copy(&mut self, from: &Self, row: usize) -> Option<usize> {
        let before = self.len();
        match (&mut *self, from) {
            (Self::Bool(own), Self::Bool(v)) => own.push(*v.get(row)?),
            (Self::Int32(own), Self::Int32(v)) => own.push(*v.get(row)?),
            (Self::Int64(own), Self::Int64(v)) => own.push(*v.get(row)?),
            (Self::Float(own), Self::Float(v)) => own.push(*v.get(row)?),
            (Self::Double(own), Self::Double(v)) => own.push(*v.get(row)?),
            (Self::Bytes(own), Self::Bytes(v)) => own.push(v.get(row)?.data().to_vec().into()),
            (Self::Fixed(own), Self::Fixed(v)) => own.push(v.get(row)?.data().to_vec().into()),
            _ => return None,
        }
        Some(self.bytes_from(before))
    }

    /// Adds the value in `row` to the elements of a tensor; `None` if it is of another
    /// datatype.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as they were written"
    )]
    pub(super) fn pull_element(&self, row: usize, data: &mut Data) -> Option<()> {
        match (self, data) {
            (Self::Bool(values), Data::Bool(v)) => v.push(*values.get(row)?),
            (Self::Int32(values), Data::Uint8(v)) => v.push(*values.get(row)? as u8),
            (Self::Int32(values), Data::Uint16(v)) => v.push(*values.get(row)? as u16),
            (Self::Int32(values), Data::Uint32(v)) => v.push(*values.get(row)? as u32),
            (Self::Int32(values), Data::Int8(v)) => v.push(*values.get(row)? as i8),
            (Self::Int32(values), Data::Int16(v)) => v.push(*values.get(row)? as i16),
            (Self::Int32(values), Data::Int32(v)) => v.push(*values.get(row)?),
            (Self::Int64(values), Data::Uint64(v)) => v.push(*values.get(row)? as u64),
            (Self::Int64(values), Data::Int64(v)) => v.push(*values.get(row)?),
            (Self::Float(values), Data::Fp32(v)) => v.push(*values.get(row)?),
            (Self::Double(values), Data::Fp64(v)) => v.push(*values.get(row)?),
            (Self::Fixed(values), Data::Fp16(v)) => {
                v.push(f16::from_le_bytes(values.get(row)?.data().try_into().ok()?));
            }
            (Self::Bytes(values), Data::Bytes(v)) => v.push(values.get(row)?.data().to_vec()),
            _ => return None,
        }
        Some(())
    }

    /// The text or the raw bytes in `row`.
    pub(super) fn bytes(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Bytes(values) => Some(values.get(row)?.data()),
            _ => None,
        }
    }

    /// The whole number in `row`.
    pub(super) fn int(&self, row: usize) -> Option<i64> {
        match self {
            Self::Int64(values) => values.get(row).copied(),
            _ => None,
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Fixed(values) => values.len(),
        }
    }

    /// Writes all values, and has none afterwards. `levels` tell of each row whether it has
    /// one (1) or not (0), where some may not.
    pub(super) fn write(
        &mut self,
        writer: &mut ColumnWriter<'_>,
        levels: Option<&[i16]>,
    ) -> Result<()> {
        macro_rules! all {
            ($writer:ident, $values:ident) => {
                $writer.write_batch(&std::mem::take($values), levels, None).map(drop)
            };
        }
        match (writer, self) {
            (ColumnWriter::BoolColumnWriter(w), Self::Bool(v)) => all!(w, v),
            (ColumnWriter::Int32ColumnWriter(w), Self::Int32(v)) => all!(w, v),
            (ColumnWriter::Int64ColumnWriter(w), Self::Int64(v)) => all!(w, v),
            (ColumnWriter::FloatColumnWriter(w), Self::Float(v)) => all!(w, v),
            (ColumnWriter::DoubleColumnWriter(w), Self::Double(v)) => all!(w, v),
            (ColumnWriter::ByteArrayColumnWriter(w), Self::Bytes(v)) => all!(w, v),
            (ColumnWriter::FixedLenByteArrayColumnWriter(w), Self::Fixed(v)) => all!(w, v),
            _ => Err(ParquetError::General("a column of another type".into())),
        }
    }

    /// Reads `rows` values, none of which may be missing.
    pub(super) fn read(reader: ColumnReader, rows: usize) -> Result<Self> {
        macro_rules! all {
            ($reader:ident, $Variant:ident) => {{
                let mut values = Vec::new();
                $reader.read_records(rows, None, None, &mut values)?;
                Self::$Variant(values)
            }};
        }
        let column = match reader {
            ColumnReader::BoolColumnReader(mut r) => all!(r, Bool),
            ColumnReader::Int32ColumnReader(mut r) => all!(r, Int32),
            ColumnReader::Int64ColumnReader(mut r) => all!(r, Int64),
            ColumnReader::FloatColumnReader(mut r) => all!(r, Float),
            ColumnReader::DoubleColumnReader(mut r) => all!(r, Double),
            ColumnReader::ByteArrayColumnReader(mut r) => all!(r, Bytes),
            ColumnReader::FixedLenByteArrayColumnReader(mut r) => all!(r, Fixed),
            ColumnReader::Int96ColumnReader(_) => {
                return Err(ParquetError::General("a column of another type".into()));
            }
        };
        if column.len() == rows {
            return Ok(column);
        }
        let got = column.len();
        Err(ParquetError::General(format!("expected {rows} values, got {got}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_datatype_go_in_and_come_out() {
        for datatype in Datatype::ALL {
            let data = match datatype {
                Datatype::Uint8 => Data::Uint8(vec![0, 1, u8::MAX, 3]),
                Datatype::Uint32 => Data::Uint32(vec![0, 1, u32::MAX, 3]),
                Datatype::Uint64 => Data::Uint64(vec![0, 1, u64::MAX, 3]),
                Datatype::Int8 => Data::Int8(vec![0, -1, i8::MIN, 3]),
                Datatype::Fp16 => Data::Fp16(vec![f16::ONE; 4]),
                Datatype::Bytes => Data::Bytes(["a", "ü", "", "d"].map(|x| x.into()).to_vec()),
                _ => Data::zeros(datatype, 4),
            };
            let kind = Kind::Element(datatype);
            let mut column = kind.column();
            column.push_elements(&data, 0, 2);
            column.push_elements(&data, 1, 2);
            let mut back = Data::with_capacity(datatype, 4);
            for row in [0, 2, 1, 3] {
                column.pull_element(row, &mut back).unwrap();
            }
            assert_eq!((back, column.pull_element(4, &mut data.clone())), (data, None));
            let mut copied = kind.column();
            assert!(copied.copy(&column, 3).unwrap() >= 1 && copied.copy(&column, 4).is_none());
            assert_eq!(copied.len(), 1);
            assert!(kind.schema("x", Repetition::REQUIRED).is_ok(), "{datatype}");
        }
    }

    #[test]
    fn what_is_added_is_counted_as_it_lies_in_memory() {
        let add = |data: &Data| Kind::Element(data.datatype()).column().push_elements(data, 0, 1);
        assert_eq!(add(&Data::Uint8(vec![1; 100])), 400);
        assert_eq!(add(&Data::Fp64(vec![1.0; 100])), 800);
        assert!(add(&Data::Fp16(vec![f16::ONE; 100])) >= 6400, "each has an allocation");
        let texts = Data::Bytes(vec![b"four".to_vec(); 100]);
        assert!(add(&texts) >= 6800, "each has an allocation");
        let mut column = Kind::Text.column();
        let text = "a text that is shared by all";
        let shared = column.push_bytes(text, 100);
        assert_eq!((column.len(), column.bytes(99)), (100, Some(text.as_bytes())));
        assert!(shared < 100 * 40, "{shared}");
        assert_eq!(Kind::Time.column().push_ints(0..3), 24);
    }
}
