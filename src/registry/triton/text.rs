//! Protobuf's text format, as `config.pbtxt` is written in it: fields to a
//! tree, without a schema. Pure.
//!
//! Bounded in bytes, depth and fields. Extensions (`[a.b]`) and `Any` are the
//! only parts of the language that are refused: no model configuration has them.

use std::fmt;

/// The longest document, in bytes.
pub(in crate::registry) const BYTES_MAX: u64 = 1024 * 1024;
/// Messages and lists in each other.
const DEPTH_MAX: usize = 32;
/// Fields of a document, each entry of a list counted.
const FIELDS_MAX: usize = 100_000;

/// A place in the text, from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: At,
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn new(at: At, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

impl fmt::Display for Wrong {
    /// `line 3, column 5: expected …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.at.line, self.at.column, self.what)
    }
}

/// Fields in the order of the text; a list is its field once for each entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) at: At,
    /// It is an entry of a list.
    pub(super) listed: bool,
    pub(super) value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A string, or several that stand beside each other.
    Text(String),
    /// A whole number; the sign apart, as the limits differ.
    Integer { negative: bool, magnitude: u64 },
    /// Any other number.
    Float(f64),
    /// A name without quotes: `true`, `TYPE_FP32`.
    Word(String),
    /// Fields in braces.
    Message(Message),
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Message, Wrong> {
    let mut reader = Reader { text, place: 0, fields: 0, counted: (0, At { line: 1, column: 1 }) };
    if text.len() as u64 > BYTES_MAX {
        let what = format!("expected at most {BYTES_MAX} bytes, got {}", text.len());
        return Err(reader.wrong(what));
    }
    reader.skip();
    let message = reader.message(None, 0)?;
    Ok(message)
}

struct Reader<'a> {
    text: &'a str,
    place: usize,
    fields: usize,
    /// A place whose line and column are known: counting goes on from there.
    counted: (usize, At),
}

