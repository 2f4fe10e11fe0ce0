//! Tables for the terminal: plain text, no colours, at most 100 columns.

use comfy_table::{ContentArrangement, Table, presets};

/// The widest line. Longer cells are wrapped.
const WIDTH: u16 = 100;

/// A table with these headings.
pub(super) struct Sheet(Table);

impl Sheet {
    /// An empty table.
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
        Self(table)
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    /// The text, without blanks at the ends of lines.
    pub(super) fn render(&self) -> String {
        let lines: Vec<_> = self.0.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}
