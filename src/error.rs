//! One closed set of error codes. Everything that fails on the data or the
//! admin path is an [`Error`]; its code has one HTTP status and one gRPC code, here,
//! so that two protocols cannot disagree.

use std::fmt;
use std::time::Duration;

/// What kind of failure it is; each has one HTTP status and one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong and will be wrong again (400).
    InvalidArgument,
    /// The caller did not show who it is (401).
    Unauthenticated,
    /// The caller is known or foreign, and may not do this (403).
    PermissionDenied,
    /// No such model, version or path (404).
    NotFound,
    /// The path exists, not with this method (405).
    MethodNotAllowed,
    /// The request took too long to arrive (408).
    RequestTimeout,
    /// The state does not allow it: what was asked conflicts with what is (409).
    Conflict,
    /// The body is over the limit (413).
    TooLarge,
    /// The body is compressed or written in a way that nobody knows here (415).
    UnsupportedMediaType,
    /// Valid, but this server does not do it (501).
    Unsupported,
    /// Overload or not ready yet; trying again later may help (503).
    Unavailable,
    /// The deadline passed before an answer (504).
    DeadlineExceeded,
    /// The client left before its answer (499, which nobody sees).
    Cancelled,
    /// A fault of the model or of the gateway (500).
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the declaration.
    pub const ALL: [Self; 14] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unsupported,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The word used in metric labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status. The only table of its kind.
    #[must_use]
    pub fn http_status(self) -> http::StatusCode {
        use http::StatusCode as S;
        match self {
            Self::InvalidArgument => S::BAD_REQUEST,
            Self::Unauthenticated => S::UNAUTHORIZED,
            Self::PermissionDenied => S::FORBIDDEN,
            Self::NotFound => S::NOT_FOUND,
            Self::MethodNotAllowed => S::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => S::REQUEST_TIMEOUT,
            Self::Conflict => S::CONFLICT,
            Self::TooLarge => S::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => S::UNSUPPORTED_MEDIA_TYPE,
            Self::Unsupported => S::NOT_IMPLEMENTED,
            Self::Unavailable => S::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => S::GATEWAY_TIMEOUT,
            Self::Cancelled => S::from_u16(499).unwrap_or(S::REQUEST_TIMEOUT),
            Self::Internal => S::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of gRPC. The only table of its kind.
    #[must_use]
    pub const fn grpc_code(self) -> tonic::Code {
        use tonic::Code as C;
        match self {
            Self::InvalidArgument => C::InvalidArgument,
            Self::Unauthenticated => C::Unauthenticated,
            Self::PermissionDenied => C::PermissionDenied,
            Self::NotFound => C::NotFound,
            Self::MethodNotAllowed | Self::UnsupportedMediaType | Self::Unsupported => {
                C::Unimplemented
            }
            // To a client both are its own time that ran out.
            Self::RequestTimeout | Self::DeadlineExceeded => C::DeadlineExceeded,
            Self::Conflict => C::FailedPrecondition,
            Self::TooLarge => C::ResourceExhausted,
            Self::Unavailable => C::Unavailable,
            Self::Cancelled => C::Cancelled,
            Self::Internal => C::Internal,
        }
    }
}

/// A failure with a message that is safe for the caller, and optionally a
/// detail that is only for the log.
#[derive(Clone, Debug)]
pub struct Error {
    code: ErrorCode,
    message: String,
    detail: Option<String>,
    retry_after: Option<Duration>,
}

/// The result of whatever can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error whose `message` the caller may see. Say what was expected,
    /// what came, where, and what to do.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, retry_after: None }
    }

    /// Shorthand for the commonest kind: the request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A fault on our side.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Adds what only the log may tell.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Says after which time trying again may help.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The kind.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The message for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// After which time trying again may help, where somebody knows.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What only the log may tell.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_code_at_its_own_index() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
        }
    }
}
