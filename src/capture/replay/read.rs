//! Reads captured requests.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::capture::column::Column;
use crate::capture::element::{decode, shape_of_text};
use crate::capture::layout::{FIXED, Form, Layout, Stored, TensorOf, shape_of};
use crate::types::{Data, Datatype, Dim, Signature, Tensor, TensorSpec};

/// A captured file.
pub(super) struct Captured {
    file: SerializedFileReader<File>,
    layout: Layout,
}

/// The rows that are read at a time: whole requests.
pub(super) struct Group<'a> {
    layout: &'a Layout,
    fixed: Vec<Column>,
    inputs: Vec<Vec<Column>>,
    outputs: Vec<Vec<Column>>,
    rows: usize,
}

/// A request as it was answered.
pub(super) struct Request<'a> {
    pub(super) request_id: &'a str,
    pub(super) prediction_id: &'a str,
    pub(super) version: u64,
    pub(super) digest: &'a str,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
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

    /// Whether its requests can be run on a version with this signature, and its answers
    /// compared.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), String> {
        let Some(inputs) = &self.layout.inputs else {
            return Err("has no inputs to run: only outputs were captured (outputs_only)".into());
        };
        same("inputs", "takes", &signature.inputs, inputs)?;
        same("outputs", "gives", &signature.outputs, &self.layout.outputs)?;
        let withheld = self.layout.withheld();
        if withheld.is_empty() {
            return Ok(());
        }
        let withheld = withheld.join(", ");
        Err(format!("does not have all that was asked and answered as it came: {withheld}"))
    }

    /// Reads a group of rows.
    pub(super) fn group(&self, at: usize) -> Result<Group<'_>, String> {
        let cannot = |error: parquet::errors::ParquetError| format!("cannot be read: {error}");
        let group = self.file.get_row_group(at).map_err(cannot)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let schema = group.metadata().schema_descr_ptr();
        let read = |name: &str| {
            let at = schema.columns().iter().position(|column| column.name() == name);
            let at = at.ok_or_else(|| format!("cannot be read: column {name:?} is not there"))?;
            let column = group.get_column_reader(at).map_err(cannot)?;
            Column::read(column, rows)
                .map_err(|error| format!("cannot be read: column {name:?}: {error}"))
        };
        let tensors = |tensors: &[TensorOf]| {
            let one = |tensor: &TensorOf| {
                let plain = tensor.columns.iter().filter(|column| column.stored == Stored::Plain);
                let names = plain.flat_map(|column| {
                    let shape = (tensor.form == Form::Bytes).then(|| shape_of(&column.column));
                    std::iter::once(column.column.clone()).chain(shape)
                });
                names.map(|name| read(&name)).collect::<Result<Vec<_>, _>>()
            };
            tensors.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(Group {
            layout: &self.layout,
            fixed: FIXED.iter().map(|name| read(name)).collect::<Result<_, _>>()?,
            inputs: tensors(self.layout.inputs.as_deref().unwrap_or_default())?,
            outputs: tensors(&self.layout.outputs)?,
            rows,
        })
    }
}

/// Names and datatypes of the one are those of the other, in any order.
fn same(what: &str, does: &str, specs: &[TensorSpec], captured: &[TensorOf]) -> Result<(), String> {
    let fits = |spec: &TensorSpec| {
        let own = captured.iter().find(|tensor| tensor.name == spec.name);
        own.is_some_and(|tensor| {
            tensor.datatype == spec.datatype && shapes_fit(&spec.shape, &tensor.shape)
        })
    };
    if specs.len() == captured.len() && specs.iter().all(fits) {
        return Ok(());
    }
    let one =
        |name: &str, datatype: Datatype, shape: &[i64]| format!("{name:?} {datatype} {shape:?}");
    let wanted: Vec<_> =
        specs.iter().map(|spec| one(&spec.name, spec.datatype, &spec.wire_shape())).collect();
    let got: Vec<_> =
        captured.iter().map(|tensor| one(&tensor.name, tensor.datatype, &tensor.shape)).collect();
    Err(format!(
        "is of another signature: the version {does} the {what} {}; captured were {}",
        wanted.join(", "),
        got.join(", ")
    ))
}

fn shapes_fit(wanted: &[Dim], captured: &[i64]) -> bool {
    let fits = |(dim, got): (&Dim, &i64)| *got < 0 || dim.wire() < 0 || dim.wire() == *got;
    wanted.len() == captured.len() && wanted.iter().zip(captured).all(fits)
}

impl Group<'_> {
    /// The requests, one after the other.
    pub(super) fn requests(&self) -> impl Iterator<Item = Result<Request<'_>, String>> {
        let row = |at: usize| self.fixed[3].int(at);
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = from;
            if start >= self.rows {
                return None;
            }
            from += 1;
            while from < self.rows && row(from).is_some_and(|row| row > 0) {
                from += 1;
            }
            let request = self.request(start..from);
            let broken = || format!("rows {} to {from}: what they hold is no request", start + 1);
            Some(request.ok_or_else(broken))
        })
    }

    fn request(&self, rows: std::ops::Range<usize>) -> Option<Request<'_>> {
        let text = |at: usize| std::str::from_utf8(self.fixed[at].bytes(rows.start)?).ok();
        let tensors = |specs: &[TensorOf], columns: &[Vec<Column>]| {
            let tensors = specs.iter().zip(columns);
            let tensors = tensors.map(|(of, columns)| self.tensor(of, columns, rows.clone()));
            tensors.collect::<Option<Vec<_>>>()
        };
        Some(Request {
            request_id: text(1)?,
            prediction_id: text(2)?,
            version: u64::try_from(self.fixed[4].int(rows.start)?).ok()?,
            digest: text(5)?,
            inputs: tensors(self.layout.inputs.as_deref()?, &self.inputs)?,
            outputs: tensors(&self.layout.outputs, &self.outputs)?,
        })
    }

    fn tensor(
        &self,
        of: &TensorOf,
        columns: &[Column],
        rows: std::ops::Range<usize>,
    ) -> Option<Tensor> {
        let mut data = Data::with_capacity(of.datatype, rows.len());
        let mut shape = vec![rows.len()];
        match of.form {
            Form::Columns => {
                for row in rows {
                    columns.iter().try_for_each(|column| column.pull_element(row, &mut data))?;
                }
                // A value for each row, or a row of values.
                shape.extend((of.shape.len() > 1).then_some(columns.len()));
            }
            Form::Bytes => {
                let [raw, shapes] = columns else { return None };
                let first = shape_of_text(std::str::from_utf8(shapes.bytes(rows.start)?).ok()?)?;
                if self.layout.whole_requests {
                    shape.clear();
                }
                shape.extend(first);
                for row in rows {
                    data.append(&decode(of.datatype, raw.bytes(row)?)?);
                }
            }
        }
        Tensor::new(&of.name, shape, data).ok()
    }
}
