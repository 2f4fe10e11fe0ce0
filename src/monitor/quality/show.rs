//! Sums to what is shown. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::analysis::{FairnessAlert, FairnessMeasure, Figures, Level, Quality, disparity};
use crate::monitor::quality::book::{ALL, Book, Cell};
use crate::monitor::quality::view::{GroupView, GroupingView, QualityView, VersionQuality};
use crate::monitor::quality::who::Who;
use crate::telemetry::{Metrics, QualityFigure, QualityStanding, Watch, WrongRate};
use crate::types::{ModelName, Share, VersionId};

/// Days that the gauges are over.
const SHOWN_DAYS: u32 = 7;
/// Rows that a group's rate must be of to be compared with others'.
const GROUP_ROWS_MIN: u64 = 100;
/// The class whose selection is compared: the second of two.
const POSITIVE: u16 = 1;

/// Sums of a version in a role.
#[derive(Default)]
struct Sums {
    classes: Vec<String>,
    all: Quality,
    /// By grouping and group.
    groups: BTreeMap<(String, String), Quality>,
}

/// A model's quality over the last days.
pub(super) fn view(
    book: &Book,
    model: &ModelName,
    today: i64,
    days: u32,
    problem: Option<String>,
) -> QualityView {
    let versions = sums(book, today, days, true, |who| who.model == *model);
    let versions = versions.into_iter().map(|((_, version, role), sums)| VersionQuality {
        version,
        role,
        figures: sums.all.figures(Level::QUALITY),
        groupings: groupings(&sums.groups, sums.classes.len()),
        classes: sums.classes,
    });
    QualityView {
        model: model.clone(),
        days,
        problem,
        labels_waiting: u64::try_from(book.waiting_count).unwrap_or(u64::MAX),
        versions: versions.collect(),
    }
}

type Key = (ModelName, VersionId, String);

/// Sums by version and role, of all rows or by group as well. What a number answered as
/// another content, or with other classes or groups in `model.toml`, is not added to what
/// it does now.
fn sums(
    book: &Book,
    today: i64,
    days: u32,
    by_group: bool,
    of: impl Fn(&Who) -> bool,
) -> BTreeMap<Key, Sums> {
    let first = today.saturating_sub(i64::from(days.max(1)) - 1);
    let newest = newest(book, first);
    let mut found: BTreeMap<Key, Sums> = BTreeMap::new();
    let cells = book.cells.iter().filter(|(cell, _)| cell.day >= first);
    for (cell, quality) in cells.filter(|(cell, _)| by_group || cell.grouping == ALL) {
        let Some(who) = book.who.get(&cell.answerer).filter(|who| of(who)) else { continue };
        let key = (who.model.clone(), who.version, who.role.clone());
        let present = newest.get(&(&who.model, who.version)).map(|(_, present)| *present);
        if present.is_none_or(|present| !present.is_like(who)) {
            continue;
        }
        let sums = found.entry(key).or_default();
        sums.classes.clone_from(&who.labels.classes);
        match names(who, cell) {
            None => sums.all.merge(quality),
            Some(names) => sums.groups.entry(names).or_default().merge(quality),
        }
    }
    found
}

/// A day, and the number of who answered then.
type When = (i64, i64);

/// Who answered last for each version, to the day: an answerer that comes again has the number
/// that it had.
fn newest(book: &Book, first: i64) -> HashMap<(&ModelName, VersionId), (When, &Who)> {
    let mut newest = HashMap::new();
    for cell in book.cells.keys().filter(|cell| cell.day >= first) {
        let Some(who) = book.who.get(&cell.answerer) else { continue };
        let when = (cell.day, cell.answerer);
        let entry = newest.entry((&who.model, who.version)).or_insert((when, who));
        if entry.0 < when {
            *entry = (when, who);
        }
    }
    newest
}

/// Names of a cell's grouping and group; `None` for all rows.
fn names(who: &Who, cell: &Cell) -> Option<(String, String)> {
    if cell.grouping == ALL {
        return None;
    }
    let grouping = who.labels.groupings.get(usize::try_from(cell.grouping).ok()?)?;
    let group = grouping.group_name(u8::try_from(cell.member).ok()?);
    Some((grouping.name.clone(), group.to_owned()))
}

