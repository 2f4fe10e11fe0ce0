//! Answers and labels, joined: what of it is to be stored. Pure, over what the store
//! had.

use std::collections::{BTreeSet, HashMap};

use crate::monitor::quality::book::{ALL, Book, Cell, Draft, Waiting, day};
use crate::monitor::quality::trials::{TrialDraft, WrongRow};
use crate::store::{AnswerRow, Changes, NewPrediction, Stored, WaitingLabel};
use crate::telemetry::Groups;
use crate::types::{
    KEPT_ROWS_MAX, Label, LabelValue, OTHER, PredictionId, Problem, Receipt, RowAnswer, Truth,
};

/// Problems that a receipt tells.
const PROBLEMS_MAX: usize = 20;

/// What is settled about labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// When it is, in milliseconds since 1970.
    pub(super) now: i64,
    /// Answers from before are too old.
    pub(super) since: i64,
    /// The most labels that wait.
    pub(super) waiting_max: usize,
}

/// One thing after another, to be stored together.
#[derive(Default)]
pub(super) struct Join {
    pub(super) changes: Changes,
    pub(super) draft: Draft,
    pub(super) trials: TrialDraft,
    /// The groups of wrong rows of each request, so far.
    wrong: HashMap<PredictionId, BTreeSet<Groups>>,
    /// What became of labels that had waited.
    pub(super) came: Receipt,
    /// Labels that begin to wait when it is stored, by their answer.
    waiting: HashMap<PredictionId, Vec<Waiting>>,
    waiting_count: usize,
}

impl Join {
    /// Adds an answer, with the labels that waited for it.
    pub(super) fn answered(
        &mut self,
        book: &Book,
        mut prediction: NewPrediction,
        come: Vec<Waiting>,
    ) {
        for (answer, groups) in &prediction.rows {
            for cell in cells(book, prediction.answerer, groups, prediction.at) {
                match (self.draft.cell(book, cell), answer) {
                    (Some(sums), Some(answer)) => sums.predicted(answer),
                    (Some(sums), None) => sums.unusable(),
                    (None, _) => {}
                }
            }
        }
        if let Some(who) = book.who.get(&prediction.answerer) {
            self.trials.count_answer(&book.trials, who, &prediction);
        }
        for (row, label, _) in come {
            self.changes.come.push((prediction.id, row));
            let truth = truth_of(book, &prediction, row, &label);
            match truth {
                Ok(truth) => {
                    self.joined(book, &prediction, row, truth);
                    self.came.joined += 1;
                }
                Err(_) => self.came.refused += 1,
            }
            if self.count_if_wrong(book, &prediction, row, &label) || truth.is_ok() {
                prediction.truths.push((row, label));
            }
        }
        self.changes.predictions.push(prediction);
    }

    /// Adds one report's labels. `found` has the answers that the store knows, and takes
    /// the labels.
    pub(super) fn reported(
        &mut self,
        book: &Book,
        rules: Rules,
        labels: Vec<Label>,
        found: &mut HashMap<PredictionId, Stored>,
    ) -> Receipt {
        let mut receipt = Receipt::default();
        for (place, label) in labels.into_iter().enumerate() {
            let Label { id, row, value } = label;
            if usize::try_from(row).is_ok_and(|row| row >= KEPT_ROWS_MAX) {
                refuse(
                    &mut receipt,
                    place,
                    format!(
                        "row: expected 0 to {}, got {row}; of more rows nothing is kept",
                        KEPT_ROWS_MAX - 1
                    ),
                );
                continue;
            }
            match found.get_mut(&id) {
                None => self.wait(book, rules, id, (row, value, rules.now), &mut receipt),
                Some(stored) if stored.prediction.at < rules.since => receipt.late += 1,
                Some(stored) => self.join(book, stored, row, value, place, &mut receipt),
            }
        }
        receipt
    }

    fn join(
        &mut self,
        book: &Book,
        stored: &mut Stored,
        row: u32,
        value: LabelValue,
        place: usize,
        receipt: &mut Receipt,
    ) {
        let before = stored.prediction.truths.iter().find(|(known, _)| *known == row);
        let truth = truth_of(book, &stored.prediction, row, &value);
        if let Some((_, before)) = before {
            // The same may be said in several ways: 1 and "1".
            let is_same = *before == value
                || truth.is_ok() && truth_of(book, &stored.prediction, row, before) == truth;
            *(if is_same { &mut receipt.duplicate } else { &mut receipt.conflicting }) += 1;
            return;
        }
        match truth {
            Ok(truth) => {
                self.joined(book, &stored.prediction, row, truth);
                let _ = self.count_if_wrong(book, &stored.prediction, row, &value);
                stored.prediction.truths.push((row, value));
                receipt.joined += 1;
            }
            Err(problem) => {
                // In no figure, and yet it may tell that the answer is wrong: then it is kept, so
                // that it counts once.
                if self.count_if_wrong(book, &stored.prediction, row, &value) {
                    stored.prediction.truths.push((row, value));
                }
                refuse(receipt, place, problem);
            }
        }
    }

