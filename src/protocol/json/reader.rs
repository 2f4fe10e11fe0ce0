//! Reads JSON once, and checks its grammar on the way.
//!
//! Who reads a value to its end with this knows that it is well-formed. What
//! is wrong with a text that is not, serde_json says better
//! (`position::parse`), so here it is only [`Malformed`].
//!
//! A [`skimmed`](Reader::skim) array or object is only looked through for its
//! end: its grammar is known once it has been read, and not before.

use crate::protocol::json::number::is_number;
use crate::protocol::json::{Element, Fault, Token, What, base64, unescape};

/// The text is no JSON, from this offset on at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Malformed(pub(in crate::protocol) usize);

impl From<Malformed> for Fault {
    fn from(Malformed(at): Malformed) -> Self {
        Self { at, what: What::Malformed }
    }
}

/// Bytes of an element's text, about.
const BYTES_PER_ELEMENT: usize = 8;
/// The fewest bytes of an element's text: a digit and a comma.
const BYTES_PER_ELEMENT_MIN: usize = 2;

/// Reads one value inside a body.
#[derive(Clone)]
pub(in crate::protocol) struct Reader<'a> {
    body: &'a str,
    /// The body, up to the value's end.
    bytes: &'a [u8],
    at: usize,
    /// Where the token began that was read last.
    last: usize,
    /// Whether bytes may come as an object, [`base64::KEY`].
    base64: bool,
}

impl<'a> Reader<'a> {
    /// Reads `value`, a part of `body`.
    pub(in crate::protocol) fn new(body: &'a str, value: &'a str) -> Self {
        let at = (value.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        match at.checked_add(value.len()).and_then(|end| body.as_bytes().get(..end)) {
            Some(bytes) => Self { body, bytes, at, last: at, base64: false },
            // A value of another body would only spoil the positions.
            None => Self::whole(value),
        }
    }

    /// Reads all of `body`.
    pub(in crate::protocol) const fn whole(body: &'a str) -> Self {
        Self { body, bytes: body.as_bytes(), at: 0, last: 0, base64: false }
    }

    /// Takes bytes as `{"b64": "…"}`, too.
    pub(in crate::protocol) const fn with_base64(mut self) -> Self {
        self.base64 = true;
        self
    }

    /// Whether bytes come next, as an object.
    pub(in crate::protocol) fn is_base64(&self) -> bool {
        let mut ahead = self.clone();
        self.base64 && ahead.take(b'{') && ahead.string() == Ok(base64::KEY)
    }

    /// The offset in the body of the token that was read last.
    pub(in crate::protocol) const fn last(&self) -> usize {
        self.last
    }

    /// Elements to make room for before they are read, where rows of `row`
    /// elements each are shared by `inputs`: a guess, bounded by the text.
    pub(in crate::protocol) fn room(&self, row: usize, inputs: usize) -> usize {
        let left = self.bytes.len().saturating_sub(self.at);
        row.min(left / BYTES_PER_ELEMENT_MIN).max(left / BYTES_PER_ELEMENT / inputs.max(1))
    }

    /// The next byte that is no blank.
    #[inline]
    pub(in crate::protocol) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    /// What comes next, for an error message about text that is JSON.
    pub(in crate::protocol) fn kind(&mut self) -> &'static str {
        let next = self.peek();
        self.last = self.at;
        match next {
            Some(b'[' | b']') => Token::ArrayOpen.kind(),
            Some(b'{' | b'}') => Token::ObjectOpen.kind(),
            Some(b'"') => Token::String("").kind(),
            Some(b'n') => Token::Word("null").kind(),
            Some(b't' | b'f') => Token::Word("true").kind(),
            Some(_) => Token::Word("").kind(),
            None => Token::End.kind(),
        }
    }

