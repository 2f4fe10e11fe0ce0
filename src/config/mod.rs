//! Settings, read once at start: flag before environment before file before
//! default.
//!
//! `settings` declares each one in a single table; the file's keys, the
//! environment's names, the checks, the printed configuration and the help
//! all come from it, so they cannot diverge. `raw` takes the file apart and
//! `env` the environment; [`Config`] is what has passed every check, and no
//! code past it checks again.
//!
//! Invariants: all problems are reported at once, each with the place it came
//! from; unknown keys and unknown `FORESHADOW_` variables are refused; a
//! token is never shown.

mod checked;
mod env;
mod kinds;
mod raw;
mod render;
mod secret;
mod settings;
mod size;
mod webhooks;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use env::{CLIENT_VARIABLES, CONFIG_VARIABLE, LIBRARY_VARIABLE};
pub use kinds::{
    Hosts, LogFormat, LogLevel, MaybeListen, ReadyWhen, ReplyCompression, Switch, Threads,
};
pub use secret::{TOKEN_CHARS_MIN, Token};
pub use settings::{
    Admin, Alerts, Capture, Config, Engine, Execution, Grpc, KEYS, Key, Log, Preflight, Repository,
    Server, Shadow, Webhooks,
};
pub use size::ByteSize;
pub use webhooks::{Webhook, WebhookForm, read_webhooks};

/// Where settings come from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file that `--config` names; before the one from the environment.
    pub file: Option<PathBuf>,
    /// The environment, whole.
    pub environment: Vec<(OsString, OsString)>,
    /// What flags say.
    pub flags: Vec<FlagValue>,
}

/// A setting that was given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The setting, as `section.key`.
    pub key: &'static str,
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// What was given.
    pub value: String,
}

impl Config {
    /// Reads and checks all settings. The error lists every problem.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        checked::load(sources)
    }
}

/// Everything that is wrong with the settings; one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// One line for each problem.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the settings:", self.0.len())?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Problems {}