    fn joined(&mut self, book: &Book, prediction: &NewPrediction, row: u32, truth: Truth) {
        let Some((Some(answer), groups)) = row_of(prediction, row) else { return };
        for cell in cells(book, prediction.answerer, groups, prediction.at) {
            if let Some(sums) = self.draft.cell(book, cell) {
                sums.labelled(answer, truth);
            }
        }
    }

    /// Whether an answer is wrong; if so, the rollout under way is told, if there is one. The
    /// row's label is not among those of its request yet.
    fn count_if_wrong(
        &mut self,
        book: &Book,
        prediction: &NewPrediction,
        row: u32,
        label: &LabelValue,
    ) -> bool {
        let Some(who) = book.who.get(&prediction.answerer) else { return false };
        let Some((answer, groups)) = row_of(prediction, row) else { return false };
        if !who.labels.is_wrong(answer.as_ref(), label) {
            return false;
        }
        if !book.trials.asks_for(who, prediction.at) {
            return true;
        }
        // Looked up once for each request: it may have many rows.
        let before = self.wrong.entry(prediction.id).or_insert_with(|| {
            let wrong = |(row, label): &(u32, LabelValue)| {
                let (answer, groups) = row_of(prediction, *row)?;
                who.labels.is_wrong(answer.as_ref(), label).then_some(*groups)
            };
            prediction.truths.iter().filter_map(wrong).collect()
        });
        let NewPrediction { at, key, .. } = *prediction;
        self.trials.count(&book.trials, &WrongRow { who, at, key, groups, before });
        before.insert(*groups);
        true
    }

    /// What is to be stored, whole.
    pub(super) fn changes(&mut self, book: &Book) -> &Changes {
        self.changes.cells = self.draft.rows();
        (self.changes.trials, self.changes.trial_keys) = self.trials.rows(&book.trials);
        self.changes.ended_trials.clone_from(&book.trials.ended);
        &self.changes
    }

    fn wait(
        &mut self,
        book: &Book,
        rules: Rules,
        id: PredictionId,
        waiting: Waiting,
        receipt: &mut Receipt,
    ) {
        let (row, value, at) = &waiting;
        let known = book.waiting.get(&id).into_iter().chain(self.waiting.get(&id)).flatten();
        if let Some((_, before, _)) = known.clone().find(|(known, ..)| known == row) {
            *(if before == value { &mut receipt.duplicate } else { &mut receipt.conflicting }) += 1;
            return;
        }
        if book.waiting_count + self.waiting_count >= rules.waiting_max {
            receipt.dropped += 1;
            return;
        }
        let label = WaitingLabel { id, row: *row, at: *at, label: value.clone() };
        self.changes.waiting.push(label);
        self.waiting.entry(id).or_default().push(waiting);
        self.waiting_count += 1;
        receipt.waiting += 1;
    }

    /// All labels of the answers that got any.
    pub(super) fn take_truths(
        &mut self,
        found: HashMap<PredictionId, Stored>,
        before: &HashMap<i64, usize>,
    ) {
        for Stored { n, prediction } in found.into_values() {
            if before.get(&n).is_some_and(|before| prediction.truths.len() > *before) {
                self.changes.truths.push((n, prediction.truths));
            }
        }
    }

    /// It is stored: it counts.
    pub(super) fn done(self, book: &mut Book) {
        for (id, waiting) in self.waiting {
            waiting.into_iter().for_each(|waiting| book.wait(id, waiting));
        }
        self.draft.done(book);
        self.trials.done(&mut book.trials);
        book.trials.ended.clear();
    }
}

fn refuse(receipt: &mut Receipt, label: usize, problem: String) {
    receipt.refused += 1;
    if receipt.problems.len() < PROBLEMS_MAX {
        receipt.problems.push(Problem { label, problem });
    }
}

/// The sums that a row counts in.
fn cells(book: &Book, answerer: i64, groups: &[u8], at: i64) -> impl Iterator<Item = Cell> + use<> {
    let day = day(at);
    let groupings = book.who.get(&answerer).map_or(0, |who| who.labels.groupings.len());
    let groups: Vec<_> = groups.iter().take(groupings).copied().collect();
    let groups = groups.into_iter().enumerate().map(move |(grouping, member)| Cell {
        answerer,
        grouping: i64::try_from(grouping).unwrap_or(i64::MAX),
        member: i64::from(member),
        day,
    });
    std::iter::once(Cell { answerer, grouping: ALL, member: i64::from(OTHER), day }).chain(groups)
}