    /// Takes this byte, if it comes next.
    #[inline]
    pub(in crate::protocol) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.last = self.at;
            self.at += 1;
        }
        found
    }

    /// Moves to the next element of an array; `false` behind its end.
    /// `first` is whether it stands behind the opening bracket.
    #[inline]
    pub(in crate::protocol) fn element(&mut self, first: bool) -> Result<bool, Malformed> {
        if self.take(b']') {
            return Ok(false);
        }
        if first || self.take(b',') { Ok(true) } else { Err(Malformed(self.at)) }
    }

    /// Reads the next key of an object, raw, and its colon; `None` behind the
    /// object's end. `first` is whether it stands behind the opening brace.
    #[inline]
    pub(in crate::protocol) fn key(&mut self, first: bool) -> Result<Option<&'a str>, Malformed> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !first && !self.take(b',') {
            return Err(Malformed(self.at));
        }
        let key = self.string()?;
        let at = self.last;
        if !self.take(b':') {
            return Err(Malformed(self.at));
        }
        self.last = at;
        Ok(Some(key))
    }

    /// Reads a string; returns what stands between its quotes.
    pub(in crate::protocol) fn string(&mut self) -> Result<&'a str, Malformed> {
        if !self.take(b'"') {
            return Err(Malformed(self.at));
        }
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                None | Some(0..b' ') => return Err(Malformed(self.at)),
                Some(_) => self.at += 1,
            }
        }
        let inner = self.body.get(start..self.at).ok_or(Malformed(start))?;
        self.at += 1;
        Ok(inner)
    }

    /// Passes over an escape.
    fn escape(&mut self) -> Result<(), Malformed> {
        let hex = |at: usize| {
            let digits = self.bytes.get(at..at + 4);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') if hex(self.at + 2) => self.at += 6,
            _ => return Err(Malformed(self.at)),
        }
        Ok(())
    }

    /// Reads a string, a number, a literal, or the beginning of an array or an
    /// object.
    pub(in crate::protocol) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let next = self.peek();
        self.last = self.at;
        match next {
            Some(b'[') => {
                self.at += 1;
                Ok(Token::ArrayOpen)
            }
            Some(b'{') => {
                self.at += 1;
                Ok(Token::ObjectOpen)
            }
            Some(b'"') => self.string().map(Token::String),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.word().map(Token::Word),
            _ => Err(Malformed(self.at)),
        }
    }

    fn word(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let goes_on = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let length = self.bytes[start..].iter().take_while(|b| goes_on(b)).count();
        let word = self.body.get(start..start + length).ok_or(Malformed(start))?;
        if !matches!(word, "true" | "false" | "null") && !is_number(word.as_bytes()) {
            return Err(Malformed(start));
        }
        self.at += length;
        Ok(word)
    }

    /// Reads a scalar as one element of a tensor.
    #[inline]
    pub(in crate::protocol) fn scalar<T: Element>(&mut self) -> Result<T, Fault> {
        self.peek();
        if let Some((value, end)) = T::scan(self.bytes, self.at) {
            self.last = self.at;
            self.at = end;
            return Ok(value);
        }
        self.other_scalar()
    }

    /// The same for what is not read in passing, or not at all.
    #[inline(never)]
    fn other_scalar<T: Element>(&mut self) -> Result<T, Fault> {
        let token = self.token()?;
        let at = self.last;
        let read = match token {
            Token::ObjectOpen if self.base64 => self.encoded()?,
            token => T::read(token),
        };
        read.map_err(|why| Fault { at, what: What::Value(why) })
    }

    /// Reads an element that is encoded, behind its brace. What it is no
    /// element for says so without reading on.
    fn encoded<T: Element>(&mut self) -> Result<Result<T, String>, Malformed> {
        if !T::BYTES {
            return Ok(T::read(Token::ObjectOpen));
        }
        match self.key(true)? {
            Some(base64::KEY) => {}
            _ => return Ok(Err(base64::expected())),
        }
        let Token::String(text) = self.token()? else { return Ok(Err(base64::expected())) };
        if self.key(false)?.is_some() {
            return Ok(Err(base64::expected()));
        }
        Ok(unescape(text).and_then(|text| base64::decode(&text)).and_then(T::of_bytes))
    }

    /// Appends the scalars of an array, behind its bracket, up to its end.
    pub(in crate::protocol) fn scalars<T: Element>(
        &mut self,
        out: &mut Vec<T>,
    ) -> Result<(), Fault> {
        let mut more = self.element(true)?;
        let mut at = self.at;
        while more {
            let blank = usize::from(self.bytes.get(at) == Some(&b' '));
            self.at = if let Some((value, end)) = T::scan(self.bytes, at + blank) {
                out.push(value);
                // The comma mostly stands right behind.
                if self.bytes.get(end) == Some(&b',') {
                    at = end + 1;
                    continue;
                }
                end
            } else {
                self.at = at;
                out.push(self.scalar()?);
                self.at
            };
            more = self.element(false)?;
            at = self.at;
        }
        Ok(())
    }

    /// Passes over a value and returns its text. An array or an object is not
    /// checked; it ends where its brackets are balanced.
    pub(in crate::protocol) fn skim(&mut self) -> Result<&'a str, Malformed> {
        let next = self.peek();
        let start = self.at;
        if matches!(next, Some(b'[' | b'{')) {
            self.last = start;
            self.at = balanced(self.bytes, start).ok_or(Malformed(start))?;
        } else {
            self.token()?;
        }
        self.body.get(start..self.at).ok_or(Malformed(start))
    }

    /// Fails if anything but blanks is left.
    pub(in crate::protocol) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed(self.at)) }
    }
}

