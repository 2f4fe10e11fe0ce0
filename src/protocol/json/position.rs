//! Where in a body something is, in words; and what is wrong with its grammar.

use std::fmt;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A place in a body, shown as `line 1 column 20`, both from 1; columns count
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct At {
    line: usize,
    column: usize,
}

impl At {
    /// The place of the byte at `offset`.
    pub(in crate::protocol) fn offset(body: &str, offset: usize) -> Self {
        let before = &body.as_bytes()[..offset.min(body.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
        Self { line, column: before.len() - start + 1 }
    }

    /// The offset of a place that serde_json named.
    fn to_offset(self, body: &str) -> usize {
        let mut start = 0;
        for _ in 1..self.line {
            let newline = body.as_bytes()[start..].iter().position(|b| *b == b'\n');
            start += newline.map_or(0, |at| at + 1);
        }
        (start + self.column).saturating_sub(1).min(body.len())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// Reads a body's envelope.
pub(in crate::protocol) fn parse<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| malformed(body, &error))
}

/// Reads a value inside a body.
pub(in crate::protocol) fn parse_part<'a, T: Deserialize<'a>>(
    body: &'a str,
    value: &'a str,
) -> Result<T> {
    serde_json::from_str(value).map_err(|error| {
        let inner = At { line: error.line().max(1), column: error.column().max(1) };
        let start = (value.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        let at = At::offset(body, start.saturating_add(inner.to_offset(value)));
        Error::invalid(format!("wrong JSON at {at}: {}", without_place(&error)))
    })
}

/// What is wrong, without serde_json's own idea of where.
fn without_place(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// The body as text.
pub(in crate::protocol) fn utf8(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|error| {
        let valid = &body[..error.valid_up_to()];
        let at = At::offset(std::str::from_utf8(valid).unwrap_or_default(), valid.len());
        Error::invalid(format!("malformed JSON: not UTF-8 at {at}"))
    })
}

/// What a number that JSON does not have is called, if there is one here.
fn no_such_number(body: &str, offset: usize) -> Option<(&'static str, usize)> {
    let bytes = body.as_bytes();
    let rest = bytes.get(offset..)?;
    let minus = offset.checked_sub(1).filter(|at| bytes.get(*at) == Some(&b'-'));
    match rest {
        [b'N', b'a', b'N', ..] => Some(("NaN", offset)),
        [b'I', b'n', b'f', ..] if minus.is_some() => Some(("-Infinity", offset - 1)),
        [b'I', b'n', b'f', ..] => Some(("Infinity", offset)),
        _ => None,
    }
}

/// The error for a body that serde_json refused.
fn malformed(body: &str, error: &serde_json::Error) -> Error {
    if body.trim_ascii().is_empty() {
        return Error::invalid("the body is empty; expected a JSON object");
    }
    let at = At { line: error.line().max(1), column: error.column().max(1) };
    let what = without_place(error);
    if error.is_data() {
        return Error::invalid(format!("wrong JSON at {at}: {what}"));
    }
    match no_such_number(body, at.to_offset(body)) {
        Some((name, offset)) => {
            Error::invalid(format!("JSON has no {name}; {}", At::offset(body, offset)))
        }
        None => Error::invalid(format!("malformed JSON at {at}: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Object;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "the body is empty; expected a JSON object"),
            (b" \n", "the body is empty; expected a JSON object"),
            (br#"{"a":[1.0,NaN]}"#, "JSON has no NaN; line 1 column 11"),
            (b"{\"a\":\n [-Infinity]}", "JSON has no -Infinity; line 2 column 3"),
            (br#"{"a":Infinity}"#, "JSON has no Infinity; line 1 column 6"),
            (br#"{"a":[1,]}"#, "malformed JSON at line 1 column 9: expected value"),
            (br#"{"a":[1 2]}"#, "malformed JSON at line 1 column 9: expected `,` or `]`"),
            (br#"{"a":1"#, "malformed JSON at line 1 column 6: EOF while parsing an object"),
            (br#"{"a":01}"#, "malformed JSON at line 1 column 7: invalid number"),
            (br#"{"a":1}x"#, "malformed JSON at line 1 column 8: trailing characters"),
            (b"{\"a\":\"\xff\"}", "malformed JSON: not UTF-8 at line 1 column 7"),
            (b"[1]", "wrong JSON at line 1 column 1: invalid type: sequence, expected an object"),
        ];
        for (body, expected) in cases {
            let error = utf8(body).and_then(parse::<Object<'_>>).unwrap_err();
            assert_eq!(error.message(), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
