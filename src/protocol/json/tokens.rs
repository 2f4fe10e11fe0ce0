//! Splits text into its tokens, to look something up in it.
//!
//! The grammar is somebody else's matter (see [`super::Reader`]): commas and
//! colons carry no information here and are skipped like blanks. On text that is
//! no JSON the walk still ends and never panics; it only makes no promise about
//! what it finds.

use std::borrow::Cow;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Token<'a> {
    /// `[`
    ArrayOpen,
    /// `]`
    ArrayClose,
    /// `{`
    ObjectOpen,
    /// `}`
    ObjectClose,
    /// What stands between the quotes, escapes and all.
    String(&'a str),
    /// A number, `true`, `false` or `null`.
    Word(&'a str),
    /// Nothing is left.
    End,
}

impl Token<'_> {
    /// What it is, for an error message.
    pub(in crate::protocol) fn kind(&self) -> &'static str {
        match self {
            Self::ArrayOpen | Self::ArrayClose => "an array",
            Self::ObjectOpen | Self::ObjectClose => "an object",
            Self::String(_) => "a string",
            Self::Word("null") => "null",
            Self::Word("true" | "false") => "a boolean",
            Self::Word(_) => "a number",
            Self::End => "nothing",
        }
    }
}

/// Walks a text.
#[derive(Clone)]
pub(in crate::protocol) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Walks `text`.
    pub(in crate::protocol) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token, without moving on.
    #[cfg(test)]
    pub(in crate::protocol) fn peek(&self) -> Token<'a> {
        self.clone().next()
    }

    /// The next token.
    pub(in crate::protocol) fn next(&mut self) -> Token<'a> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        while let Some(b' ' | b'\n' | b'\t' | b'\r' | b',' | b':') = bytes.get(at) {
            at += 1;
        }
        let (token, end) = match bytes.get(at) {
            None => (Token::End, at),
            Some(b'[') => (Token::ArrayOpen, at + 1),
            Some(b']') => (Token::ArrayClose, at + 1),
            Some(b'{') => (Token::ObjectOpen, at + 1),
            Some(b'}') => (Token::ObjectClose, at + 1),
            Some(b'"') => {
                let end = string_end(bytes, at + 1);
                (Token::String(self.slice(at + 1, end)), (end + 1).min(bytes.len()))
            }
            Some(_) => {
                let end = word_end(bytes, at);
                (Token::Word(self.slice(at, end)), end)
            }
        };
        self.at = end;
        token
    }

    /// Passes over one value.
    pub(in crate::protocol) fn skip(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.next() {
                Token::ArrayOpen | Token::ObjectOpen => depth += 1,
                Token::ArrayClose | Token::ObjectClose => depth = depth.saturating_sub(1),
                Token::End => return,
                Token::String(_) | Token::Word(_) => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Both ends stand on ASCII bytes or at the end, so this is never `None`
    /// for text that is JSON.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

/// The offset of the closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The offset behind a number or a literal.
fn word_end(bytes: &[u8], start: usize) -> usize {
    let ends = |b: &u8| {
        matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r' | b':' | b'"' | b'[' | b'{')
    };
    bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length)
}

/// The text that a JSON string means. Fails on a lone surrogate.
pub(in crate::protocol) fn unescape(inner: &str) -> Result<Cow<'_, str>, String> {
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(&format!("\"{inner}\"")).map(Cow::Owned).map_err(|error| {
        let text = error.to_string();
        text.split(" at line").next().unwrap_or_default().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::protocol::json::testing::any_json;

    #[test]
    fn tokens_come_in_order() {
        let body = r#"{"a":[1,-2.5e3,true,null], "b\"":{} }"#;
        let mut tokens = Tokens::new(body);
        let mut seen = Vec::new();
        loop {
            match tokens.next() {
                Token::End => break,
                token => seen.push(token),
            }
        }
        let expected = [
            Token::ObjectOpen,
            Token::String("a"),
            Token::ArrayOpen,
            Token::Word("1"),
            Token::Word("-2.5e3"),
            Token::Word("true"),
            Token::Word("null"),
            Token::ArrayClose,
            Token::String("b\\\""),
            Token::ObjectOpen,
            Token::ObjectClose,
            Token::ObjectClose,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_value_is_skipped_whole() {
        let mut tokens = Tokens::new(r#"[[1,{"x":"]"}],2"#);
        tokens.next();
        tokens.skip();
        assert_eq!(tokens.next(), Token::Word("2"));
    }

    #[test]
    fn strings_are_unescaped() {
        assert_eq!(unescape("a\\u00e9\\n").unwrap(), "aé\n");
        assert_eq!(unescape("plain").unwrap(), "plain");
        assert!(unescape("\\ud800").is_err());
    }

    /// What serde_json would have read, put together from tokens.
    fn rebuilt(tokens: &mut Tokens<'_>) -> Value {
        match tokens.next() {
            Token::ArrayOpen => {
                let mut array = Vec::new();
                while tokens.peek() != Token::ArrayClose {
                    array.push(rebuilt(tokens));
                }
                tokens.next();
                Value::from(array)
            }
            Token::ObjectOpen => {
                let mut object = serde_json::Map::new();
                while let Token::String(key) = tokens.next() {
                    object.insert(unescape(key).unwrap().into_owned(), rebuilt(tokens));
                }
                Value::Object(object)
            }
            Token::String(inner) => Value::from(unescape(inner).unwrap()),
            Token::Word(word) => serde_json::from_str(word).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        /// serde_json is the judge, with blanks and without.
        #[test]
        fn a_value_comes_out_as_it_went_in(value in any_json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let read: Value = serde_json::from_str(&text).unwrap();
                let mut tokens = Tokens::new(&text);
                prop_assert_eq!(rebuilt(&mut tokens), read);
                prop_assert_eq!(tokens.next(), Token::End);
                let mut skipped = Tokens::new(&text);
                skipped.skip();
                prop_assert_eq!(skipped.next(), Token::End);
            }
        }

        #[test]
        fn any_text_comes_to_its_end(text in ".*") {
            let mut tokens = Tokens::new(&text);
            for _ in 0..=text.len() {
                if tokens.next() == Token::End {
                    break;
                }
            }
            prop_assert_eq!(tokens.next(), Token::End);
            Tokens::new(&text).skip();
        }
    }
}
