//! What each operation does, takes, gives, and can fail with.

use utoipa::openapi::{Object, Ref};

use crate::error::ErrorCode;
use crate::protocol::openapi::Schemas;
use crate::protocol::openapi::schemas::{
    self, Document, FeedbackRequest, Granted, IndexRequest, InferReply, InferRequest, PredictReply,
    PredictRequest, V1PredictReply, V1PredictRequest, WishRequest,
};
use crate::protocol::route::{Path, Route, V1Verb, Verb};
use crate::protocol::{v1, v2};
use crate::types::{Receipt, Wish};

/// One operation.
pub(super) struct Described {
    /// Its name for programs, without what the path adds.
    pub(super) id: &'static str,
    /// Whose protocol it is.
    pub(super) tag: &'static str,
    /// What it does.
    pub(super) summary: &'static str,
    /// Headers that mean something, with their schemas.
    pub(super) headers: &'static [Header],
    /// Its body, if it takes one.
    pub(super) body: Option<Sent>,
    /// The schema of its reply.
    pub(super) reply: Named,
    /// Whether the reply may be JSON and raw tensors behind it.
    pub(super) binary_reply: bool,
    /// Whether the reply says who answered.
    pub(super) signed: bool,
    /// What it can fail with, besides [`ALWAYS`].
    pub(super) refusals: &'static [ErrorCode],
}

/// A body.
pub(super) struct Sent {
    /// Its schema.
    pub(super) schema: Named,
    /// Whether it must be there.
    pub(super) required: bool,
    /// Whether it may be JSON and raw tensors behind it.
    pub(super) binary: bool,
}

/// Adds a schema; a reference to it.
type Named = fn(&mut Schemas) -> Ref;

/// Name, what it means, and its schema.
type Header = (&'static str, &'static str, fn() -> Object);

/// What every operation can fail with.
pub(super) const ALWAYS: &[ErrorCode] =
    &[ErrorCode::InvalidArgument, ErrorCode::MethodNotAllowed, ErrorCode::Internal];

/// What a prediction can fail with.
const PREDICTION: &[ErrorCode] = &[
    ErrorCode::PermissionDenied,
    ErrorCode::NotFound,
    ErrorCode::RequestTimeout,
    ErrorCode::TooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Unavailable,
    ErrorCode::DeadlineExceeded,
];

/// What a question about a model can fail with.
const QUESTION: &[ErrorCode] = &[ErrorCode::NotFound, ErrorCode::Unavailable];

/// What a body that is no prediction can fail with.
const COMMAND: &[ErrorCode] = &[
    ErrorCode::RequestTimeout,
    ErrorCode::TooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Unavailable,
];

/// What labels can fail with.
const FEEDBACK: &[ErrorCode] = &[
    ErrorCode::RequestTimeout,
    ErrorCode::Conflict,
    ErrorCode::TooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Unavailable,
];

/// What a wish for a model can fail with.
const WISH: &[ErrorCode] = &[
    ErrorCode::Unauthenticated,
    ErrorCode::PermissionDenied,
    ErrorCode::NotFound,
    ErrorCode::RequestTimeout,
    ErrorCode::Conflict,
    ErrorCode::TooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Unavailable,
];

/// What a probe can be told.
const PROBE: &[ErrorCode] = &[ErrorCode::Unavailable];

/// When a code is the answer.
pub(super) const fn why(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidArgument => "The request is wrong; the error says where and how",
        ErrorCode::Unauthenticated => "The caller did not show who it is",
        ErrorCode::PermissionDenied => "The caller, or any request, may not do this",
        ErrorCode::NotFound => "No such model, version, label or path",
        ErrorCode::MethodNotAllowed => "The path takes other methods",
        ErrorCode::RequestTimeout => "The body did not arrive in time",
        ErrorCode::Conflict => "What is does not allow it",
        ErrorCode::TooLarge => "The body is over the limit",
        ErrorCode::UnsupportedMediaType => "The body is compressed in a way that is not known here",
        ErrorCode::Unsupported => "Valid, but not implemented here",
        ErrorCode::Unavailable => "Overload, or not ready; try again after Retry-After",
        ErrorCode::DeadlineExceeded => "The request's time passed before its answer",
        ErrorCode::Cancelled => "The client left",
        ErrorCode::Internal => "The model or the gateway failed",
    }
}

const KEY: Header =
    ("X-Routing-Key", "What the split goes by: the same key meets the same version", schemas::text);
const ROLE: Header =
    ("X-Foreshadow-Role", "The role that must answer, where the model allows it", schemas::roles);
const TIME: Header = (
    "X-Foreshadow-Timeout",
    "The time for an answer: `30s`, and any other duration as people write it",
    schemas::seconds,
);
const ID: Header = ("X-Request-Id", "Comes back with the reply", schemas::text);
const JSON_LENGTH: Header = (
    "Inference-Header-Content-Length",
    "Bytes of JSON in front of raw tensors; 0 where the body is the only input",
    schemas::whole_number,
);

const ODDNESS: Header = (
    "X-Foreshadow-Anomaly",
    "Whatever it says, the reply has one, too, which tells how odd the rows are",
    schemas::text,
);

/// Headers of a prediction.
const ASKED: &[Header] = &[KEY, ROLE, TIME, ID, ODDNESS];
/// Headers of a prediction that may be binary.
const ASKED_BINARY: &[Header] = &[KEY, ROLE, TIME, ID, ODDNESS, JSON_LENGTH];

