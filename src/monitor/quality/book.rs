//! What is known of answers and labels: sums in memory, the same as in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::analysis::Quality;
use crate::error::Result;
use crate::monitor::quality::trials::Ledger;
use crate::monitor::quality::who::Who;
use crate::store::{CellRow, Predictions};
use crate::telemetry::Answerer;
use crate::types::{LabelValue, PredictionId};

/// The most sums. Beyond, those of groups are not begun; those of all rows are.
const CELLS_MAX: usize = 20_000;
/// Answerers of the request path whose numbers are remembered.
const RECENT_MAX: usize = 64;
/// The grouping of all rows.
pub(super) const ALL: i64 = -1;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The day of a time in milliseconds since 1970, from 1970.
pub(super) const fn day(at: i64) -> i64 {
    at.div_euclid(DAY_MS)
}

/// What sums are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) answerer: i64,
    /// Which of its groupings; [`ALL`] for all rows.
    pub(super) grouping: i64,
    /// Which group of that.
    pub(super) member: i64,
    pub(super) day: i64,
}

/// A label that waits for its answer: row, what it says, when it came.
pub(super) type Waiting = (u32, LabelValue, i64);

/// Everything that is known.
#[derive(Default)]
pub(super) struct Book {
    pub(super) who: HashMap<i64, Who>,
    recent: Vec<(Arc<Answerer>, i64)>,
    pub(super) cells: BTreeMap<Cell, Quality>,
    pub(super) waiting: HashMap<PredictionId, Vec<Waiting>>,
    pub(super) waiting_count: usize,
    pub(super) trials: Ledger,
}

impl Book {
    /// What is stored.
    pub(super) async fn read(store: &Predictions) -> Result<Self> {
        let (trials, keys) = store.trials().await?;
        let mut book = Self { trials: Ledger::read(&trials, &keys), ..Self::default() };
        for (number, what) in store.answerers().await? {
            match serde_json::from_str(&what) {
                Ok(who) => drop(book.who.insert(number, who)),
                Err(error) => tracing::warn!(number, %error, "an answerer cannot be read"),
            }
        }
        for row in store.cells().await? {
            match serde_json::from_str(&row.sums) {
                Ok(sums) => drop(book.cells.insert(Cell::from(&row), sums)),
                Err(error) => tracing::warn!(?row, %error, "sums of quality cannot be read"),
            }
        }
        for label in store.waiting().await? {
            book.wait(label.id, (label.row, label.label, label.at));
        }
        Ok(book)
    }

    /// The number of an answerer.
    pub(super) async fn number(
        &mut self,
        answerer: &Arc<Answerer>,
        store: &Predictions,
    ) -> Result<i64> {
        let known = self.recent.iter().find(|(known, _)| Arc::ptr_eq(known, answerer));
        if let Some((_, number)) = known {
            return Ok(*number);
        }
        let who = Who::from(&**answerer);
        let what = serde_json::to_string(&who).expect("it has no key that is no string");
        let number = store.add_answerer(&what).await?;
        self.who.insert(number, who);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, (Arc::clone(answerer), number));
        Ok(number)
    }

    /// Begins to wait with a label.
    pub(super) fn wait(&mut self, id: PredictionId, waiting: Waiting) {
        self.waiting.entry(id).or_default().push(waiting);
        self.waiting_count += 1;
    }

    /// Waits no more with those of one answer.
    pub(super) fn come(&mut self, id: PredictionId) -> Vec<Waiting> {
        let come = self.waiting.remove(&id).unwrap_or_default();
        self.waiting_count -= come.len();
        come
    }

    /// Forgets what the store forgets.
    pub(super) fn forget(&mut self, waiting_before: i64, first_day: i64) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|(_, _, at)| *at >= waiting_before);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.waiting_count = self.waiting.values().map(Vec::len).sum();
        self.cells.retain(|cell, _| cell.day >= first_day);
    }
}

/// Sums that are to be stored before they count.
#[derive(Default)]
pub(super) struct Draft {
    cells: BTreeMap<Cell, Quality>,
    /// Those that the book does not have.
    new: usize,
}

impl Draft {
    /// The sums of these rows, to be added to; `None` if there are too many.
    pub(super) fn cell(&mut self, book: &Book, cell: Cell) -> Option<&mut Quality> {
        let is_new = !book.cells.contains_key(&cell) && !self.cells.contains_key(&cell);
        if is_new && cell.grouping != ALL && book.cells.len() + self.new >= CELLS_MAX {
            return None;
        }
        self.new += usize::from(is_new);
        let sums = || book.cells.get(&cell).cloned().unwrap_or_default();
        Some(self.cells.entry(cell).or_insert_with(sums))
    }

    /// As they are stored.
    pub(super) fn rows(&self) -> Vec<CellRow> {
        let row = |(cell, sums): (&Cell, &Quality)| CellRow {
            answerer: cell.answerer,
            grouping: cell.grouping,
            member: cell.member,
            day: cell.day,
            sums: serde_json::to_string(sums).expect("sums are numbers"),
        };
        self.cells.iter().map(row).collect()
    }

    /// They are stored: they count.
    pub(super) fn done(self, book: &mut Book) {
        book.cells.extend(self.cells);
    }
}

impl From<&CellRow> for Cell {
    fn from(row: &CellRow) -> Self {
        let CellRow { answerer, grouping, member, day, .. } = *row;
        Self { answerer, grouping, member, day }
    }
}