/// The offset behind the array or the object that begins at `at`, if it is
/// well-formed; else any place, or none.
fn balanced(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    'text: while at < bytes.len() {
        let mut marks = marks(bytes, at);
        while marks != 0 {
            let mark = at + (marks.trailing_zeros() / 8) as usize;
            marks &= marks - 1;
            match bytes[mark] {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(mark + 1);
                    }
                }
                b'"' => {
                    at = string_end(bytes, mark + 1)? + 1;
                    continue 'text;
                }
                // Only looks like one.
                _ => {}
            }
        }
        at += 8;
    }
    None
}

/// The high bit of each of the eight bytes at `at` that is a bracket, a brace or
/// a quote. Some others are marked as well.
#[inline]
fn marks(bytes: &[u8], at: usize) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES * 0x80;
    let Some(chunk) = bytes[at..].first_chunk() else {
        // The last few are looked at one by one.
        let left = (bytes.len() - at).min(7);
        return HIGH & ((1 << (8 * left)) - 1);
    };
    let chunk = u64::from_le_bytes(*chunk);
    // `[`, `]`, `{` and `}` differ in these three bits.
    let brackets = (chunk | (ONES * 0x26)) ^ (ONES * 0x7f);
    let quotes = chunk ^ (ONES * u64::from(b'"'));
    // A byte that is zero borrows; those above it may do so, too.
    let zeros = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    zeros(brackets) | zeros(quotes)
}

/// The offset of the closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::protocol::json::testing::{any_json, damaged};

    /// Reads one value of any kind, all of it.
    fn value(reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match reader.token()? {
            Token::ArrayOpen => {
                let mut more = reader.element(true)?;
                while more {
                    value(reader)?;
                    more = reader.element(false)?;
                }
            }
            Token::ObjectOpen => {
                let mut first = true;
                while reader.key(std::mem::take(&mut first))?.is_some() {
                    value(reader)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_json(text: &str) -> bool {
        let mut reader = Reader::whole(text);
        value(&mut reader).and_then(|()| reader.end()).is_ok()
    }

    #[test]
    fn the_grammar_is_serdes() {
        for text in [
            "[1, 2]",
            " [ ] ",
            "{ }",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "[1",
            "]",
            "[1}",
            "{\"a\":1]",
            "{\"a\" 1}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{1:1}",
            "{\"a\":1 \"b\":2}",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"a\nb\"",
            "\"a",
            "\"a\\",
            "nul",
            "nulll",
            "true1",
            "01",
            "1.",
            "-",
            "1e",
            "NaN",
            "+1",
            "[1] 2",
            "",
            " ",
            "\u{a0}1",
            "[1\u{a0}]",
        ] {
            let theirs = serde_json::from_str::<&RawValue>(text).is_ok();
            assert_eq!(is_json(text), theirs, "{text:?}");
        }
    }

    #[test]
    fn a_value_is_skimmed_to_its_end() {
        for (text, expected) in [
            ("[1,[2,3],\"]\"],4", Some("[1,[2,3],\"]\"]")),
            ("{\"a}\\\"\":{}}}", Some("{\"a}\\\"\":{}}")),
            (" \"a]\" ", Some("\"a]\"")),
            ("-1.5e3]", Some("-1.5e3")),
            ("[yes_no{}]", Some("[yes_no{}]")),
            ("[[]", None),
            ("[\"]", None),
            ("tru", None),
        ] {
            assert_eq!(Reader::whole(text).skim().ok(), expected, "{text}");
        }
    }

    proptest! {
        /// With blanks and without.
        #[test]
        fn json_is_read_and_skimmed(json in any_json()) {
            for text in [json.to_string(), serde_json::to_string_pretty(&json).unwrap()] {
                prop_assert!(is_json(&text), "{}", text);
                let behind = format!("{text} ,[");
                prop_assert_eq!(Reader::whole(&behind).skim(), Ok(text.as_str()));
            }
        }

        /// serde_json is the judge.
        #[test]
        fn damaged_json_is_told_apart(text in damaged()) {
            let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(is_json(&text), theirs, "{}", text);
        }

        #[test]
        fn any_text_comes_to_its_end(text in ".*") {
            let _ = is_json(&text);
            let _ = Reader::whole(&text).skim();
        }
    }
}
