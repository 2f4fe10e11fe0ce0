//! The columns of the rows as the walk sees them: as a rule the features
//! themselves.

use std::borrow::Cow;
use std::collections::HashMap;

use super::real::Real;
use super::split::Column;

#[derive(Debug)]
pub(super) enum Columns {
    /// The first so many features, as they are.
    Features(usize),
    /// Others, at least one of which is not a plain feature.
    Made(Vec<Column>),
}

impl Columns {
    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Features(count) => *count,
            Self::Made(columns) => columns.len(),
        }
    }

    /// The rows with these columns (or more), and their width.
    pub(super) fn of<'a, X: Real>(&self, rows: &'a [X], width: usize) -> (Cow<'a, [X]>, usize) {
        match self {
            Self::Features(_) => (Cow::Borrowed(rows), width),
            Self::Made(columns) => {
                let rows = rows.chunks_exact(width);
                let made = rows.flat_map(|row| columns.iter().map(|column| column.of(row)));
                (made.collect(), columns.len())
            }
        }
    }
}

/// Collects the columns that the tests ask for.
#[derive(Default)]
pub(super) struct Collector {
    found: Vec<Column>,
    index: HashMap<Column, u32>,
}

impl Collector {
    /// The number of `column`.
    pub(super) fn number(&mut self, column: Column) -> u32 {
        let found = &mut self.found;
        *self.index.entry(column).or_insert_with(|| {
            found.push(column);
            super::trees::to_u32(found.len() - 1)
        })
    }

    /// The columns, and for each number given out its final one.
    pub(super) fn finish(self, features: usize) -> (Columns, Vec<u32>) {
        let plain = |column: &Column| match column {
            Column::Plain(feature) => Some(*feature),
            _ => None,
        };
        match self.found.iter().map(plain).collect::<Option<Vec<u32>>>() {
            Some(features_of) => (Columns::Features(features.max(1)), features_of),
            None => {
                let same = (0..super::trees::to_u32(self.found.len())).collect();
                (Columns::Made(self.found), same)
            }
        }
    }
}
