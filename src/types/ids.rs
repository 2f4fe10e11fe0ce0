//! Names and numbers that identify things.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// The longest model name, in bytes: names become folder names and metric labels.
pub const MODEL_NAME_BYTES_MAX: usize = 128;

/// A model's name: the name of its folder in the repository.
///
/// Letters, digits, `_`, `-` and `.`, not starting with `.` (hidden) or `-` (an
/// option), at most [`MODEL_NAME_BYTES_MAX`] bytes. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// Checks and takes `name`.
    pub fn new(name: &str) -> Result<Self, Error> {
        let fits =
            !name.is_empty() && name.len() <= MODEL_NAME_BYTES_MAX && !name.starts_with(['.', '-']);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if fits && name.chars().all(plain) {
            return Ok(Self(name.into()));
        }
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "model name {name:?}: expected 1 to {MODEL_NAME_BYTES_MAX} letters, digits, \
                 '_', '-' or '.', not starting with '.' or '-'"
            ),
        ))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ModelName {
    /// Hashes and compares as its text, so that maps can be asked by `&str`.
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for ModelName {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<String> for ModelName {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        Self::new(&s)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// A version's number: the name of its folder below the model's, from 1.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct VersionId(u64);

impl TryFrom<u64> for VersionId {
    type Error = &'static str;
    fn try_from(number: u64) -> Result<Self, &'static str> {
        Self::new(number).ok_or("a version's number is at least 1")
    }
}

impl From<VersionId> for u64 {
    fn from(version: VersionId) -> Self {
        version.0
    }
}

impl VersionId {
    /// A number from 1; 0 is no version.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for VersionId {
    type Err = Error;
    /// Takes plain decimal without sign or leading zeros, so that one folder
    /// name means one version.
    fn from_str(s: &str) -> Result<Self, Error> {
        let digits = s.bytes().all(|b| b.is_ascii_digit()) && !s.starts_with('0');
        let number = digits.then(|| s.parse().ok()).flatten();
        number.and_then(Self::new).ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("version {s:?}: expected a whole number from 1, without leading zeros"),
            )
        })
    }
}

/// A SHA-256 digest: it pins the bytes of an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        self.to_string()["sha256:".len()..].to_owned()
    }

    /// The first 12 hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    /// `sha256:` and 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let parse = || {
            let hex = s.strip_prefix("sha256:").unwrap_or(s);
            if hex.len() != 64 || !hex.is_ascii() {
                return None;
            }
            let mut bytes = [0; 32];
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
            }
            Some(Self(bytes))
        };
        parse().ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("digest {s:?}: expected 64 hex digits, with or without \"sha256:\""),
            )
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a version does for a model.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers what the canary does not.
    Champion,
    /// Answers its weight's share.
    Canary,
    /// Runs on copies; nobody sees its answers.
    Shadow,
}

impl Role {
    /// The word used in metric labels, headers and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_numbers_have_one_spelling() {
        assert_eq!("3".parse::<VersionId>().unwrap().get(), 3);
        for bad in ["0", "03", "+3", "-1", "1.0", "", "x", "99999999999999999999"] {
            assert!(bad.parse::<VersionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn model_names_are_safe_as_folders_and_labels() {
        for good in ["churn", "a.b-c_1"] {
            assert_eq!(ModelName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".git", "-a", "a/b", "a b", "ü", &"x".repeat(129)] {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digests_read_back() {
        let digest = Digest::new([0xab; 32]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "abababababab");
        for bad in ["", "sha256:", "zz", &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }
}