/// How the versions that are loaded stand, for alerts: of those whose owner says how many
/// answers may be wrong, or which groups there are.
pub(super) fn standing(book: &Book, metrics: &Metrics, today: i64) -> Vec<QualityStanding> {
    let loaded = metrics.watches().all();
    // What counts is what the owner says now, not what was said when it answered.
    let mut wanted: BTreeMap<ModelName, Option<Share>> = BTreeMap::new();
    for watch in &loaded {
        let settings = metrics.label_settings(watch.model());
        let asked = settings.filter(|own| own.wrong_max.is_some() || !own.groupings.is_empty());
        wanted.extend(asked.map(|own| (watch.model().clone(), own.wrong_max)));
    }
    let is_asked = |who: &Who| {
        let is_own =
            |watch: &Arc<Watch>| watch.version() == who.version && watch.digest() == who.digest;
        wanted.contains_key(&who.model)
            && loaded.iter().any(|watch| watch.model() == &who.model && is_own(watch))
    };
    // What it answered as champion and as canary, together.
    let mut versions: BTreeMap<(ModelName, VersionId), Sums> = BTreeMap::new();
    for ((model, version, _), sums) in sums(book, today, SHOWN_DAYS, true, is_asked) {
        let own = versions.entry((model, version)).or_default();
        own.all.merge(&sums.all);
        for (names, quality) in &sums.groups {
            own.groups.entry(names.clone()).or_default().merge(quality);
        }
        own.classes = sums.classes;
    }
    let standing = versions.into_iter().map(|((model, version), sums)| {
        let max = wanted.get(&model).copied().flatten();
        let wrong = max.and_then(|max| wrong_rate(&sums.all, max));
        QualityStanding { model, version, wrong, unequal: unequal(&sums) }
    });
    standing.collect()
}

/// `None` where too few rows have a label.
fn wrong_rate(all: &Quality, max: Share) -> Option<WrongRate> {
    let right = all.accuracy(Level::QUALITY).filter(|right| right.of >= GROUP_ROWS_MIN)?;
    Some(WrongRate { value: 1.0 - right.value, at_least: 1.0 - right.upper, max, rows: right.of })
}

/// What is unequal, in words; `None` where no grouping can be compared.
fn unequal(sums: &Sums) -> Option<Vec<String>> {
    let mut told: Option<Vec<String>> = None;
    for (grouping, members) in by_grouping(&sums.groups) {
        let most = members.iter().map(|(_, quality)| quality.classes()).max().unwrap_or(0);
        if !is_binary(sums.classes.len(), most.into()) {
            continue;
        }
        let disparity = disparity(&members, POSITIVE, GROUP_ROWS_MIN, Level::QUALITY);
        let alerts = disparity.alerts.iter().map(|alert| {
            let FairnessAlert { measure, higher, lower, bound, margin } = alert;
            let most = match measure {
                FairnessMeasure::DemographicParityRatio => "at most",
                _ => "at least",
            };
            let measure = measure.as_str();
            format!(
                "{grouping}: {measure}: {higher} above {lower}; {most} {bound:.3}, margin {margin}"
            )
        });
        told.get_or_insert_default().extend(alerts);
    }
    told
}

/// Groups of each grouping.
fn by_grouping(
    groups: &BTreeMap<(String, String), Quality>,
) -> BTreeMap<&str, Vec<(&str, &Quality)>> {
    let mut shown: BTreeMap<&str, Vec<(&str, &Quality)>> = BTreeMap::new();
    for ((grouping, group), quality) in groups {
        shown.entry(grouping).or_default().push((group, quality));
    }
    shown
}

/// Whether a model has two classes: by their names, else by what its answers show.
const fn is_binary(named: usize, shown: usize) -> bool {
    named == 2 || named == 0 && shown == 2
}

fn groupings(groups: &BTreeMap<(String, String), Quality>, classes: usize) -> Vec<GroupingView> {
    let one = |(grouping, members): (&str, Vec<(&str, &Quality)>)| {
        let groups: Vec<_> = members
            .iter()
            .map(|(group, quality)| GroupView {
                group: (*group).to_owned(),
                figures: quality.figures(Level::QUALITY),
            })
            .collect();
        // Without names the answers tell how many classes there are.
        let most = groups.iter().map(|group| group.figures.classes.len()).max().unwrap_or(0);
        let disparity = is_binary(classes, most)
            .then(|| disparity(&members, POSITIVE, GROUP_ROWS_MIN, Level::QUALITY));
        GroupingView { grouping: grouping.to_owned(), groups, disparity }
    };
    by_grouping(groups).into_iter().map(one).collect()
}

