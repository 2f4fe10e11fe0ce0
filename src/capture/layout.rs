//! What the columns of a file are. Pure.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::types::{CaptureRule, Datatype, Dim, ModelName, Signature, TensorSpec};

/// The widest tensor that gets a column for each of its own.
const WIDTH_MAX: usize = 512;
/// The most columns of a file that tensors get so.
const COLUMNS_MAX: usize = 1024;
/// The most names that a message lists.
const LISTED_MAX: usize = 30;

/// The columns that every file has, before those of the tensors.
pub(super) const FIXED: [&str; 7] = ["time", REQUEST_ID, ID, ROW, "version", "digest", "role"];
/// The one of them with the answer's id.
pub(super) const ID: &str = "prediction_id";
/// The one of them with the row of its request.
pub(super) const ROW: &str = "row";
/// The one of them that clients may choose, and that owners may want to withhold.
pub(super) const REQUEST_ID: &str = "request_id";
/// What the columns of outputs begin with.
const OUTPUT: &str = "output.";

/// What a file holds: the value of `foreshadow.capture` in its footer, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The form of this description; see [`Layout::SCHEMA`].
    pub schema: u32,
    /// The model whose requests they are.
    pub model: ModelName,
    /// Whether a row of the file is a whole request: of models whose tensors do not have
    /// a row for each of the input's.
    pub whole_requests: bool,
    /// What of a request's id is stored: one that is dropped is empty.
    #[serde(default)]
    pub request_id: Stored,
    /// The inputs, in the signature's order; `None` where only outputs are stored.
    pub inputs: Option<Vec<TensorOf>>,
    /// The outputs, in the signature's order.
    pub outputs: Vec<TensorOf>,
}

/// A tensor, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorOf {
    /// Its name.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// Its shape, −1 for a dimension that may vary.
    pub shape: Vec<i64>,
    /// How it is stored.
    pub form: Form,
    /// Its columns: one where it is stored as bytes.
    pub columns: Vec<ColumnOf>,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A column for each value of a row, in its own type.
    Columns,
    /// All values of a row (of the request, where rows are whole requests) as raw
    /// little-endian bytes, row-major, and behind it, as `….shape`, their dimensions:
    /// `3,224,224`. Texts are their length in four bytes, and their bytes.
    Bytes,
}

/// A column of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnOf {
    /// What the model's owner calls it.
    pub name: String,
    /// What the file calls it.
    pub column: String,
    /// What of it is stored.
    pub stored: Stored,
}

/// What of a column is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// Its values.
    #[default]
    Plain,
    /// A keyed hash of each value, 32 hex digits.
    Hashed,
    /// Nothing: the file has no such column.
    Dropped,
}

impl Layout {
    /// The form that this program writes.
    pub const SCHEMA: u32 = 1;
    /// Its key in a file's footer.
    pub const KEY: &str = "foreshadow.capture";

    /// What requests of a version with this signature are stored as.
    ///
    /// # Errors
    /// A column is to be dropped or hashed that is not there: it may be misspelt, and
    /// then the one that is meant would be stored.
    pub(super) fn new(
        model: &ModelName,
        signature: &Signature,
        features: &[String],
        rule: &CaptureRule,
        whole_requests: bool,
    ) -> Result<Self, String> {
        let mut names = Names::default();
        let mut left = COLUMNS_MAX;
        let outputs = signature.outputs.iter().map(|spec| {
            let own = if whole_requests { None } else { width(spec, left) };
            left -= own.unwrap_or(0);
            tensor(spec, own, &[], |name| names.output(name))
        });
        let outputs: Vec<_> = outputs.collect();
        let alone = signature.inputs.len() == 1;
        let inputs = signature.inputs.iter().map(|spec| {
            let own = if whole_requests { None } else { width(spec, left) };
            left -= own.unwrap_or(0);
            let called: &[String] = if alone { features } else { &[] };
            tensor(spec, own, called, |name| names.input(name))
        });
        let mut layout = Self {
            schema: Self::SCHEMA,
            model: model.clone(),
            whole_requests,
            request_id: Stored::Plain,
            inputs: if rule.outputs_only { None } else { Some(inputs.collect()) },
            outputs,
        };
        for (names, stored) in [(&rule.drop, Stored::Dropped), (&rule.hash, Stored::Hashed)] {
            names.iter().try_for_each(|name| layout.mark(name, stored))?;
        }
        Ok(layout)
    }

