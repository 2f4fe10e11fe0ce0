//! Which inputs had no value together.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::types::Feature;

/// The inputs that are looked at, from the first on.
pub(super) const LOOKED_AT_MAX: usize = 64;
/// The most combinations that a profile names.
const NAMED_MAX: usize = 64;
/// The most that are told apart while rows come.
const KNOWN_MAX: usize = 4096;

/// Combinations of inputs without a value (missing, or NaN), of the first 64 inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Together {
    /// The most frequent first.
    pub combinations: Vec<Combination>,
    /// Rows of combinations that are not named.
    #[serde(default)]
    pub other: u64,
}

/// Rows in which these inputs, and no others, had no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// Their names, in the profile's order; none for complete rows.
    pub without: Vec<String>,
    /// How many rows.
    pub rows: u64,
}

impl Together {
    /// Each combination with its rows, as bits: the lowest is the first input.
    pub(super) fn masks(&self, inputs: &[Feature]) -> Vec<(u64, u64)> {
        let bit = |name: &String| {
            let at = inputs.iter().take(LOOKED_AT_MAX).position(|input| input.name == *name);
            at.map_or(0, |at| 1_u64 << at)
        };
        let mask = |one: &Combination| one.without.iter().map(bit).fold(0, |mask, bit| mask | bit);
        self.combinations.iter().map(|one| (mask(one), one.rows)).collect()
    }

    pub(super) fn check(&self, rows: u64, inputs: &[Feature]) -> Result<(), String> {
        if self.combinations.len() > NAMED_MAX {
            let got = self.combinations.len();
            return Err(format!("expected at most {NAMED_MAX} combinations, got {got}"));
        }
        let known = |name: &String| inputs.iter().take(LOOKED_AT_MAX).any(|i| i.name == *name);
        let mut names = self.combinations.iter().flat_map(|one| &one.without);
        if let Some(stranger) = names.find(|name| !known(name)) {
            return Err(format!("{stranger:?} is none of the first {LOOKED_AT_MAX} inputs"));
        }
        let mut masks: Vec<_> = self.masks(inputs).into_iter().map(|(mask, _)| mask).collect();
        masks.sort_unstable();
        if masks.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a combination is there twice".to_owned());
        }
        let counted = self.combinations.iter().map(|one| one.rows);
        let counted = counted.fold(self.other, u64::saturating_add);
        if counted != rows {
            return Err(format!("its counts are of {counted} rows, not {rows}"));
        }
        Ok(())
    }
}

/// Combinations, as they come.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    known: HashMap<u64, u64>,
    other: u64,
}

impl Gathered {
    /// A row in which the inputs of these bits had no value.
    pub(super) fn add(&mut self, mask: u64) {
        let room = self.known.len() < KNOWN_MAX;
        match self.known.get_mut(&mask) {
            Some(rows) => *rows += 1,
            None if room => drop(self.known.insert(mask, 1)),
            None => self.other += 1,
        }
    }

    pub(super) fn finish(self, inputs: &[Feature]) -> Together {
        let mut known: Vec<_> = self.known.into_iter().collect();
        known.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let rest = known.split_off(known.len().min(NAMED_MAX));
        let other = rest.iter().fold(self.other, |sum, (_, rows)| sum + rows);
        let names = |mask: u64| {
            let inputs = inputs.iter().take(LOOKED_AT_MAX).enumerate();
            let without = inputs.filter(|(at, _)| mask >> at & 1 == 1);
            without.map(|(_, input)| input.name.clone()).collect()
        };
        let combination = |(mask, rows)| Combination { without: names(mask), rows };
        Together { combinations: known.into_iter().map(combination).collect(), other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Bins, Counts};

    fn inputs(names: &[&str]) -> Vec<Feature> {
        let feature = |name: &&str| Feature {
            name: (*name).to_owned(),
            tensor: (*name).to_owned(),
            column: 0,
            bins: Bins::Integers(vec![]),
            counts: Counts::default(),
        };
        names.iter().map(feature).collect()
    }

    #[test]
    fn combinations_are_named_and_read_back() {
        let inputs = inputs(&["age", "plan", "income"]);
        let mut gathered = Gathered::default();
        [0, 0, 0, 0b101, 0b101, 0b10].into_iter().for_each(|mask| gathered.add(mask));
        let together = gathered.finish(&inputs);
        let json = serde_json::to_string(&together).unwrap();
        let expected = r#"{"combinations":[{"without":[],"rows":3},{"without":["age","income"],"rows":2},{"without":["plan"],"rows":1}],"other":0}"#;
        assert_eq!(json, expected);
        assert_eq!(together.masks(&inputs), [(0, 3), (0b101, 2), (0b10, 1)]);
        together.check(6, &inputs).unwrap();
    }

    #[test]
    fn of_too_many_combinations_the_rarest_are_other() {
        let names: Vec<_> = (0..70).map(|i| format!("c{i}")).collect();
        let inputs = inputs(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut gathered = Gathered::default();
        for mask in 0..5000 {
            gathered.add(mask);
        }
        gathered.add(7);
        let together = gathered.finish(&inputs);
        assert_eq!((together.combinations.len(), together.other), (64, 5001 - 65));
        assert_eq!(together.combinations[0].without, ["c0", "c1", "c2"]);
        together.check(5001, &inputs).unwrap();
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let inputs = inputs(&["age"]);
        let one = |name: &str| Combination { without: vec![name.to_owned()], rows: 2 };
        let of = |combinations| Together { combinations, other: 1 };
        let cases = [
            (of(vec![one("age")]), "its counts are of 3 rows, not 6"),
            (of(vec![one("plan")]), "\"plan\" is none of the first 64 inputs"),
            (of(vec![one("age"), one("age")]), "a combination is there twice"),
            (of(vec![one("age"); 65]), "expected at most 64 combinations, got 65"),
        ];
        for (together, expected) in cases {
            assert_eq!(together.check(6, &inputs).unwrap_err(), expected);
        }
    }
}
