//! What came out of one case.

use std::fmt;
use std::str::FromStr;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    /// Every output as expected.
    Passed,
    /// An output differs, or a run gave an error.
    Failed,
    /// The model was refused, with a reason.
    Unsupported,
    /// A panic, a signal, or a limit.
    Crashed,
    /// There is no model: it could not be exported, or the reference cannot
    /// run it.
    NotMade,
}

impl Status {
    pub(crate) const ALL: [Self; 5] =
        [Self::Passed, Self::Failed, Self::Unsupported, Self::Crashed, Self::NotMade];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::Crashed => "crashed",
            Self::NotMade => "not-made",
        }
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no status"))
    }
}

/// A status with its reason; a passed case has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) reason: String,
}

/// Characters of a reason that are kept.
const REASON_MAX: usize = 160;

impl Outcome {
    pub(crate) fn passed() -> Self {
        Self { status: Status::Passed, reason: String::new() }
    }

    /// The reason becomes one short line.
    pub(crate) fn new(status: Status, reason: &str) -> Self {
        let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut reason = line.chars().take(REASON_MAX).collect::<String>();
        if reason.len() < line.len() {
            reason.push('…');
        }
        Self { status, reason }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.as_str())?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, "\t{}", self.reason) }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (status, reason) = line.split_once('\t').unwrap_or((line, ""));
        Ok(Self { status: status.parse()?, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_back() {
        let long = Outcome::new(Status::Failed, &format!("one\n  two\t{}", "x".repeat(300)));
        assert!(long.reason.starts_with("one two xxx") && long.reason.ends_with("x…"));
        for outcome in [Outcome::passed(), long] {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert!("fine".parse::<Outcome>().is_err());
    }
}
