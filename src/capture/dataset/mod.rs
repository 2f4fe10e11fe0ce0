//! A table to train on: what was asked and answered, row by row, with what turned out to be
//! true.
//!
//! Labels are held in memory, up to [`Labels::MAX`]; captured files are read and the table
//! is written a group of rows at a time.

mod captures;
mod labels;
mod sheet;

pub use captures::{Captures, Labelled, Labelling};
pub use labels::{LabelTypes, Labels, label_value};
pub use sheet::{Sheet, SheetForm, Value, ValueType};

/// What the column of labels is called, unless another one is.
pub const LABEL: &str = "label";

#[cfg(test)]
mod tests;
