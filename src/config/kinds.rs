//! How each kind of value is read from text or TOML, and written back.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::Value;
use super::{ByteSize, TOKEN_CHARS_MIN, Token};
use crate::types::Share;

/// The largest count: above it a setting is a slip, and would only show as
/// memory that cannot be had.
const COUNT_MAX: usize = 1_000_000;
/// The most threads that a pool may be given.
const THREADS_MAX: usize = 1024;
/// The longest duration; far from where a clock overflows.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether zero is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positive {
    /// Zero is refused.
    Yes,
    /// Zero means something.
    No,
}

/// A kind of value. Errors say what was expected, and nothing else.
pub(super) trait Kind: Sized {
    /// Whether the value must not be shown, not even in an error.
    const SECRET: bool = false;

    /// Reads it.
    fn parse(value: &Value) -> Result<Self, String>;

    /// As TOML; `None` for what is not set or not to be shown.
    fn to_toml(&self) -> Option<String>;

    /// Whether it is zero.
    fn is_zero(&self) -> bool {
        false
    }
}

/// Text as TOML.
fn quoted(text: &str) -> Option<String> {
    Some(toml::Value::from(text).to_string())
}

impl Kind for SocketAddr {
    fn parse(value: &Value) -> Result<Self, String> {
        let expected = || "an IP address and a port, such as \"127.0.0.1:8000\"".to_owned();
        value.text().and_then(|text| text.parse().ok()).ok_or_else(expected)
    }

