//! Why a command did not succeed.

use std::fmt;
use std::process::ExitCode;

/// A message for the person at the terminal, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// What was asked for was refused or did not work: exit code 1.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command was used wrongly: exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// A signal ended it: exit code 128 and the signal's number.
    pub(super) fn signal(number: i32) -> Self {
        let code = u8::try_from(128 + number).unwrap_or(1);
        Self { message: format!("ended by signal {number}"), code }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
