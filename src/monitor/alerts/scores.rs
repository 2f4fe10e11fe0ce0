//! Which of a champion's answers are watched, and how many there were. Pure.

use std::sync::Arc;

use crate::types::{Bins, Feature, PlaceOf, Profile, Share, VersionId};

/// The most groups of answers of a model that are watched, the first of the profile.
pub(super) const GROUPS_MAX: usize = 64;

/// What a champion has answered so far.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) version: VersionId,
    /// The canary beside it, and its share.
    pub(super) split: Option<(VersionId, Share)>,
    /// The bins,
    pub(super) profile: Arc<Profile>,
    /// and what is in them, by the profile's outputs and places.
    pub(super) counts: Vec<Vec<u64>>,
}

/// Answers of one column that count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Which of the profile's outputs it is.
    output: usize,
    /// Places of [`crate::types::Counts::by_place`].
    places: Vec<usize>,
    /// In words.
    pub(super) name: String,
}

impl Group {
    /// How many rows are in it, and of how many; by the profile's outputs and places.
    pub(super) fn rows(&self, counts: &[Vec<u64>]) -> (u64, u64) {
        let Some(column) = counts.get(self.output) else { return (0, 0) };
        let own = self.places.iter().filter_map(|place| column.get(*place));
        (own.sum(), column.iter().sum())
    }
}

/// The groups of a profile's outputs: of numbers in ranges those at either end, beyond
/// the ends, and NaN; of values each, and those without a bin.
pub(super) fn groups(profile: &Profile) -> Vec<Group> {
    let all = profile.outputs.iter().enumerate();
    all.flat_map(|(output, feature)| of_column(output, feature)).take(GROUPS_MAX).collect()
}

fn of_column(output: usize, feature: &Feature) -> Vec<Group> {
    let group = |places: &[PlaceOf], what: &str| Group {
        output,
        places: places.iter().map(|place| place.0).collect(),
        name: format!("{} {what}", feature.name),
    };
    let values: Vec<String> = match &feature.bins {
        Bins::Bounds(bounds) => {
            let last = bounds.len().saturating_sub(2);
            // Of one bin alone it is at neither end.
            let end = |beyond: PlaceOf, bin: usize| match last {
                0 => vec![beyond],
                _ => vec![beyond, PlaceOf::bin(bin)],
            };
            return vec![
                group(&end(PlaceOf::BELOW, 0), "at its lowest"),
                group(&end(PlaceOf::ABOVE, last), "at its highest"),
                group(&[PlaceOf::NAN], "is NaN"),
            ];
        }
        Bins::Integers(values) => values.iter().map(ToString::to_string).collect(),
        Bins::Texts(texts) => texts.iter().map(|text| format!("{text:?}")).collect(),
    };
    let each = values.iter().enumerate();
    let mut groups: Vec<_> =
        each.map(|(bin, value)| group(&[PlaceOf::bin(bin)], &format!("= {value}"))).collect();
    groups.push(group(&[PlaceOf::OTHER, PlaceOf::MISSING], "is another"));
    groups
}

/// Whether the counts go on from others: each place has as many, or more.
pub(super) fn go_on(before: &[Vec<u64>], now: &[Vec<u64>]) -> bool {
    let pairs = before.iter().flatten().zip(now.iter().flatten());
    before.len() == now.len() && pairs.into_iter().all(|(before, now)| before <= now)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{Counts, Digest, ModelName};

    pub(in crate::monitor::alerts) fn profile(outputs: Vec<Bins>) -> Profile {
        let feature = |(i, bins): (usize, Bins)| Feature {
            name: format!("y{i}"),
            tensor: "y".into(),
            column: i,
            counts: Counts { bins: vec![0; bins.len()], ..Counts::default() },
            bins,
        };
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([0; 32]),
            source: String::new(),
            created: String::new(),
            rows: 0,
            inputs: vec![],
            outputs: outputs.into_iter().enumerate().map(feature).collect(),
            missing_together: None,
        }
    }

    #[test]
    fn numbers_have_ends_and_values_are_each_by_themselves() {
        let bins = vec![
            Bins::Bounds(vec![0.0, 0.2, 0.8, 1.0]),
            Bins::Integers(vec![0, 1]),
            Bins::Texts(vec!["no".into()]),
            Bins::Bounds(vec![1.0, 1.0]),
        ];
        let counts = [
            Counts { nan: 1, below: 2, above: 4, bins: vec![8, 16, 32], ..Counts::default() },
            Counts { other: 1, bins: vec![2, 4], ..Counts::default() },
            Counts { missing: 1, other: 2, bins: vec![4], ..Counts::default() },
            Counts { below: 1, above: 2, bins: vec![4], ..Counts::default() },
        ];
        let counts: Vec<_> = counts.iter().map(Counts::by_place).collect();
        let groups = groups(&profile(bins));
        let told: Vec<_> = groups.iter().map(|g| (&*g.name, g.rows(&counts))).collect();
        assert_eq!(
            told,
            [
                ("y0 at its lowest", (10, 63)),
                ("y0 at its highest", (36, 63)),
                ("y0 is NaN", (1, 63)),
                ("y1 = 0", (2, 7)),
                ("y1 = 1", (4, 7)),
                ("y1 is another", (1, 7)),
                ("y2 = \"no\"", (4, 7)),
                ("y2 is another", (3, 7)),
                ("y3 at its lowest", (1, 7)),
                ("y3 at its highest", (2, 7)),
                ("y3 is NaN", (0, 7)),
            ]
        );
        assert_eq!(groups[0].rows(&[]), (0, 0));
    }

    #[test]
    fn there_are_not_too_many() {
        let many = vec![Bins::Bounds(vec![0.0, 1.0, 2.0]); 500];
        assert_eq!(groups(&profile(many)).len(), GROUPS_MAX);
    }

    #[test]
    fn counts_that_begin_anew_do_not_go_on() {
        let counts = |a, b| vec![vec![a, 1], vec![b]];
        assert!(go_on(&counts(1, 2), &counts(1, 3)));
        assert!(!go_on(&counts(1, 2), &counts(1, 1)));
        assert!(!go_on(&counts(1, 2), &[vec![5, 5]]));
    }
}