fn row_of(prediction: &NewPrediction, row: u32) -> Option<&AnswerRow> {
    prediction.rows.get(usize::try_from(row).ok()?)
}

/// What a label says of a row; the error says what was expected.
fn truth_of(
    book: &Book,
    prediction: &NewPrediction,
    row: u32,
    label: &LabelValue,
) -> Result<Truth, String> {
    let rows = prediction.rows.len();
    let (answer, _) = row_of(prediction, row).ok_or_else(|| {
        format!(
            "row: expected 0 to {}, got {row}; so many rows of the answer are kept",
            rows.max(1) - 1
        )
    })?;
    let answer: &RowAnswer = answer.as_ref().ok_or_else(|| {
        "the answer to this row was none of the model's classes, and not a number".to_owned()
    })?;
    let who = book.who.get(&prediction.answerer).ok_or("it is not known who answered")?;
    who.labels.truth(answer, label).map_err(|problem| format!("label: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::quality::who::Who;
    use crate::types::{Digest, LabelSettings, ModelName, Share, VersionId};

    const RULES: Rules = Rules { now: 1_000, since: 100, waiting_max: 10 };

    fn book() -> Book {
        let labels = LabelSettings {
            keep: Share::ALL,
            classes: vec![],
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![],
        };
        let who = Who {
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(1).unwrap(),
            digest: Digest::new([1; 32]),
            role: "champion".into(),
            split: None,
            labels,
        };
        let mut book = Book::default();
        book.who.insert(1, who);
        book
    }

    fn id(n: u8) -> PredictionId {
        PredictionId([n; 16])
    }

    /// One row of class 1, and one that is none.
    fn prediction(n: u8, at: i64) -> NewPrediction {
        let class = RowAnswer::Class { class: 1, scores: vec![0.25, 0.75] };
        let rows = vec![(Some(class), [OTHER; 8]), (None, [OTHER; 8])];
        NewPrediction { id: id(n), at, answerer: 1, key: None, rows, truths: vec![] }
    }

    fn label(n: u8, row: u32, value: f64) -> Label {
        Label { id: id(n), row, value: LabelValue::Number(value) }
    }

    fn found(predictions: Vec<NewPrediction>) -> HashMap<PredictionId, Stored> {
        let stored = predictions.into_iter().zip(1..);
        stored.map(|(prediction, n)| (prediction.id, Stored { n, prediction })).collect()
    }

    #[test]
    fn each_label_is_counted_as_what_it_is() {
        let mut found = found(vec![prediction(1, 500), prediction(2, 99)]);
        let labels = vec![
            label(1, 0, 1.0),
            label(1, 0, 1.0),
            Label { value: LabelValue::Text("1".into()), ..label(1, 0, 1.0) },
            label(1, 0, 0.0),
            label(1, 1, 1.0),
            label(1, 2, 1.0),
            label(2, 0, 1.0),
            label(3, 0, 1.0),
            label(3, 0, 1.0),
            label(3, 0, 0.0),
            label(3, 1024, 1.0),
        ];
        let mut join = Join::default();
        let receipt = join.reported(&book(), RULES, labels, &mut found);
        assert_eq!(found[&id(1)].prediction.truths.len(), 2, "what is refused counts once, too");
        let Receipt { joined, duplicate, conflicting, late, waiting, dropped, refused, problems } =
            receipt;
        assert_eq!((joined, duplicate, conflicting, late), (1, 3, 2, 1));
        assert_eq!((waiting, dropped, refused), (1, 0, 3));
        let told: Vec<_> = problems.iter().map(|problem| problem.label).collect();
        assert_eq!(told, [4, 5, 10]);
        assert!(problems[2].problem.starts_with("row: expected 0 to 1023"), "{problems:?}");
    }

    #[test]
    fn what_waited_is_joined_when_its_answer_comes_and_what_is_no_answer_is_counted() {
        let mut book = book();
        let come = vec![
            (0, LabelValue::Number(0.0), 400),
            (1, LabelValue::Number(0.0), 400),
            (9, LabelValue::Number(0.0), 400),
        ];
        let mut join = Join::default();
        join.answered(&book, prediction(1, 500), come);
        assert_eq!((join.came.joined, join.came.refused), (1, 2));
        assert_eq!(join.changes.come.len(), 3);
        let truths = [(0, LabelValue::Number(0.0)), (1, LabelValue::Number(0.0))];
        assert_eq!(join.changes.predictions[0].truths, truths);
        assert!(book.cells.is_empty(), "nothing counts before it is stored");
        join.done(&mut book);
        let sums = book.cells.values().next().unwrap();
        let figures = sums.figures(crate::analysis::Level::QUALITY);
        assert_eq!((figures.rows, figures.unusable, figures.labelled_rows), (1, 1, 1));
        assert_eq!(figures.accuracy.unwrap().count, 0);
    }
}
