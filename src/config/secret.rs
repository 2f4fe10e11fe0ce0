//! The admin token.

use std::fmt;
use std::path::Path;

use super::raw;

/// The fewest characters of a token.
pub const TOKEN_CHARS_MIN: usize = 16;
/// The most; a header line must hold it.
const TOKEN_CHARS_MAX: usize = 4096;

/// What callers of the admin API must show. Neither `Debug` nor an error
/// tells it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token of 16 to 4096 printable ASCII characters without blanks, which
    /// is what a header can carry unchanged; `None` for anything else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let length = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len());
        (length && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// Reads a token file; blanks and line ends around the token are dropped.
    /// The error says what is wrong with the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = raw::read_bounded(file)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        Self::new(text.trim()).ok_or_else(|| {
            format!(
                "{}: expected one line of at least {TOKEN_CHARS_MIN} printable ASCII characters \
                 without blanks",
                file.display()
            )
        })
    }

    /// The token itself, for comparing and sending.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_and_is_not_shown() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert_eq!(token.reveal(), "0123456789abcdef");
        assert_eq!(format!("{token:?}"), "Token(not shown)");
        for bad in
            ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\n", "ü123456789abcdef"]
        {
            assert_eq!(Token::new(bad), None, "{bad:?}");
        }
    }
}
