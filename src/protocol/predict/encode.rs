//! Answers in the form of the question: rows for rows, columns for columns.
//! Where the entries of an output's last dimension have names, its innermost
//! values are objects by these names, in the short form.
//!
//! Bytes that are no text are objects, `{"b64": "…"}`; so are all values of an
//! output whose name ends in `_bytes`, as in TensorFlow Serving.

use crate::error::{Error, Result};
use crate::protocol::call::Answered;
use crate::protocol::json::{Keys, NoText, Unwritable, Writer};
use crate::protocol::message::unwritable;
use crate::protocol::predict::Dialect;
use crate::types::Tensor;

/// Bytes of a reply around its numbers, about.
const FRAME_BYTES: usize = 256;
/// Bytes of a number, about.
const NUMBER_BYTES: usize = 13;

/// One output, as rows see it.
struct Sliced<'a> {
    tensor: &'a Tensor,
    /// Elements from one row to the next.
    step: usize,
    /// The shape of one row.
    dims: &'a [usize],
}

/// `{"model":…,"predictions":[…]}`, one entry per row.
pub(super) fn rows(answered: &Answered<'_>, rows: usize, dialect: Dialect) -> Result<Vec<u8>> {
    let sliced: Vec<_> =
        answered.outputs.iter().map(|tensor| slice(tensor, rows)).collect::<Result<_>>()?;
    let keys = keys(answered, dialect);
    framed(answered, dialect, "predictions", |writer| {
        writer.raw("[");
        for row in 0..rows {
            if row > 0 {
                writer.raw(",");
            }
            let value = |writer: &mut Writer, i: usize| {
                let output = &sliced[i];
                writer.nested(output.tensor.data(), row * output.step, output.dims, &keys[i])
            };
            one_or_object(writer, answered.outputs, value)?;
        }
        writer.raw("]");
        Ok(())
    })
}

/// `{"model":…,"outputs":…}`: the tensor, or an object by output name.
pub(super) fn columns(answered: &Answered<'_>, dialect: Dialect) -> Result<Vec<u8>> {
    let keys = keys(answered, dialect);
    framed(answered, dialect, "outputs", |writer| {
        let value = |writer: &mut Writer, i: usize| {
            let output: &Tensor = &answered.outputs[i];
            writer.nested(output.data(), 0, output.shape(), &keys[i])
        };
        one_or_object(writer, answered.outputs, value)
    })
}

/// For each output the names in its last dimension. V1's clients expect arrays.
fn keys(answered: &Answered<'_>, dialect: Dialect) -> Vec<Keys> {
    let specs = match dialect {
        Dialect::Short => &answered.assignment.version().signature().outputs[..],
        Dialect::V1 => &[],
    };
    let names = |i: usize| specs.get(i).map_or(&[][..], |spec| &spec.classes);
    (0..answered.outputs.len()).map(|i| Keys::new(names(i))).collect()
}

/// Which output could not be written, and why.
type Unwritten = (usize, Unwritable);

/// What the names of outputs end in whose values are never text.
const BYTES: &str = "_bytes";

/// The value of the only output as it is; several by their names.
fn one_or_object(
    writer: &mut Writer,
    outputs: &[Tensor],
    value: impl Fn(&mut Writer, usize) -> Result<(), Unwritable>,
) -> Result<(), Unwritten> {
    let value = |writer: &mut Writer, i: usize| {
        let encoded = outputs[i].name().ends_with(BYTES);
        writer.no_text = if encoded { NoText::AllEncoded } else { NoText::Encoded };
        value(writer, i)
    };
    if outputs.len() == 1 {
        return value(writer, 0).map_err(|why| (0, why));
    }
    writer.raw("{");
    for (i, output) in outputs.iter().enumerate() {
        if i > 0 {
            writer.raw(",");
        }
        writer.string(output.name());
        writer.raw(":");
        value(writer, i).map_err(|why| (i, why))?;
    }
    writer.raw("}");
    Ok(())
}

/// Splits an output by rows. One that has no entry per row can only answer a
/// single row.
fn slice(tensor: &Tensor, rows: usize) -> Result<Sliced<'_>> {
    match tensor.shape() {
        [first, dims @ ..] if *first == rows => {
            Ok(Sliced { tensor, step: dims.iter().product(), dims })
        }
        dims if rows == 1 => Ok(Sliced { tensor, step: 0, dims }),
        shape => Err(Error::invalid(format!(
            "output {:?} has shape {shape:?}, which is not one entry for each of {rows} \
             instances; send \"inputs\" (columns) instead",
            tensor.name()
        ))),
    }
}

/// Writes the frame around an answer and counts what JSON cannot carry.
fn framed(
    answered: &Answered<'_>,
    dialect: Dialect,
    key: &str,
    values: impl FnOnce(&mut Writer) -> Result<(), Unwritten>,
) -> Result<Vec<u8>> {
    let elements: usize = answered.outputs.iter().map(|tensor| tensor.data().len()).sum();
    let room = FRAME_BYTES + elements * NUMBER_BYTES;
    let mut writer = Writer::new(room, answered.assignment.plan().settings.nonfinite_as_null);
    writer.raw("{\"");
    if dialect == Dialect::Short {
        who(&mut writer, answered);
    }
    writer.raw(key);
    writer.raw("\":");
    let written = values(&mut writer);
    if writer.met_nonfinite {
        answered.assignment.arm().stats.nonfinite();
    }
    written.map_err(|(i, why)| unwritable(answered.outputs[i].name(), &why))?;
    writer.raw("}");
    Ok(writer.out)
}

/// Writes who answered, and opens the quotes of the next key.
fn who(writer: &mut Writer, answered: &Answered<'_>) {
    let version = answered.assignment.version();
    writer.raw("model\":");
    writer.string(version.model().as_str());
    writer.raw(",\"version\":");
    writer.number(version.id().get());
    writer.raw(",\"prediction_id\":");
    writer.string(answered.prediction_id);
    writer.raw(",\"");
}
