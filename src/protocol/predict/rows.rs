//! Inputs as rows: an array, an object by feature, or an object by input for
//! each.
//!
//! A row is what one entry of the first dimension holds. A model without a
//! batch dimension takes exactly one row, which is all of its input.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::for_each_datatype;
use crate::protocol::call;
use crate::protocol::json::{
    At, Element, Fault, Malformed, Reader, Size, Token, Tokens, What, fill, unescape,
};
use crate::protocol::message::{malformed, names, short};
use crate::protocol::predict::columns::{is_bytes, is_scalar, row_elements, sizes};
use crate::types::{Data, Dim, Signature, Tensor, TensorSpec};

/// Features that a message lists.
const LISTED_MAX: usize = 32;

/// One input, growing row by row.
struct Column<'s> {
    spec: &'s TensorSpec,
    data: Data,
    /// Of one row.
    sizes: Vec<Size>,
    /// Whether the rows are the first dimension.
    stacked: bool,
}

/// What a row is, while it is read.
struct Rows<'a> {
    body: &'a str,
    signature: &'a Signature,
    features: &'a [String],
    /// Whether an object of the one input's name could be meant.
    by_name: bool,
    columns: Vec<Column<'a>>,
    order: Order,
    /// The present row, from 0.
    instance: usize,
}

/// Reads `instances`, all of it; returns the inputs and the number of rows.
pub(super) fn decode(
    body: &str,
    mut reader: Reader<'_>,
    signature: &Signature,
    features: &[String],
) -> Result<(Vec<Tensor>, usize)> {
    if !reader.take(b'[') {
        let kind = reader.kind();
        return Err(Error::invalid(format!(
            "\"instances\": expected an array of rows, got {kind}"
        )));
    }
    let inputs = &signature.inputs;
    let columns = inputs.iter().map(|spec| Column::new(spec, &reader, inputs.len())).collect();
    let by_name = inputs.iter().all(|spec| !features.contains(&spec.name));
    let order = Order::default();
    let mut rows = Rows { body, signature, features, by_name, columns, order, instance: 0 };
    let broken = |Malformed(at)| malformed(body, at);
    while reader.element(rows.instance == 0).map_err(broken)? {
        rows.row(&mut reader)?;
        rows.instance += 1;
    }
    reader.end().map_err(broken)?;
    rows.finish()
}

/// The routing key among the first row's values.
pub(super) fn first_row_key<'a>(
    rows: Tokens<'a>,
    features: &[String],
    name: &str,
) -> Result<Option<Cow<'a, [u8]>>> {
    let mut tokens = rows.clone();
    tokens.next();
    if tokens.next() != Token::ObjectOpen {
        let at = features.iter().position(|feature| feature == name);
        return at.map_or(Ok(None), |n| call::nth_key(rows, n));
    }
    while let Token::String(key) = tokens.next() {
        if unescape(key).is_ok_and(|key| key == name) {
            return call::nth_key(tokens, 0);
        }
        tokens.skip();
    }
    Ok(None)
}

impl<'s> Column<'s> {
    fn new(spec: &'s TensorSpec, reader: &Reader<'_>, inputs: usize) -> Self {
        // A first dimension of 1 is a batch of one, not a part of the row.
        let stacked = spec.is_batched() || spec.shape.first() == Some(&Dim::Fixed(1));
        let row = if stacked { &spec.shape[1..] } else { &spec.shape[..] };
        let room = reader.room(row_elements(row), inputs);
        let data = Data::with_capacity(spec.datatype, room);
        Self { spec, data, sizes: sizes(row), stacked }
    }

    /// Reads one row. A bare value will do where a row holds one value.
    fn row(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let bare = matches!(self.sizes[..], [Size::Fixed(1)]) && is_scalar(reader, self.spec);
        let sizes = if bare { &mut [][..] } else { &mut self.sizes[..] };
        fill(reader, &mut self.data, sizes)
    }