/// Sets the gauges of the versions that are loaded; whose models' were set.
pub(super) fn show(book: &Book, metrics: &Metrics, today: i64) -> BTreeSet<ModelName> {
    let loaded: Vec<_> = metrics.watches().all();
    let is_loaded = |who: &Who| {
        loaded.iter().any(|watch| watch.model() == &who.model && watch.version() == who.version)
    };
    let mut shown: BTreeMap<ModelName, Vec<QualityFigure>> = BTreeMap::new();
    for ((model, version, role), sums) in sums(book, today, SHOWN_DAYS, false, is_loaded) {
        let figures = sums.all.figures(Level::QUALITY);
        let of = |(figure, value)| QualityFigure {
            version: version.to_string(),
            role: role.clone(),
            figure,
            value,
        };
        shown.entry(model).or_default().extend(gauges(&figures).into_iter().map(of));
    }
    for (model, figures) in &shown {
        metrics.set_quality(model, figures);
    }
    shown.into_keys().collect()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn gauges(figures: &Figures) -> Vec<(&'static str, f64)> {
    let positive = figures.positive.as_ref();
    let value = |proportion: &crate::analysis::Proportion| proportion.value;
    let errors = figures.errors.as_ref();
    let all = [
        ("rows", Some(figures.rows as f64)),
        ("labelled_rows", Some(figures.labelled_rows as f64)),
        ("accuracy", figures.accuracy.as_ref().map(value)),
        ("precision", positive.and_then(|class| class.precision.as_ref().map(value))),
        ("recall", positive.and_then(|class| class.recall.as_ref().map(value))),
        ("f1", positive.map_or(figures.macro_f1, |class| class.f1)),
        ("auc", figures.auc.as_ref().map(|auc| auc.value)),
        ("log_loss", figures.log_loss),
        ("brier", figures.brier),
        ("calibration_error", figures.calibration_error),
        ("mae", errors.map(|errors| errors.mae.value)),
        ("rmse", errors.map(|errors| errors.rmse)),
        ("bias", errors.map(|errors| errors.bias.value)),
        ("estimated_accuracy", figures.estimate.as_ref().map(|estimate| estimate.accuracy)),
    ];
    all.into_iter().filter_map(|(figure, value)| Some((figure, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, LabelSettings, RowAnswer};

    fn who(classes: &[&str]) -> Who {
        Who {
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(1).unwrap(),
            digest: Digest::new([1; 32]),
            role: "champion".into(),
            split: None,
            labels: LabelSettings {
                keep: Share::ALL,
                classes: classes.iter().map(|class| (*class).to_owned()).collect(),
                wrong_beyond: None,
                wrong_max: None,
                groupings: vec![],
            },
        }
    }

    /// One row that `answerer` answered on `day`.
    fn add(book: &mut Book, answerer: i64, day: i64) {
        let cell = Cell { answerer, grouping: ALL, member: 0, day };
        let sums = book.cells.entry(cell).or_default();
        sums.predicted(&RowAnswer::Class { class: 0, scores: vec![] });
    }

    #[test]
    fn settings_that_were_taken_back_count_no_more() {
        let mut book = Book::default();
        book.who.insert(1, who(&["no", "yes"]));
        book.who.insert(2, who(&["no", "yse"]));
        let rows = |book: &Book| {
            let view = view(book, &ModelName::new("m").unwrap(), 10, 7, None);
            let [version] = &view.versions[..] else { panic!("{view:?}") };
            (version.classes[1].clone(), version.figures.rows)
        };
        add(&mut book, 1, 7);
        add(&mut book, 2, 8);
        assert_eq!(rows(&book), ("yse".to_owned(), 1));
        // The first one answers again, under its number.
        add(&mut book, 1, 9);
        assert_eq!(rows(&book), ("yes".to_owned(), 2));
    }
}