impl<'a> Reader<'a> {
    /// Fields until `end`, which is taken; without one, until the text ends.
    fn message(&mut self, end: Option<char>, depth: usize) -> Result<Message, Wrong> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(format!("expected at most {DEPTH_MAX} messages in each other")));
        }
        let mut message = Message::default();
        loop {
            match (self.peek(), end) {
                (None, None) => return Ok(message),
                (None, Some(end)) => {
                    return Err(self.wrong(format!("expected a field or {end:?}, the text ends")));
                }
                (found, end) if found == end => {
                    self.take();
                    return Ok(message);
                }
                _ => self.field(&mut message.fields, depth)?,
            }
            if matches!(self.peek(), Some(',' | ';')) {
                self.take();
            }
        }
    }

    fn field(&mut self, fields: &mut Vec<Field>, depth: usize) -> Result<(), Wrong> {
        let at = self.at();
        if self.peek() == Some('[') {
            return Err(self.wrong("extensions and Any are not taken here"));
        }
        let Some(name) = self.word() else { return Err(self.expected("a field's name")) };
        let colon = self.peek() == Some(':');
        if colon {
            self.take();
        }
        match self.peek() {
            Some('{' | '<') => {
                let value = self.braced(depth)?;
                self.push(fields, Field { name: name.to_owned(), at, listed: false, value })
            }
            Some('[') => self.list(fields, name, at, colon, depth),
            _ if colon => {
                let value = self.scalar()?;
                self.push(fields, Field { name: name.to_owned(), at, listed: false, value })
            }
            _ => Err(self.expected(&format!("\":\" or \"{{\" after {name:?}"))),
        }
    }

    /// `[1, 2]` or `[{…}, {…}]`; without a colon only the latter.
    fn list(
        &mut self,
        fields: &mut Vec<Field>,
        name: &str,
        at: At,
        colon: bool,
        depth: usize,
    ) -> Result<(), Wrong> {
        self.take();
        if self.peek() == Some(']') {
            self.take();
            return Ok(());
        }
        loop {
            let value = match self.peek() {
                Some('{' | '<') => self.braced(depth)?,
                _ if colon => self.scalar()?,
                _ => return Err(self.expected(&format!("\":\" before the list of {name:?}"))),
            };
            self.push(fields, Field { name: name.to_owned(), at, listed: true, value })?;
            match self.peek() {
                Some(',') => self.take(),
                Some(']') => {
                    self.take();
                    return Ok(());
                }
                _ => return Err(self.expected("\",\" or \"]\"")),
            }
        }
    }

    fn push(&mut self, fields: &mut Vec<Field>, field: Field) -> Result<(), Wrong> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Wrong::new(field.at, format!("expected at most {FIELDS_MAX} fields")));
        }
        fields.push(field);
        Ok(())
    }

    fn braced(&mut self, depth: usize) -> Result<Value, Wrong> {
        let end = if self.peek() == Some('{') { '}' } else { '>' };
        self.take();
        Ok(Value::Message(self.message(Some(end), depth + 1)?))
    }

    fn scalar(&mut self) -> Result<Value, Wrong> {
        match self.peek() {
            Some('"' | '\'') => self.strings().map(Value::Text),
            Some('-') => {
                self.take();
                match self.peek() {
                    Some('0'..='9' | '.') => self.number(true),
                    _ => match self.word().map(float) {
                        Some(Some(float)) => Ok(Value::Float(-float)),
                        _ => Err(self.expected("a number after \"-\"")),
                    },
                }
            }
            Some('0'..='9' | '.') => self.number(false),
            _ => match self.word() {
                Some(word) => Ok(Value::Word(word.to_owned())),
                None => Err(self.expected("a value")),
            },
        }
    }

    /// Strings beside each other are one.
    fn strings(&mut self) -> Result<String, Wrong> {
        let at = self.at();
        let mut bytes = Vec::new();
        while let Some(quote @ ('"' | '\'')) = self.peek() {
            self.string(quote, &mut bytes)?;
            self.skip();
        }
        String::from_utf8(bytes)
            .map_err(|_| Wrong::new(at, "expected UTF-8, the string's escapes are none"))
    }

    fn string(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        self.place += 1;
        loop {
            let rest = &self.text[self.place..];
            let Some(c) = rest.chars().next() else {
                return Err(self.wrong(format!("expected {quote}, the text ends in a string")));
            };
            match c {
                '\n' => return Err(self.wrong(format!("expected {quote} before the line ends"))),
                '\\' => self.escape(bytes)?,
                c => {
                    self.place += c.len_utf8();
                    if c == quote {
                        return Ok(());
                    }
                    bytes.extend_from_slice(&rest.as_bytes()[..c.len_utf8()]);
                }
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let rest = &self.text.as_bytes()[self.place + 1..];
        let digits = |from: usize, most: usize, radix: u32| {
            let digits = rest.iter().skip(from).take(most);
            digits.take_while(|b| char::from(**b).is_digit(radix)).count()
        };
        let number = |from: usize, count: usize, radix: u32| {
            let digits = std::str::from_utf8(&rest[from..from + count]).unwrap_or_default();
            u32::from_str_radix(digits, radix).ok()
        };
        let (taken, byte) = match rest.first() {
            Some(b'0'..=b'7') => {
                let count = digits(0, 3, 8);
                (count, number(0, count, 8).and_then(|n| u8::try_from(n).ok()))
            }
            Some(b'x' | b'X') => {
                let count = digits(1, 2, 16);
                (1 + count, number(1, count, 16).and_then(|n| u8::try_from(n).ok()))
            }
            Some(letter @ (b'u' | b'U')) => {
                let count = if *letter == b'u' { 4 } else { 8 };
                let code = (digits(1, count, 16) == count).then(|| number(1, count, 16));
                let Some(c) = code.flatten().and_then(char::from_u32) else {
                    return Err(self.wrong(format!("expected {count} hex digits of a character")));
                };
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                self.place += 2 + count;
                return Ok(());
            }
            Some(other) => (1, plain_escape(*other)),
            None => (0, None),
        };
        let Some(byte) = byte else { return Err(self.wrong("unknown escape in a string")) };
        bytes.push(byte);
        self.place += 1 + taken;
        Ok(())
    }

    fn number(&mut self, negative: bool) -> Result<Value, Wrong> {
        let at = self.at();
        let rest = &self.text[self.place..];
        let signed = |(i, c): &(usize, char)| {
            matches!(c, '+' | '-') && rest[..*i].ends_with(['e', 'E']) && !is_hex(rest)
        };
        let inside = |found: &(usize, char)| {
            found.1.is_ascii_alphanumeric() || matches!(found.1, '_' | '.') || signed(found)
        };
        let end = rest.char_indices().take_while(inside).last().map_or(0, |(i, _)| i + 1);
        let literal = &rest[..end];
        self.place += end;
        self.skip();
        if let Some(magnitude) = whole(literal) {
            // One more fits with the sign.
            let fits = !negative || magnitude <= 1 << 63;
            return fits
                .then_some(Value::Integer { negative, magnitude })
                .ok_or_else(|| Wrong::new(at, format!("-{literal} is too large a number")));
        }
        let digits = literal.trim_end_matches(['f', 'F']);
        let octal = digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let plain = digits.chars().any(|c| c.is_ascii_digit()) && !is_hex(literal) && !octal;
        let float = if plain || literal == "0f" { digits.parse::<f64>().ok() } else { None };
        float
            .map(|float| Value::Float(if negative { -float } else { float }))
            .ok_or_else(|| Wrong::new(at, format!("expected a number, found {literal:?}")))
    }

    /// A name, if one stands here.
    fn word(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.place..];
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.place += end;
        self.skip();
        Some(word)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.place..].chars().next()
    }

    /// Takes a character of one byte, and what may stand behind it.
    fn take(&mut self) {
        self.place += 1;
        self.skip();
    }

    /// Passes blanks and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.place..];
            let text = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
            self.place += rest.len() - text.len();
            if !text.starts_with('#') {
                return;
            }
            self.place += text.find('\n').unwrap_or(text.len());
        }
    }

    fn at(&mut self) -> At {
        let (from, mut at) = self.counted;
        for c in self.text[from..self.place].chars() {
            at = match c {
                '\n' => At { line: at.line + 1, column: 1 },
                _ => At { column: at.column + 1, ..at },
            };
        }
        self.counted = (self.place, at);
        at
    }

    fn wrong(&mut self, what: impl Into<String>) -> Wrong {
        Wrong::new(self.at(), what)
    }

    fn expected(&mut self, what: &str) -> Wrong {
        let found = self.peek().map_or_else(|| "the text ends".into(), |c| format!("found {c:?}"));
        self.wrong(format!("expected {what}, {found}"))
    }
}