    fn finish(self, rows: usize) -> Result<Tensor> {
        if self.data.is_empty() {
            return Err(Error::invalid(format!(
                "input {:?}: expected shape {:?}, got no values",
                self.spec.name,
                self.spec.wire_shape()
            )));
        }
        let inner = self.sizes.iter().map(|size| size.get().unwrap_or(0));
        let shape = self.stacked.then_some(rows).into_iter().chain(inner).collect();
        Tensor::new(&self.spec.name, shape, self.data)
    }
}

impl Rows<'_> {
    /// Reads the next row, whatever its form.
    fn row(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if self.is_bytes(reader) || !reader.take(b'{') {
            return self.array(reader);
        }
        if self.is_by_feature(reader) { self.by_feature(reader) } else { self.by_input(reader) }
    }

    /// Whether a row is bytes that come as an object.
    fn is_bytes(&self, reader: &Reader<'_>) -> bool {
        self.features.is_empty() && is_bytes(reader, &self.signature.inputs)
    }

    /// A row that is the value of the only input.
    fn array(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let instance = self.instance;
        if let [column] = &mut self.columns[..] {
            return column.row(reader).map_err(|found| fault(self.body, column, instance, &found));
        }
        Err(Error::invalid(format!(
            "instance {instance}: expected an object with {}, got {}",
            names(&self.signature.inputs),
            reader.kind()
        )))
    }

    /// Objects are keyed by feature where `model.toml` names features, unless
    /// they plainly name the input.
    fn is_by_feature(&self, reader: &Reader<'_>) -> bool {
        let [spec] = &self.signature.inputs[..] else { return false };
        if self.features.is_empty() {
            return false;
        }
        let names_input = || reader.clone().string().is_ok_and(|key| key == spec.name);
        !(self.by_name && names_input())
    }

    fn by_feature(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let column = &mut self.columns[0];
        let count = self.features.len();
        if !matches!(column.sizes[..], [size] if size.get().is_none_or(|size| size == count)) {
            return Err(Error::invalid(format!(
                "model.toml names {count} features, but input {:?} has shape {:?}; send rows as \
                 arrays",
                column.spec.name,
                column.spec.wire_shape()
            )));
        }
        column.sizes[0] = match column.sizes[0] {
            Size::Open => Size::Seen(count),
            known => known,
        };
        let (order, features) = (&mut self.order, self.features);
        let read = for_each_datatype!(&mut column.data, v => order.row(reader, v, features));
        read.map_err(|why| {
            let at = At::offset(self.body, reader.last());
            Error::invalid(format!("instance {}: {why} ({at})", self.instance))
        })
    }

    /// A row that is an object by input name.
    fn by_input(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let instance = self.instance;
        let wrong = |why: String| Error::invalid(format!("instance {instance}: {why}"));
        let mut seen = vec![false; self.columns.len()];
        let mut first = true;
        while let Some(key) = reader
            .key(std::mem::take(&mut first))
            .map_err(|Malformed(at)| malformed(self.body, at))?
        {
            let name = unescape(key).map_err(wrong)?;
            let Some(at) = self.columns.iter().position(|column| column.spec.name == name) else {
                return Err(wrong(format!(
                    "input {:?} is unknown; this model takes {}",
                    short(&name),
                    names(&self.signature.inputs)
                )));
            };
            if std::mem::replace(&mut seen[at], true) {
                return Err(wrong(format!("input {name:?} is given twice")));
            }
            let column = &mut self.columns[at];
            column.row(reader).map_err(|found| fault(self.body, column, instance, &found))?;
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(at) => Err(wrong(format!("input {:?} is missing", self.columns[at].spec.name))),
        }
    }

    fn finish(self) -> Result<(Vec<Tensor>, usize)> {
        let rows = self.instance;
        if rows == 0 {
            return Err(Error::invalid("\"instances\": expected at least one row, got none"));
        }
        let single = self.signature.inputs.iter().find(|spec| !spec.is_batched());
        if let Some(spec) = single.filter(|_| rows > 1) {
            return Err(Error::invalid(format!(
                "\"instances\": input {:?} has shape {:?} and no batch dimension; expected exactly \
                 one row, got {rows}",
                spec.name,
                spec.wire_shape()
            )));
        }
        let tensors: Result<_> = self.columns.into_iter().map(|c| c.finish(rows)).collect();
        Ok((tensors?, rows))
    }
}

