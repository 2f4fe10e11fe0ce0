//! Values before they are checked, each with the place that it came from.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::KEYS;

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value, as much of it as its place tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// From a flag, the environment or a default: text for any kind.
    Plain(String),
    /// A string in the file.
    Text(String),
    /// A whole number in the file.
    Integer(i64),
    /// Strings in the file.
    List(Vec<String>),
    /// Anything else in the file, by the name of its TOML type.
    Other(&'static str),
}

impl Value {
    /// The text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.map_or(Self::Other("integer out of range"), Self::Integer)
            }
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map_or(Self::Other("array"), Self::List)
            }
            other => Self::Other(other.type_str()),
        }
    }
}

impl fmt::Display for Value {
    /// For an error: what came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "the integer {number}"),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Other(kind) => write!(f, "a value of type {kind}"),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Values by `section.key`; a later layer replaces an earlier one.
#[derive(Default)]
pub(super) struct Layers(HashMap<String, (Value, Source)>);

impl Layers {
    pub(super) fn set(&mut self, path: String, value: Value, source: Source) {
        self.0.insert(path, (value, source));
    }

    pub(super) fn get(&self, path: &str) -> Option<&(Value, Source)> {
        self.0.get(path)
    }
}

/// Puts a file's values into `layers`. What it has that no setting takes, and
/// what is no TOML, goes to `problems`.
pub(super) fn read_file(path: &Path, layers: &mut Layers, problems: &mut Vec<String>) {
    match read_bounded(path) {
        Ok(text) => File { path, text: &text }.read(layers, problems),
        Err(error) => problems.push(format!("{}: cannot be read: {error}", path.display())),
    }
}

/// The text of a small file.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn read(&self, layers: &mut Layers, problems: &mut Vec<String>) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let line = error.span().map_or(1, |span| self.line(span.start));
            problems.push(format!("{}:{line}: {}", self.path.display(), error.message()));
        }
        for (section, value) in table.get_ref() {
            self.section(section, value, layers, problems);
        }
    }

    fn section(
        &self,
        section: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        layers: &mut Layers,
        problems: &mut Vec<String>,
    ) {
        let name = section.get_ref();
        let at = self.source(section.span().start);
        let known: Vec<_> =
            KEYS.iter().filter(|key| key.section == *name).map(|key| key.name).collect();
        if known.is_empty() {
            problems.push(format!("{at}: unknown section [{name}]; sections: {}", sections()));
            return;
        }
        let Some(table) = value.get_ref().as_table() else {
            problems.push(format!("{at}: {name}: expected the section [{name}]"));
            return;
        };
        for (key, value) in table {
            let source = self.source(key.span().start);
            let key = key.get_ref();
            if known.iter().any(|known| known == key) {
                let value = Value::from_toml(value.get_ref());
                layers.set(format!("{name}.{key}"), value, source);
            } else {
                let known = known.join(", ");
                problems.push(format!("{source}: unknown key {key:?} in [{name}]; keys: {known}"));
            }
        }
    }

    fn source(&self, offset: usize) -> Source {
        Source::File { path: self.path.to_owned(), line: self.line(offset) }
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// The sections' names, in order.
fn sections() -> String {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    names.dedup();
    names.join(", ")
}
