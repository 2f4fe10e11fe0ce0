//! A suite's title and tolerances.

use std::path::Path;

use serde::Deserialize;

/// `suite.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    /// Its name in the documents' markers.
    pub(crate) name: String,
    /// What the cases are, with the version of what made them.
    pub(crate) title: String,
    #[serde(rename = "tolerance")]
    pub(crate) rule: Rule,
}

/// When a number is right: |got − expected| ≤ absolute + relative · size.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) relative: f64,
    #[serde(default)]
    pub(crate) absolute: f64,
    /// The size is the expected number's, but at least the root mean square of
    /// its column: near zero, a number is as exact as what it was summed from.
    #[serde(default)]
    pub(crate) column_size: bool,
    /// A label may differ where the two best scores expected are equal within
    /// the tolerance, in at most one row of a hundred.
    #[serde(default)]
    pub(crate) label_ties: bool,
}

impl Suite {
    /// Reads the suite in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join("suite.toml");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The suite above a case's folder.
    pub(crate) fn above(case: &Path) -> Result<Self, String> {
        let folder = case.ancestors().find(|folder| folder.join("suite.toml").is_file());
        Self::open(folder.ok_or_else(|| format!("{}: in no suite", case.display()))?)
    }
}