/// For text that is no JSON; serde_json says more.
const BROKEN: &str = "malformed JSON";

/// The order in which objects name the features. Most clients keep to one, so
/// the last row's order is the first guess.
#[derive(Default)]
struct Order {
    guess: Vec<usize>,
    seen: Vec<bool>,
}

impl Order {
    /// Reads one object by feature, behind its brace.
    fn row<T: Element>(
        &mut self,
        reader: &mut Reader<'_>,
        out: &mut Vec<T>,
        features: &[String],
    ) -> Result<(), String> {
        if self.guess.len() != features.len() {
            // At first, the order of model.toml.
            self.guess = (0..features.len()).collect();
        }
        self.seen.clear();
        self.seen.resize(features.len(), false);
        let start = out.len();
        out.resize(start + features.len(), T::default());
        let mut count = 0;
        while let Some(key) = reader.key(count == 0).map_err(|_| BROKEN.to_owned())? {
            let at = self.find(count, key, features)?;
            if std::mem::replace(&mut self.seen[at], true) {
                return Err(format!("feature {:?} is given twice", features[at]));
            }
            out[start + at] = reader.scalar().map_err(|fault: Fault| match fault.what {
                What::Value(why) => format!("feature {:?}: {why}", features[at]),
                _ => BROKEN.to_owned(),
            })?;
            count += 1;
        }
        match self.seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(at) => Err(format!("feature {:?} is missing", features[at])),
        }
    }

    /// The feature that the `n`-th key of a row names.
    fn find(&mut self, n: usize, key: &str, features: &[String]) -> Result<usize, String> {
        let guess = self.guess.get(n).copied().unwrap_or(0);
        if features.get(guess).is_some_and(|feature| feature == key) {
            return Ok(guess);
        }
        let name = unescape(key)?;
        let Some(at) = features.iter().position(|feature| *feature == name) else {
            let known: Vec<_> = features.iter().take(LISTED_MAX).map(String::as_str).collect();
            let more = if features.len() > LISTED_MAX { ", …" } else { "" };
            return Err(format!(
                "feature {:?} is unknown; known: {}{more}",
                short(&name),
                known.join(", ")
            ));
        };
        if let Some(guess) = self.guess.get_mut(n) {
            *guess = at;
        }
        Ok(at)
    }
}

/// The error for a row that does not fit.
fn fault(body: &str, column: &Column<'_>, instance: usize, fault: &Fault) -> Error {
    let (name, shape) = (&column.spec.name, column.spec.wire_shape());
    let simple = column.sizes.len() == 1;
    let at = At::offset(body, fault.at);
    Error::invalid(match &fault.what {
        What::Length { got, fixed: true, .. } if simple && column.stacked => format!(
            "input {name:?}: expected shape {shape:?}, got [1, {got}]; instance {instance} has \
             {got} values"
        ),
        What::Length { expected, got, fixed: false, .. } if simple => format!(
            "input {name:?}: ragged: instance {instance} has {got} values, those before it \
             {expected}"
        ),
        What::Length { axis, expected, got, .. } => format!(
            "input {name:?}: expected shape {shape:?}; instance {instance} has {got} values in \
             dimension {}, expected {expected} ({at})",
            axis + usize::from(column.stacked)
        ),
        What::NoArray(kind) => format!(
            "input {name:?}: expected shape {shape:?}; instance {instance} has {kind} where an \
             array must stand ({at})"
        ),
        What::Value(why) => format!("input {name:?}, instance {instance}: {why} ({at})"),
        What::Malformed => return malformed(body, fault.at),
    })
}
