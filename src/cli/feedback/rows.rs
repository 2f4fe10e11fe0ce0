//! Lines of a file to labels as a gateway takes them.

use std::path::Path;

use serde_json::json;

use crate::cli::data::{self, Table};
use crate::types::PredictionId;

/// Bytes of labels that are sent together, about: some thousands.
const PIECE_BYTES: usize = 512 * 1024;
/// The column with the row of a request, unless another one is named.
const ROW: &str = "row";

/// What the columns are called.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) row: Option<&'a str>,
}

/// Labels that are sent together.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// As JSON lines.
    pub(super) lines: String,
    /// Where each of them is.
    pub(super) places: Vec<(&'static str, u64)>,
    /// What is wrong with the one behind them.
    pub(super) problem: Option<String>,
}

/// A file of labels.
pub(super) struct Labels {
    table: Box<dyn Table>,
    has_row: bool,
    unlabelled: u64,
}

impl Labels {
    /// Opens a file. Errors do not name it.
    pub(super) fn open(path: &Path, columns: Columns<'_>) -> Result<Self, String> {
        Self::read(data::open(path)?, columns)
    }

    fn read(mut table: Box<dyn Table>, columns: Columns<'_>) -> Result<Self, String> {
        let place = |name: &str| table.columns().iter().position(|column| column == name);
        let find = |name: &str, option: &str| {
            place(name).ok_or_else(|| {
                let there = table.columns().join(", ");
                format!("expected a column {name:?}; there are {there}; {option} names another")
            })
        };
        let mut places = vec![find(columns.id, "--id")?, find(columns.label, "--label")?];
        match columns.row {
            Some(name) => places.push(find(name, "--row")?),
            None => places.extend(place(ROW)),
        }
        let has_row = places.len() == 3;
        table.select(&places)?;
        Ok(Self { table, has_row, unlabelled: 0 })
    }

    /// The next labels that are sent together; none behind the last one.
    pub(super) fn take(&mut self) -> Piece {
        let mut piece = Piece::default();
        while piece.lines.len() < PIECE_BYTES {
            match self.line() {
                Ok(Some(line)) => {
                    piece.lines.push_str(&line);
                    piece.lines.push('\n');
                    piece.places.push(self.table.place());
                }
                Ok(None) => break,
                Err(problem) => {
                    piece.problem = Some(problem);
                    break;
                }
            }
        }
        piece
    }

    /// Lines that had no label so far.
    pub(super) const fn unlabelled(&self) -> u64 {
        self.unlabelled
    }

    /// The next label; `None` behind the last one.
    fn line(&mut self) -> Result<Option<String>, String> {
        while self.table.next()? {
            match self.present() {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) => self.unlabelled += 1,
                Err(why) => {
                    let (what, number) = self.table.place();
                    return Err(format!("{what} {number}: {why}"));
                }
            }
        }
        Ok(None)
    }

    fn present(&self) -> Result<Option<String>, String> {
        let label = self.table.cell(1).label().map_err(|why| format!("label: {why}"))?;
        let Some(label) = label else { return Ok(None) };
        let id = self.table.cell(0);
        let id = id.word().map_err(|why| format!("prediction_id: {why}"))?;
        let id: PredictionId = id.parse().map_err(|e: crate::error::Error| e.to_string())?;
        let row = if self.has_row { self.table.cell(2).row() } else { Ok(0) };
        let row = row.map_err(|why| format!("row: {why}"))?;
        Ok(Some(json!({"prediction_id": id.to_string(), "row": row, "label": label}).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Columns<'_> = Columns { id: "prediction_id", label: "label", row: None };

    fn labels(text: &str, columns: Columns<'_>) -> Result<(String, usize, u64), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let mut labels = Labels::open(file.path(), columns)?;
        let Piece { lines, places, problem } = labels.take();
        match problem {
            Some(problem) => Err(problem),
            None => Ok((lines, places.len(), labels.unlabelled())),
        }
    }

    #[test]
    fn lines_become_labels_and_those_without_one_are_passed_over() {
        let id = "00ff00ff00ff00ff00ff00ff00ff00ff";
        let text = format!("label,prediction_id,row\nyes,{id},3\n,{id},\n1,{id},\n");
        let (lines, count, unlabelled) = labels(&text, USUAL).unwrap();
        let expected = format!(
            "{{\"prediction_id\":\"{id}\",\"row\":3,\"label\":\"yes\"}}\n\
             {{\"prediction_id\":\"{id}\",\"row\":0,\"label\":\"1\"}}\n"
        );
        let parse = |lines: &str| {
            let values = lines.lines().map(|line| serde_json::from_str(line).unwrap());
            values.collect::<Vec<serde_json::Value>>()
        };
        assert_eq!((parse(&lines), count, unlabelled), (parse(&expected), 2, 1));
        let own = Columns { id: "p", label: "left", row: None };
        assert_eq!(labels(&format!("p,left\n{id},1\n"), own).unwrap().1, 1);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_line() {
        let told = |text: &str, columns| labels(text, columns).unwrap_err();
        assert_eq!(
            told("id,label\n", USUAL),
            "expected a column \"prediction_id\"; there are id, label; --id names another"
        );
        let problem = told("prediction_id,label\n\nx,1\n", USUAL);
        assert!(problem.starts_with("line 3: prediction_id: expected 32 hex digits"), "{problem}");
        let row = Columns { row: Some("r"), ..USUAL };
        assert!(told("prediction_id,label\n", row).ends_with("--row names another"));
        let id = "00ff00ff00ff00ff00ff00ff00ff00ff";
        let problem = told(&format!("prediction_id,label,r\n{id},1,x\n"), row);
        assert_eq!(problem, "line 2: row: expected a whole number, got \"x\"");
    }
}
