//! Reads captured requests.

use crate::capture::captured::Captured;
use crate::capture::column::Column;
use crate::capture::element::{decode, shape_of_text};
use crate::capture::layout::{FIXED, Form, Layout, Stored, TensorOf, shape_of};
use crate::types::{Data, Datatype, Dim, Signature, Tensor, TensorSpec};

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
    /// Whether its requests can be run on a version with this signature, and its answers
    /// compared.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), String> {
        let Some(inputs) = &self.layout().inputs else {
            return Err("has no inputs to run: only outputs were captured (outputs_only)".into());
        };
        same("inputs", "takes", &signature.inputs, inputs)?;
        same("outputs", "gives", &signature.outputs, &self.layout().outputs)?;
        let withheld = self.layout().withheld();
        if withheld.is_empty() {
            return Ok(());
        }
        let withheld = withheld.join(", ");
        Err(format!("does not have all that was asked and answered as it came: {withheld}"))
    }

    /// Reads a group of rows.
    pub(super) fn group(&self, at: usize) -> Result<Group<'_>, String> {
        let (group, layout) = (self.row_group(at)?, self.layout());
        let read = |name: &str| group.column(name);
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
            layout,
            fixed: FIXED.iter().map(|name| read(name)).collect::<Result<_, _>>()?,
            inputs: tensors(layout.inputs.as_deref().unwrap_or_default())?,
            outputs: tensors(&layout.outputs)?,
            rows: group.rows(),
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