    /// Says of the columns with this name what of them is stored; a tensor's name means all
    /// of its columns. An input has the name that its owner gave it, an output that of the
    /// file.
    fn mark(&mut self, name: &str, stored: Stored) -> Result<(), String> {
        let mut found = name == REQUEST_ID;
        if found {
            self.request_id = stored;
        }
        let of_output = name.strip_prefix(OUTPUT);
        let inputs = self.inputs.iter_mut().flatten().map(|tensor| (tensor, false));
        for (tensor, output) in inputs.chain(self.outputs.iter_mut().map(|tensor| (tensor, true))) {
            let tensors_name = if output { of_output } else { Some(name) };
            let whole = tensors_name == Some(tensor.name.as_str());
            for column in &mut tensor.columns {
                let own = if output { &column.column } else { &column.name };
                if whole || own == name {
                    column.stored = stored;
                    found = true;
                }
            }
        }
        // Where no inputs are stored, none of theirs has to be there.
        let of_input = self.inputs.is_none() && of_output.is_none();
        if found || of_input { Ok(()) } else { Err(self.unknown(name, stored)) }
    }

    /// A column is to be withheld that is not there.
    fn unknown(&self, name: &str, stored: Stored) -> String {
        let key = if stored == Stored::Hashed { "hash" } else { "drop" };
        let names = self.names().map(|(name, _)| name);
        let names: Vec<_> = names.chain([REQUEST_ID]).take(LISTED_MAX).collect();
        format!(
            "model.toml: capture.{key}: expected the name of a column, got {name:?}; there are {}. \
             Nothing is stored",
            names.join(", ")
        )
    }

    /// The columns of inputs, as their owner calls them, and those of outputs, as the file
    /// does.
    fn names(&self) -> impl Iterator<Item = (&str, Stored)> {
        let inputs = self.inputs.iter().flatten().flat_map(|tensor| &tensor.columns);
        let outputs = self.outputs.iter().flat_map(|tensor| &tensor.columns);
        let inputs = inputs.map(|column| (column.name.as_str(), column.stored));
        inputs.chain(outputs.map(|column| (column.column.as_str(), column.stored)))
    }

    /// Inputs, then outputs.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &TensorOf> {
        self.inputs.iter().flatten().chain(&self.outputs)
    }

    /// The columns that are not stored as they came, for people.
    pub(super) fn withheld(&self) -> Vec<String> {
        let withheld = self.names().filter_map(|(name, stored)| match stored {
            Stored::Plain => None,
            Stored::Hashed => Some(format!("{name:?} (hashed)")),
            Stored::Dropped => Some(format!("{name:?} (dropped)")),
        });
        withheld.collect()
    }
}

/// How many columns a tensor gets; `None` where it is stored as bytes.
fn width(spec: &TensorSpec, left: usize) -> Option<usize> {
    let width = match spec.shape[..] {
        [_] => 1,
        [_, Dim::Fixed(width)] => width,
        _ => return None,
    };
    ((1..=WIDTH_MAX).contains(&width) && width <= left).then_some(width)
}

/// A tensor of so many columns, or as bytes; `called` are names of its columns, taken if
/// they are as many.
fn tensor(
    spec: &TensorSpec,
    width: Option<usize>,
    called: &[String],
    mut column_of: impl FnMut(&str) -> String,
) -> TensorOf {
    let own = |width: usize| match width {
        1 => vec![spec.name.clone()],
        _ => (0..width).map(|at| format!("{}[{at}]", spec.name)).collect(),
    };
    let names = match width {
        Some(width) if called.len() == width => called.to_vec(),
        Some(width) => own(width),
        None => vec![spec.name.clone()],
    };
    let columns = names.into_iter().map(|name| {
        let column = column_of(&name);
        ColumnOf { name, column, stored: Stored::Plain }
    });
    TensorOf {
        name: spec.name.clone(),
        datatype: spec.datatype,
        shape: spec.wire_shape(),
        form: if width.is_some() { Form::Columns } else { Form::Bytes },
        columns: columns.collect(),
    }
}

/// What columns are called, each differently.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn output(&mut self, name: &str) -> String {
        self.unique(format!("{OUTPUT}{name}"))
    }

    /// As it is, unless a column has that name that is no input.
    fn input(&mut self, name: &str) -> String {
        let taken = FIXED.contains(&name) || name.starts_with(OUTPUT);
        self.unique(if taken { format!("input.{name}") } else { name.to_owned() })
    }

    /// With its shape's, which it may have.
    fn unique(&mut self, mut name: String) -> String {
        while self.0.contains(&name) || self.0.contains(&shape_of(&name)) {
            name.push('_');
        }
        self.0.insert(shape_of(&name));
        self.0.insert(name.clone());
        name
    }
}

