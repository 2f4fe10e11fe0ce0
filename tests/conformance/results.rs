//! The committed results, and what changed against them.
//!
//! The file lists what does not pass; everything else must. It starts with the
//! number of cases, so that none gets lost.

use std::collections::BTreeMap;
use std::fmt;

use crate::child::Outcomes;
use crate::outcome::{Outcome, Status};

/// The outcomes of a run.
pub(crate) struct Results {
    pub(crate) cases: BTreeMap<String, Outcomes>,
}

/// What the file says.
struct Recorded {
    count: usize,
    not_passed: BTreeMap<String, Outcome>,
}

/// One difference from the committed results.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A case that passed and does not, or that crashes and did not.
    Fall { name: String, was: Status, now: Outcome },
    /// Fewer cases than recorded.
    Fewer { recorded: usize, now: usize },
    /// A case that passes and did not.
    Rise { name: String, was: Status },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fall { name, was, now } => {
                write!(
                    f,
                    "FALL {name}: was {}, is {}: {}",
                    was.as_str(),
                    now.status.as_str(),
                    now.reason
                )
            }
            Self::Fewer { recorded, now } => {
                write!(f, "FALL of the number of cases: {recorded} are recorded, {now} were found")
            }
            Self::Rise { name, was } => write!(f, "rise {name}: was {}, passes", was.as_str()),
        }
    }
}

impl Results {
    pub(crate) fn new(cases: BTreeMap<String, Outcomes>) -> Self {
        Self { cases }
    }

    /// How many cases have this status, with the gateway and with tract alone.
    pub(crate) fn count(&self, status: Status) -> (usize, usize) {
        self.count_of("", status)
    }

    /// The same, of the cases whose names start with `prefix`.
    pub(crate) fn count_of(&self, prefix: &str, status: Status) -> (usize, usize) {
        let cases = || self.cases.iter().filter(|(name, _)| name.starts_with(prefix));
        let gateway = cases().filter(|(_, case)| case.gateway.status == status).count();
        (gateway, cases().filter(|(_, case)| case.tract.status == status).count())
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let (gateway, tract) = self.count(Status::Passed);
        format!("{gateway} of {} cases pass (tract alone: {tract})", self.cases.len())
    }

    /// Every case, in one line each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.cases
            .iter()
            .map(|(name, case)| format!("{name}\t{}\t[tract: {}]", case.gateway, case.tract))
    }

    /// The cases that do not pass.
    pub(crate) fn not_passed(&self) -> impl Iterator<Item = (&String, &Outcome)> {
        let cases = self.cases.iter().map(|(name, case)| (name, &case.gateway));
        cases.filter(|(_, outcome)| outcome.status != Status::Passed)
    }

    /// The file to commit.
    pub(crate) fn render(&self, title: &str) -> String {
        let mut text = format!(
            "# {title}: what does not pass. tests/conformance/run writes this with --record.\ncases\t{}\n",
            self.cases.len()
        );
        for (name, outcome) in self.not_passed() {
            text.push_str(&format!("{name}\t{outcome}\n"));
        }
        text
    }

    /// Differences from the committed file's text.
    pub(crate) fn changes(&self, text: &str) -> Result<Vec<Change>, String> {
        let recorded = Recorded::parse(text)?;
        let mut changes = Vec::new();
        if self.cases.len() < recorded.count {
            changes.push(Change::Fewer { recorded: recorded.count, now: self.cases.len() });
        }
        for (name, case) in &self.cases {
            let was = recorded.not_passed.get(name).map_or(Status::Passed, |o| o.status);
            let now = case.gateway.clone();
            let name = name.clone();
            match (was, now.status) {
                (Status::Passed, Status::Passed) => {}
                (_, Status::Passed) => changes.push(Change::Rise { name, was }),
                (Status::Passed, _) => changes.push(Change::Fall { name, was, now }),
                (was, Status::Crashed) if was != Status::Crashed => {
                    changes.push(Change::Fall { name, was, now });
                }
                _ => {}
            }
        }
        Ok(changes)
    }
}

impl Recorded {
    fn parse(text: &str) -> Result<Self, String> {
        let mut recorded = Self { count: 0, not_passed: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let wrong = || format!("{line:?} is no line of a results file");
            let (name, rest) = line.split_once('\t').ok_or_else(wrong)?;
            if name == "cases" {
                recorded.count = rest.parse().map_err(|_| wrong())?;
            } else {
                recorded.not_passed.insert(name.to_owned(), rest.parse()?);
            }
        }
        Ok(recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(cases: &[(&str, Status)]) -> Results {
        let case = |&(name, status): &(&str, Status)| {
            let gateway = Outcome::new(status, if status == Status::Passed { "" } else { "why" });
            (name.to_owned(), Outcomes { gateway, tract: Outcome::passed() })
        };
        Results::new(cases.iter().map(case).collect())
    }

    #[test]
    fn only_falls_and_rises_are_changes() {
        use Status::{Crashed, Failed, NotMade, Passed, Unsupported};
        let before = results(&[("a", Passed), ("b", Failed), ("c", Unsupported), ("d", Crashed)]);
        let text = before.render("T");
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["cases\t4", "b\tfailed\twhy", "c\tunsupported\twhy", "d\tcrashed\twhy"]
        );
        assert_eq!(before.changes(&text), Ok(vec![]));
        let after = [("a", NotMade), ("b", Unsupported), ("c", Crashed), ("d", Passed)];
        let names = |changes: &[Change]| changes.iter().map(|c| c.to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(&results(&after).changes(&text).unwrap()),
            [
                "FALL a: was passed, is not-made: why",
                "FALL c: was unsupported, is crashed: why",
                "rise d: was crashed, passes"
            ]
        );
    }

    #[test]
    fn a_new_case_must_pass_and_none_may_vanish() {
        let text = results(&[("a", Status::Passed), ("b", Status::Passed)]).render("T");
        let after = results(&[("c", Status::Failed)]);
        let changes = after.changes(&text).unwrap();
        assert_eq!(changes[0], Change::Fewer { recorded: 2, now: 1 });
        assert!(matches!(&changes[1], Change::Fall { name, .. } if name == "c"));
        assert!(after.changes("nonsense").is_err());
    }
}