fn is_hex(literal: &str) -> bool {
    literal.starts_with("0x") || literal.starts_with("0X")
}

/// A decimal, octal or hexadecimal whole number.
fn whole(literal: &str) -> Option<u64> {
    let of = |digits: &str, radix: u32| {
        let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    if is_hex(literal) {
        return of(&literal[2..], 16);
    }
    match literal.strip_prefix('0') {
        Some(rest) if !rest.is_empty() => of(rest, 8),
        _ => of(literal, 10),
    }
}

/// The words that are numbers.
fn float(word: &str) -> Option<f64> {
    match word.to_ascii_lowercase().as_str() {
        "inf" | "inff" | "infinity" | "infinityf" => Some(f64::INFINITY),
        "nan" | "nanf" => Some(f64::NAN),
        _ => None,
    }
}

const fn plain_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'?' | b'\\' | b'\'' | b'"' => letter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Value {
        let message = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!(message.fields.len(), 1, "{text}");
        message.fields[0].value.clone()
    }

    #[test]
    fn scalars_are_read_in_all_their_forms() {
        let integer = |magnitude| Value::Integer { negative: false, magnitude };
        let text = |text: &str| Value::Text(text.to_owned());
        let cases = [
            ("a: 8", integer(8)),
            ("a: 0", integer(0)),
            ("a: 0x1F", integer(31)),
            ("a: 017", integer(15)),
            ("a: -1", Value::Integer { negative: true, magnitude: 1 }),
            ("a: - 1", Value::Integer { negative: true, magnitude: 1 }),
            ("a: 18446744073709551615", integer(u64::MAX)),
            ("a: -9223372036854775808", Value::Integer { negative: true, magnitude: 1 << 63 }),
            ("a: 1.5", Value::Float(1.5)),
            ("a: .5f", Value::Float(0.5)),
            ("a: 1e-3", Value::Float(0.001)),
            ("a: 2E+2", Value::Float(200.0)),
            ("a: 3f", Value::Float(3.0)),
            ("a: 18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
            ("a: -inf", Value::Float(f64::NEG_INFINITY)),
            ("a: TYPE_FP32", Value::Word("TYPE_FP32".into())),
            ("a: true", Value::Word("true".into())),
            ("a: \"x\"", text("x")),
            ("a: 'x\"y'", text("x\"y")),
            ("a: 'x' \"y\" # and\n 'z'", text("xyz")),
            (r#"a: "\n\t\\\"\'\101\x41\u00e9\U0001F600""#, text("\n\t\\\"'AAé😀")),
            (r#"a: "\303\251""#, text("é")),
            ("a: \"# no comment\"", text("# no comment")),
        ];
        for (source, expected) in cases {
            assert_eq!(one(source), expected, "{source}");
        }
    }

    #[test]
    fn messages_and_lists_are_read_in_all_their_forms() {
        let inner = |text: &str| Value::Message(parse(text).unwrap());
        for source in ["m { a: 1 }", "m: { a: 1 }", "m < a: 1 >", "m: <a: 1,>", "m{a:1;}"] {
            let Value::Message(found) = one(source) else { panic!("{source}") };
            assert_eq!(found.fields[0].value, Value::Integer { negative: false, magnitude: 1 });
        }
        let values = |source: &str| -> Vec<Value> {
            parse(source).unwrap().fields.into_iter().map(|field| field.value).collect()
        };
        assert_eq!(values("a: [1, 2]"), values("a: 1 a: 2"));
        assert_eq!(values("a: []"), []);
        assert_eq!(values("m [ {a: 1}, <b: 2> ]").len(), 2);
        assert_eq!(values("m: [{}, {}]"), [inner(""), inner("")]);
        assert_eq!(values("# all\n a: 1 # one\n, b: 2; c: 3 #"), values("a:1 b:2 c:3"));
        assert_eq!(parse(" \n").unwrap(), Message::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let deep = "a{".repeat(40);
        let cases = [
            ("a", "line 1, column 2: expected \":\" or \"{\" after \"a\", the text ends"),
            ("a: 1\n b ?", "line 2, column 4: expected \":\" or \"{\" after \"b\", found '?'"),
            ("é: 1", "line 1, column 1: expected a field's name, found 'é'"),
            ("a: {", "line 1, column 5: expected a field or '}', the text ends"),
            ("a { b: 1 >", "line 1, column 10: expected a field's name, found '>'"),
            ("a: [1 2]", "line 1, column 7: expected \",\" or \"]\", found '2'"),
            ("a: [1,]", "line 1, column 7: expected a value, found ']'"),
            ("a [1]", "line 1, column 4: expected \":\" before the list of \"a\""),
            ("a: \"x", "line 1, column 6: expected \", the text ends in a string"),
            ("a: \"x\ny\"", "line 1, column 6: expected \" before the line ends"),
            ("a: \"\\q\"", "line 1, column 5: unknown escape"),
            ("a: \"\\x\"", "line 1, column 5: unknown escape"),
            ("a: \"\\400\"", "line 1, column 5: unknown escape"),
            ("a: \"\\u12\"", "line 1, column 5: expected 4 hex digits"),
            ("a: '\\377'", "line 1, column 4: expected UTF-8"),
            ("a: 09", "line 1, column 4: expected a number, found \"09\""),
            ("a: 1x", "line 1, column 4: expected a number, found \"1x\""),
            ("a: 0x", "line 1, column 4: expected a number, found \"0x\""),
            ("a: .", "line 1, column 4: expected a number, found \".\""),
            ("a: -9223372036854775809", "line 1, column 5: -9223372036854775809 is too large"),
            ("a: -x", "line 1, column 6: expected a number after \"-\""),
            ("[a.b]: 1", "line 1, column 1: extensions and Any"),
            (&deep, "line 1, column 67: expected at most 32 messages"),
        ];
        for (source, expected) in cases {
            let wrong = parse(source).expect_err(source).to_string();
            assert!(wrong.starts_with(expected), "{source:?}: {wrong}");
        }
        let many = format!("a: [1{}]", ",1".repeat(FIELDS_MAX));
        assert!(parse(&many).unwrap_err().what.contains("at most 100000 fields"));
        let long = " ".repeat(1024 * 1024 + 1);
        assert!(parse(&long).unwrap_err().what.contains("at most 1048576 bytes"));
    }

    /// Writes a message as somebody might.
    fn write(message: &Message, out: &mut String) {
        for field in &message.fields {
            out.push_str(&field.name);
            match &field.value {
                Value::Text(text) => {
                    out.push_str(": \"");
                    for byte in text.bytes() {
                        out.push_str(&format!("\\{byte:03o}"));
                    }
                    out.push_str("\" ");
                }
                Value::Integer { negative, magnitude } => {
                    let sign = if *negative { "-" } else { "" };
                    out.push_str(&format!(": {sign}{magnitude}\n"));
                }
                Value::Float(float) => out.push_str(&format!(": {float:e}, ")),
                Value::Word(word) => out.push_str(&format!(": {word}; ")),
                Value::Message(inner) => {
                    out.push_str(" { # inner\n");
                    write(inner, out);
                    out.push('}');
                }
            }
        }
    }

    /// The same without the places, which writing does not keep.
    fn bare(message: Message) -> Message {
        let fields = message.fields.into_iter().map(|field| Field {
            at: At::default(),
            listed: false,
            value: match field.value {
                Value::Message(inner) => Value::Message(bare(inner)),
                other => other,
            },
            ..field
        });
        Message { fields: fields.collect() }
    }

    fn of(value: BoxedStrategy<Value>) -> BoxedStrategy<Message> {
        let field = ("[a-z_][a-z0-9_]{0,8}", value).prop_map(|(name, value)| Field {
            name,
            at: At::default(),
            listed: false,
            value,
        });
        proptest::collection::vec(field, 0..5).prop_map(|fields| Message { fields }).boxed()
    }

    fn messages() -> impl Strategy<Value = Message> {
        let integer = (any::<bool>(), 0..=1_u64 << 63)
            .prop_map(|(negative, magnitude)| Value::Integer { negative, magnitude });
        let scalar = prop_oneof![
            ".{0,12}".prop_map(Value::Text),
            integer,
            (-1e9..1e9).prop_map(|x: f64| Value::Float(x + 0.5e-9)),
            "[A-Z_]{1,8}".prop_map(Value::Word),
        ]
        .boxed();
        of(scalar.clone()).prop_recursive(4, 64, 5, move |inner| {
            of(prop_oneof![scalar.clone(), inner.prop_map(Value::Message)].boxed())
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(message in messages()) {
            let mut text = String::new();
            write(&message, &mut text);
            let read = parse(&text);
            prop_assert_eq!(read.map(bare), Ok(message), "{}", text);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,200}|[a{}<>:;,\\[\\]\"'\\\\#.0-9xe+-]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_damaged_document_is_read_or_refused(
            message in messages(), at in any::<prop::sample::Index>(), with in any::<char>(),
        ) {
            let mut text = String::new();
            write(&message, &mut text);
            let mut chars: Vec<char> = text.chars().collect();
            if !chars.is_empty() {
                let at = at.index(chars.len());
                chars[at] = with;
            }
            let _ = parse(&chars.into_iter().collect::<String>());
        }
    }
}