/// Something that can be asked.
const fn question(
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    reply: Named,
    refusals: &'static [ErrorCode],
) -> Described {
    Described {
        id,
        tag,
        summary,
        headers: &[ID],
        body: None,
        reply,
        binary_reply: false,
        signed: false,
        refusals,
    }
}

/// Something that is asked or wished for in a body, which may be empty.
const fn command(
    id: &'static str,
    summary: &'static str,
    (request, reply): (Named, Named),
    refusals: &'static [ErrorCode],
) -> Described {
    let body = Some(Sent { schema: request, required: false, binary: false });
    Described { body, ..question(V2, id, summary, reply, refusals) }
}

/// A prediction in JSON.
const fn prediction(
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    (request, reply): (Named, Named),
) -> Described {
    Described {
        id,
        tag,
        summary,
        headers: ASKED,
        body: Some(Sent { schema: request, required: true, binary: false }),
        reply,
        binary_reply: false,
        signed: true,
        refusals: PREDICTION,
    }
}

/// What stands at a path.
pub(super) fn described(path: &Path) -> Described {
    const OWN: &str = "predict";
    match path.route() {
        Route::Predict { .. } => {
            let forms: (Named, Named) =
                (Schemas::add::<PredictRequest>, Schemas::add::<PredictReply>);
            prediction(OWN, "predict", "Predict for rows or columns", forms)
        }
        Route::V1 { verb, .. } => v1_model(verb),
        Route::V1Models => {
            question(V1, "v1_models", "The models' names", Schemas::add::<v1::status::Models>, &[])
        }
        Route::V2Models => {
            question(V2, "v2_models", "The models' names", Schemas::add::<v1::status::Models>, &[])
        }
        Route::Alive => question(
            V1,
            "v1_alive",
            "Whether the server lives",
            Schemas::add::<v1::status::Alive>,
            &[],
        ),
        Route::Model { verb, .. } => v2_model(verb),
        Route::Statistics => question(
            V2,
            "v2_stats",
            "What the versions of all models did so far",
            Schemas::add::<v2::stats::All>,
            &[],
        ),
        Route::Index => command(
            "v2_index",
            "The versions of all models, and whether they answer",
            (Schemas::add::<IndexRequest>, Schemas::add::<v2::repository::Index>),
            COMMAND,
        ),
        Route::Feedback => Described {
            tag: OWN,
            body: Some(Sent {
                schema: Schemas::add::<FeedbackRequest>,
                required: true,
                binary: false,
            }),
            ..command(
                "feedback",
                "Report what turned out to be true",
                (Schemas::add::<FeedbackRequest>, Schemas::add::<Receipt>),
                FEEDBACK,
            )
        },
        Route::Wish { wish, .. } => {
            let (id, summary) = match wish {
                Wish::Load => ("v2_load", "Load a model, and try again what failed"),
                Wish::Unload => ("v2_unload", "Unload a model"),
            };
            let forms: (Named, Named) = (Schemas::add::<WishRequest>, Schemas::add::<Granted>);
            command(id, summary, forms, WISH)
        }
        Route::ServerMetadata => question(
            V2,
            "v2_server",
            "What the server is, and what it can do",
            Schemas::add::<v2::metadata::Server>,
            &[],
        ),
        Route::Live => question(
            V2,
            "v2_live",
            "Whether the server lives",
            Schemas::add::<v2::metadata::Live>,
            &[],
        ),
        Route::Ready => question(
            V2,
            "v2_ready",
            "Whether the server wants requests",
            Schemas::add::<v2::metadata::Ready<'_>>,
            PROBE,
        ),
        Route::Document => {
            question("description", "openapi", "This document", Schemas::add::<Document>, &[])
        }
    }
}

const V1: &str = "v1";
const V2: &str = "v2";

fn v1_model(verb: V1Verb) -> Described {
    match verb {
        V1Verb::Status => question(
            V1,
            "v1_status",
            "The versions that are ready",
            Schemas::add::<v1::status::Status<'_>>,
            QUESTION,
        ),
        V1Verb::Metadata => question(
            V1,
            "v1_metadata",
            "Inputs and outputs",
            Schemas::add::<v1::metadata::Metadata<'_>>,
            QUESTION,
        ),
        V1Verb::Predict => {
            let forms: (Named, Named) =
                (Schemas::add::<V1PredictRequest>, Schemas::add::<V1PredictReply>);
            prediction(V1, "v1_predict", "Predict for rows or columns", forms)
        }
    }
}

fn v2_model(verb: Verb) -> Described {
    match verb {
        Verb::Metadata => question(
            V2,
            "v2_model",
            "Inputs and outputs",
            Schemas::add::<v2::metadata::Model<'_>>,
            QUESTION,
        ),
        Verb::Ready => question(
            V2,
            "v2_model_ready",
            "Whether the model answers",
            Schemas::add::<v2::metadata::Ready<'_>>,
            QUESTION,
        ),
        Verb::Config => question(
            V2,
            "v2_model_config",
            "The model's configuration, as Triton has it",
            Schemas::add::<v2::config::ModelConfig>,
            QUESTION,
        ),
        Verb::Statistics => question(
            V2,
            "v2_model_stats",
            "What the model's versions did so far",
            Schemas::add::<v2::stats::All>,
            QUESTION,
        ),
        Verb::Infer => {
            let forms: (Named, Named) = (Schemas::add::<InferRequest>, Schemas::add::<InferReply>);
            Described {
                headers: ASKED_BINARY,
                body: Some(Sent { schema: forms.0, required: true, binary: true }),
                binary_reply: true,
                ..prediction(V2, "v2_infer", "Predict for tensors", forms)
            }
        }
    }
}