    fn to_toml(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

/// A listener's address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeListen(Option<SocketAddr>);

impl MaybeListen {
    const OFF: &str = "off";

    /// The address; `None` for no listener.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl Kind for MaybeListen {
    fn parse(value: &Value) -> Result<Self, String> {
        if value.text() == Some(Self::OFF) {
            return Ok(Self(None));
        }
        let address = SocketAddr::parse(value).map(|address| Self(Some(address)));
        address.map_err(|expected| format!("{expected}, or \"off\""))
    }

    fn to_toml(&self) -> Option<String> {
        self.0.map_or_else(|| quoted(Self::OFF), |address| address.to_toml())
    }
}

impl Kind for Duration {
    fn parse(value: &Value) -> Result<Self, String> {
        let parsed = value.text().and_then(|text| humantime::parse_duration(text).ok());
        parsed
            .filter(|duration| *duration <= DURATION_MAX)
            .ok_or_else(|| "a duration of at most 30 days, such as \"30s\" or \"200us\"".to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        quoted(&humantime::format_duration(*self).to_string())
    }

    fn is_zero(&self) -> bool {
        Self::is_zero(self)
    }
}

impl Kind for ByteSize {
    fn parse(value: &Value) -> Result<Self, String> {
        let parsed = value.text().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| ByteSize::EXPECTED.to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        quoted(&self.to_string())
    }

    fn is_zero(&self) -> bool {
        self.get() == 0
    }
}

impl Kind for Share {
    fn parse(value: &Value) -> Result<Self, String> {
        let parsed = value.text().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| "a share from \"0%\" to \"100%\" in steps of 0.01%".to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        quoted(&self.to_string())
    }

    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// A whole number up to `max`.
fn count(value: &Value, max: usize) -> Result<usize, String> {
    let number = match value {
        Value::Plain(text) => text.parse().ok(),
        Value::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    number
        .filter(|number| *number <= max)
        .ok_or_else(|| format!("a whole number of at most {max}, without quotes"))
}

impl Kind for usize {
    fn parse(value: &Value) -> Result<Self, String> {
        count(value, COUNT_MAX)
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

/// A number of threads, where 0 stands for the number of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(usize);

impl Threads {
    /// The number to start; at least 1.
    #[must_use]
    pub fn get(self) -> usize {
        if self.0 > 0 {
            return self.0;
        }
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
    }
}

impl Kind for Threads {
    fn parse(value: &Value) -> Result<Self, String> {
        count(value, THREADS_MAX).map(Self)
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

impl Kind for PathBuf {
    fn parse(value: &Value) -> Result<Self, String> {
        let text = value.text().filter(|text| !text.is_empty() && !text.contains('\0'));
        text.map(Self::from).ok_or_else(|| "a path".to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        quoted(&self.to_string_lossy())
    }
}

impl<T: Kind> Kind for Option<T> {
    const SECRET: bool = T::SECRET;

    /// Empty text is "not set", so that an environment can take a value back.
    fn parse(value: &Value) -> Result<Self, String> {
        match value.text() {
            Some("") => Ok(None),
            _ => T::parse(value).map(Some),
        }
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(Kind::to_toml)
    }
}

impl Kind for Token {
    const SECRET: bool = true;

    fn parse(value: &Value) -> Result<Self, String> {
        value.text().and_then(Self::new).ok_or_else(|| {
            format!("at least {TOKEN_CHARS_MIN} printable ASCII characters without blanks")
        })
    }

    fn to_toml(&self) -> Option<String> {
        None
    }
}

/// Host names, lower case, without ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl Kind for Hosts {
    fn parse(value: &Value) -> Result<Self, String> {
        let names: Vec<&str> = match value {
            Value::Plain(text) => {
                text.split(',').map(str::trim).filter(|n| !n.is_empty()).collect()
            }
            Value::List(names) => names.iter().map(String::as_str).collect(),
            _ => vec![""],
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if names.iter().all(|name| !name.is_empty() && name.chars().all(plain)) {
            return Ok(Self(names.into_iter().map(str::to_ascii_lowercase).collect()));
        }
        Err("host names without ports: [\"gateway.internal\"] in the file, separated by commas \
             in the environment"
            .to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::from(self.0.clone()).to_string())
    }
}

/// Declares an enum whose variants are written as single words.
macro_rules! words {
    ($(#[$about:meta])* $Name:ident { $( $(#[$doc:meta])* $Variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $( $(#[$doc])* $Variant ),+ }

        impl $Name {
            /// The word in files and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word ),+ }
            }
        }

        impl Kind for $Name {
            fn parse(value: &Value) -> Result<Self, String> {
                match value.text() {
                    $( Some($word) => Ok(Self::$Variant), )+
                    _ => Err(format!("one of {}", [$($word),+].join(", "))),
                }
            }

            fn to_toml(&self) -> Option<String> {
                quoted(self.as_str())
            }
        }
    };
}

words! {
    /// The least severe level that is logged.
    LogLevel {
        /// What failed.
        Error = "error",
        /// And what should be looked at.
        Warn = "warn",
        /// And what happens.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And each step.
        Trace = "trace",
    }
}

words! {
    /// When replies are compressed.
    ReplyCompression {
        /// Never.
        Never = "never",
        /// When the request says how its own messages are compressed.
        LikeRequest = "like-request",
        /// Whenever the client can read it.
        Accepted = "accepted",
    }
}

words! {
    /// How many of the models must serve at start.
    ReadyWhen {
        /// One of them.
        Any = "any",
        /// Each of them.
        All = "all",
    }
}

words! {
    /// Whether something is done.
    Switch {
        /// It is.
        On = "on",
        /// It is not.
        Off = "off",
    }
}

words! {
    /// How a log line looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Value {
        Value::Plain(text.to_owned())
    }

    #[test]
    fn each_kind_is_bounded() {
        assert!(Duration::parse(&plain("30days")).is_ok());
        assert!(Duration::parse(&plain("31days")).is_err());
        assert_eq!(usize::parse(&plain("1000000")), Ok(1_000_000));
        assert!(usize::parse(&plain("1000001")).is_err());
        assert!(usize::parse(&Value::Integer(-1)).is_err());
        assert!(Threads::parse(&plain("1025")).is_err());
        assert!(Threads::parse(&plain("0")).unwrap().get() >= 1);
        assert_eq!(Threads::parse(&plain("3")).unwrap().get(), 3);
    }

    #[test]
    fn the_file_has_types_and_the_environment_has_text() {
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(usize::parse(&Value::Integer(7)), Ok(7));
        assert!(usize::parse(&text("7")).is_err());
        assert!(Duration::parse(&Value::Integer(30)).is_err());
        assert_eq!(Option::<PathBuf>::parse(&plain("")), Ok(None));
        assert!(PathBuf::parse(&text("")).is_err());
    }

    #[test]
    fn a_listener_may_be_off() {
        let parse = |text| MaybeListen::parse(&plain(text));
        assert_eq!(parse("off").unwrap().address(), None);
        assert_eq!(parse("off").unwrap().to_toml().unwrap(), "\"off\"");
        let some = parse("127.0.0.1:8001").unwrap();
        assert_eq!(some.address().unwrap().port(), 8001);
        assert_eq!(some.to_toml().unwrap(), "\"127.0.0.1:8001\"");
        assert!(parse("on").unwrap_err().ends_with(", or \"off\""));
    }

    #[test]
    fn hosts_are_names_without_ports() {
        let list = Value::List(vec!["A.example".into()]);
        assert_eq!(Hosts::parse(&list).unwrap().names(), ["a.example"]);
        assert_eq!(Hosts::parse(&plain("")).unwrap().names(), [""; 0]);
        let bad =
            [plain("a:80"), plain("http://a"), Value::Integer(1), Value::List(vec!["".into()])];
        for bad in bad {
            assert!(Hosts::parse(&bad).is_err(), "{bad}");
        }
    }
}
