//! A profile for people.

use crate::cli::figures::{NONE, count_and_rate};
use crate::cli::table::Sheet;
use crate::types::{Bins, Feature, Profile};

/// The most values that are listed.
const LISTED_MAX: usize = 5;

/// A line for each column.
pub(super) fn render(profile: &Profile) -> String {
    let mut sheet = Sheet::new(&["", "column", "kind", "bins", "missing", "range"]);
    for (side, features) in [("input", &profile.inputs), ("output", &profile.outputs)] {
        for feature in features {
            let (kind, range) = kind_and_range(feature);
            let missing = feature.counts.missing.saturating_add(feature.counts.nan);
            sheet.row([
                side.to_owned(),
                feature.name.clone(),
                kind.to_owned(),
                feature.bins.len().to_string(),
                count_and_rate(missing, profile.rows),
                range,
            ]);
        }
    }
    let (rows, source) = (profile.rows, &profile.source);
    let word = if rows == 1 { "row" } else { "rows" };
    format!("{}: {rows} {word} of {source}\n\n{}", profile.model, sheet.render())
}

fn kind_and_range(feature: &Feature) -> (&'static str, String) {
    match &feature.bins {
        Bins::Bounds(bounds) => {
            let range = match (bounds.first(), bounds.last()) {
                (Some(low), Some(high)) => format!("{} to {}", short(*low), short(*high)),
                _ => NONE.to_owned(),
            };
            ("numbers", range)
        }
        Bins::Integers(values) => ("whole numbers", listed(values)),
        Bins::Texts(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| short_text(text)).collect();
            ("texts", if texts.is_empty() { NONE.to_owned() } else { listed(&texts) })
        }
    }
}

fn listed<T: std::fmt::Display>(values: &[T]) -> String {
    let shown: Vec<_> = values.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    let last = values.last().filter(|_| values.len() > LISTED_MAX);
    let rest = last.map_or_else(String::new, |last| format!(", … {last}"));
    shown.join(", ") + &rest
}

fn short_text(text: &str) -> String {
    const CHARS_MAX: usize = 20;
    let shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

/// Some digits, and an exponent where there would be many zeros.
fn short(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Counts, Digest, ModelName};

    #[test]
    fn each_column_has_a_line() {
        let feature = |name: &str, bins: Bins, counts: Counts| Feature {
            name: name.into(),
            tensor: "x".into(),
            column: 0,
            bins,
            counts,
        };
        let counted = |bins: &[u64]| Counts { bins: bins.to_vec(), ..Counts::default() };
        let missing = Counts { nan: 1, ..counted(&[3, 6]) };
        let months = Bins::Integers(vec![1, 2, 3, 6, 12, 24]);
        let profile = Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("churn").unwrap(),
            artifact: Digest::new([0; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 10,
            inputs: vec![
                feature("age", Bins::Bounds(vec![18.0, 40.25, 8e7]), missing),
                feature("months", months, counted(&[5, 1, 1, 1, 1, 1])),
                feature("plan", Bins::Texts(vec!["basic".into()]), counted(&[10])),
                feature("empty", Bins::Bounds(vec![]), Counts { nan: 10, ..Counts::default() }),
            ],
            missing_together: None,
            outputs: vec![feature("p", Bins::Bounds(vec![0.0002, 0.5]), counted(&[10]))],
        };
        profile.check().unwrap();
        let expected = "\
churn: 10 rows of train.csv

         COLUMN  KIND           BINS  MISSING      RANGE
 input   age     numbers        2     1 (10.0 %)   18 to 8.000e7
 input   months  whole numbers  6     0            1, 2, 3, 6, 12, … 24
 input   plan    texts          1     0            basic
 input   empty   numbers        0     10 (100 %)   -
 output  p       numbers        1     0            2.000e-4 to 0.5";
        let squeezed = |text: &str| {
            let lines = text.lines();
            lines
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&render(&profile)), squeezed(expected));
    }
}
