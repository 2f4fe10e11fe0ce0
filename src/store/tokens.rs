//! Tokens: who may do what, and how it is kept.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::types::Digest;

/// How a secret begins, so that whoever finds one knows what it opens.
const PREFIX: &str = "fsh_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// The longest name.
const NAME_CHARS_MAX: usize = 64;
/// The longest that a token may be good for.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What a token lets its owner do; each one includes those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Looks at everything but tokens.
    Viewer,
    /// Changes who answers.
    Operator,
    /// Makes and revokes tokens.
    Admin,
}

impl TokenRole {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for TokenRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for TokenRole {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("role {text:?}: expected viewer, operator or admin"))
        })
    }
}

/// A token as it is kept: its secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its name, which is the actor of what is done with it.
    pub name: String,
    /// What it lets its owner do.
    pub role: TokenRole,
    /// SHA-256 of the secret.
    pub digest: Digest,
    /// By whose hand it was made.
    pub creator: String,
    /// When, RFC 3339, UTC.
    pub created: String,
    /// Until when it is good, RFC 3339, UTC; `None` is "until it is revoked".
    pub expires: Option<String>,
}

/// A new token and its secret, which is shown once and never again.
pub struct NewToken {
    /// As it is kept.
    pub row: TokenRow,
    /// What its owner shows.
    pub secret: String,
}

impl NewToken {
    /// Makes one that is good for `life`, or until it is revoked.
    ///
    /// # Errors
    /// The name is not 1 to 64 letters, digits or `.-_@`, the life is too long, or
    /// the system has no random numbers.
    pub fn make(
        name: &str,
        role: TokenRole,
        creator: &str,
        life: Option<Duration>,
        now: SystemTime,
    ) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "token name: expected 1 to {NAME_CHARS_MAX} letters, digits or .-_@, got {:?}",
                name.chars().take(NAME_CHARS_MAX).collect::<String>()
            )));
        }
        if life.is_some_and(|life| life > LIFE_MAX || life.is_zero()) {
            return Err(Error::invalid("expires: expected above nothing and up to ten years"));
        }
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::internal("no random numbers from the system").with_detail(e))?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = format!("{PREFIX}{hex}");
        let text = |time| humantime::format_rfc3339_seconds(time).to_string();
        let row = TokenRow {
            name: name.to_owned(),
            role,
            digest: secret_digest(&secret),
            creator: creator.to_owned(),
            created: text(now),
            expires: life.and_then(|life| now.checked_add(life)).map(text),
        };
        Ok(Self { row, secret })
    }
}

/// SHA-256 of what somebody shows.
#[must_use]
pub fn secret_digest(secret: &str) -> Digest {
    Digest::new(Sha256::digest(secret).into())
}

impl TokenRow {
    /// Whether it is not good any more. A time that cannot be read is over.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        let until = |text: &String| humantime::parse_rfc3339(text).ok();
        self.expires.as_ref().is_some_and(|text| until(text).is_none_or(|until| until <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_and_only_its_digest_is_kept() {
        let now = SystemTime::UNIX_EPOCH;
        let make = || NewToken::make("eve", TokenRole::Operator, "ann", None, now).unwrap();
        let (one, other) = (make(), make());
        assert_ne!(one.secret, other.secret);
        assert_eq!(one.secret.len(), PREFIX.len() + 64);
        assert_eq!(secret_digest(&one.secret), one.row.digest);
        assert!(!format!("{:?}", one.row).contains(&one.secret[PREFIX.len()..]));
    }

    #[test]
    fn it_ends_when_it_was_said_to() {
        let now = SystemTime::UNIX_EPOCH;
        let day = Duration::from_secs(86_400);
        let row = NewToken::make("eve", TokenRole::Viewer, "ann", Some(day), now).unwrap().row;
        assert!(!row.is_over(now + day - Duration::from_secs(1)));
        assert!(row.is_over(now + day));
        let forever = NewToken::make("eve", TokenRole::Viewer, "ann", None, now).unwrap().row;
        assert!(!forever.is_over(now + day * 10_000));
        assert!(TokenRow { expires: Some("soon".into()), ..forever }.is_over(now));
    }

    #[test]
    fn names_and_lives_are_bounded() {
        let make = |name: &str, life| {
            NewToken::make(name, TokenRole::Viewer, "ann", life, SystemTime::UNIX_EPOCH).map(|_| ())
        };
        for name in ["", "a b", "a\n", &"x".repeat(65)] {
            assert!(make(name, None).unwrap_err().message().starts_with("token name:"), "{name}");
        }
        assert!(make("ci@build-1.example_x", None).is_ok());
        assert!(make("eve", Some(Duration::ZERO)).is_err());
        assert!(make("eve", Some(LIFE_MAX + Duration::from_secs(1))).is_err());
        assert!(TokenRole::Viewer < TokenRole::Operator && TokenRole::Operator < TokenRole::Admin);
        assert_eq!("operator".parse::<TokenRole>().unwrap(), TokenRole::Operator);
        assert!("root".parse::<TokenRole>().is_err());
    }
}