/// The column with the dimensions of what is in `column` as bytes.
pub(super) fn shape_of(column: &str) -> String {
    format!("{column}.shape")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dims: &[i64]) -> TensorSpec {
        let dims = dims.iter().map(|dim| usize::try_from(*dim).map_or(Dim::Any, Dim::Fixed));
        TensorSpec::new(name, Datatype::Fp32, dims.collect())
    }

    fn layout(
        inputs: &[TensorSpec],
        features: &[&str],
        rule: &CaptureRule,
    ) -> Result<Layout, String> {
        let signature = Signature::new(inputs.to_vec(), vec![spec("y", &[-1, 2])]);
        let features: Vec<_> = features.iter().map(|name| (*name).to_owned()).collect();
        Layout::new(&ModelName::new("m").unwrap(), &signature, &features, rule, false)
    }

    fn columns(layout: &Layout) -> Vec<&str> {
        layout.tensors().flat_map(|tensor| &tensor.columns).map(|column| &*column.column).collect()
    }

    #[test]
    fn columns_are_called_as_the_owner_calls_them() {
        let rule = CaptureRule::default();
        let named = layout(&[spec("x", &[-1, 2])], &["age", "row"], &rule).unwrap();
        assert_eq!(columns(&named), ["age", "input.row", "output.y[0]", "output.y[1]"]);
        let several = [spec("a", &[-1]), spec("b", &[-1, 1]), spec("p", &[-1, 3, 8, 8])];
        let several = layout(&several, &["age"], &rule).unwrap();
        assert_eq!(columns(&several), ["a", "b", "p", "output.y[0]", "output.y[1]"]);
        let forms = several.inputs.unwrap();
        assert_eq!((forms[1].form, forms[2].form), (Form::Columns, Form::Bytes));
        let wide = layout(&[spec("x", &[-1, 513])], &[], &rule).unwrap();
        assert_eq!(columns(&wide)[0], "x");
        let alike = [spec("a", &[-1]), spec("a.shape", &[-1]), spec("output.y[0]", &[-1])];
        let alike = layout(&alike, &[], &rule).unwrap();
        assert_eq!(columns(&alike)[..3], ["a", "a.shape_", "input.output.y[0]"]);
    }

    #[test]
    fn what_is_dropped_or_hashed_must_be_there() {
        let rule = |drop: &[&str], hash: &[&str]| CaptureRule {
            drop: drop.iter().map(|name| (*name).to_owned()).collect(),
            hash: hash.iter().map(|name| (*name).to_owned()).collect(),
            ..CaptureRule::default()
        };
        let x = [spec("x", &[-1, 3])];
        let names = ["name", "email", "age"];
        let some = layout(&x, &names, &rule(&["name"], &["email"])).unwrap();
        assert_eq!(some.withheld(), ["\"name\" (dropped)", "\"email\" (hashed)"]);
        assert_eq!(layout(&x, &names, &rule(&["x"], &[])).unwrap().withheld().len(), 3);
        let problem = layout(&x, &names, &rule(&[], &["emial"])).unwrap_err();
        let expected = "capture.hash: expected the name of a column, got \"emial\"; there are \
                        name, email, age, output.y[0], output.y[1], request_id. Nothing is stored";
        assert!(problem.contains(expected), "{problem}");
        let outputs_only = CaptureRule { outputs_only: true, ..rule(&["emial"], &[]) };
        assert_eq!(layout(&x, &names, &outputs_only).unwrap().inputs, None);
        let other = rule(&["request_id", "output.y[1]"], &[]);
        let other = layout(&x, &names, &other).unwrap();
        assert_eq!((other.request_id, some.request_id), (Stored::Dropped, Stored::Plain));
        assert_eq!(other.withheld(), ["\"output.y[1]\" (dropped)"]);
        assert_eq!(layout(&x, &names, &rule(&[], &["output.y"])).unwrap().withheld().len(), 2);
        let outputs_only = CaptureRule { outputs_only: true, ..rule(&["output.z"], &[]) };
        assert!(layout(&x, &names, &outputs_only).is_err());
    }

    #[test]
    fn it_reads_back_from_a_footer() {
        let layout = layout(&[spec("x", &[-1, 2])], &[], &CaptureRule::default()).unwrap();
        let text = serde_json::to_string(&layout).unwrap();
        assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), layout);
    }
}
