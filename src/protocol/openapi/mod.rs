//! The description of the inference API (OpenAPI 3.1), made from the list of
//! paths, the replies' own types, and the codes that an operation can fail with.
//!
//! A path that is added to the list does not compile until `operations` says
//! what it does. The schemas of requests are those of any model: what a model
//! takes is in its metadata, and a request that does not fit it is a 400.

mod operations;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::info::{Info, LicenseBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, Schema};
use utoipa::openapi::{Content, Object, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Type};

use crate::error::ErrorCode;
use crate::protocol::openapi::operations::{Described, described};
use crate::protocol::openapi::schemas::Failure;
use crate::protocol::reply::{self, Reply};
use crate::protocol::route::{PATHS, Path, Takes};

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// The document as it is served; made once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = document().to_pretty_json();
    Bytes::from(text.expect("a document of strings and numbers always serialises"))
});

/// Makes the document, so that no request waits for it.
pub(super) fn prepare() {
    LazyLock::force(&DOCUMENT);
}

/// `GET /v2/openapi.json`.
pub(super) fn reply() -> Reply {
    reply::json_bytes(DOCUMENT.clone())
}

/// The description of the API that the inference listener serves.
#[must_use]
pub fn document() -> OpenApi {
    let mut schemas = Schemas::default();
    let mut paths = Paths::new();
    for path in PATHS {
        let method = match path.takes {
            Takes::Get => HttpMethod::Get,
            Takes::Post => HttpMethod::Post,
        };
        let template = path.template();
        let operation = operation(path, &template, &mut schemas);
        paths.add_path_operation(template, vec![method], operation);
    }
    let components = ComponentsBuilder::new().schemas_from_iter(schemas.0).build();
    let mut info = Info::new("Foreshadow inference API", "1");
    info.description = Some(ABOUT.to_owned());
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0"));
    info.license = Some(license.build());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

const ABOUT: &str = "Predictions and what can be asked about models: Foreshadow's short form \
                     (`/predict`), the Open Inference Protocol (V2) with Triton's extensions, and \
                     TensorFlow Serving's REST API (V1).";

/// Schemas by name, as they are referred to.
#[derive(Default)]
struct Schemas(BTreeMap<String, RefOr<Schema>>);

impl Schemas {
    /// Adds a type and those that it is made of; a reference to it.
    fn add<T: ToSchema>(&mut self) -> Ref {
        let mut parts = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut parts);
        self.0.extend(parts);
        Ref::from_schema_name(T::name())
    }
}

fn operation(path: &Path, template: &str, schemas: &mut Schemas) -> Operation {
    let described = described(path);
    let suffix = match () {
        () if template.contains("{version}") => "_version",
        () if template.contains("{label}") => "_label",
        () if template.starts_with("/predict/") => "_model",
        () => "",
    };
    let mut operation = OperationBuilder::new()
        .operation_id(Some(format!("{}{suffix}", described.id)))
        .tag(described.tag)
        .summary(Some(described.summary))
        .response("200", success(&described, schemas));
    for name in path.names_in_it() {
        operation = operation.parameter(path_parameter(name));
    }
    for (name, about, schema) in described.headers {
        operation = operation.parameter(header_parameter(name, about, schema()));
    }
    if let Some(sent) = &described.body {
        let schema = (sent.schema)(schemas);
        let mut body = RequestBodyBuilder::new()
            .required(Some(if sent.required { Required::True } else { Required::False }))
            .content(JSON, Content::new(Some(schema)));
        if sent.binary {
            body = body.content(OCTETS, binary());
        }
        operation = operation.request_body(Some(body.build()));
    }
    let failure = schemas.add::<Failure>();
    for code in operations::ALWAYS.iter().chain(described.refusals) {
        let status = code.http_status().as_u16().to_string();
        operation = operation.response(status, refusal(*code, &failure));
    }
    // hyper's own, before anything of ours has seen the request.
    let headers = Response::new("The headers are too many or too large");
    operation.response("431", headers).build()
}

fn success(described: &Described, schemas: &mut Schemas) -> Response {
    let schema = (described.reply)(schemas);
    let mut response = ResponseBuilder::new()
        .description("Done")
        .content(JSON, Content::new(Some(schema)))
        .header("X-Request-Id", text("Yours, else ours"));
    if described.binary_reply {
        response = response.content(OCTETS, binary());
        let length = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::Integer)))
            .description(Some("Bytes of JSON in front of the raw tensors"));
        response = response.header("Inference-Header-Content-Length", length.build());
    }
    if described.signed {
        response = response
            .header("X-Model-Version", text("The version that answered"))
            .header("X-Model-Role", text("Why it did: champion, canary or pinned"))
            .header("X-Prediction-Id", text("The answer's id"))
            .header("X-Foreshadow-Anomaly", text("How odd the rows are, for who asks"));
    }
    response.build()
}

fn refusal(code: ErrorCode, failure: &Ref) -> Response {
    let response = ResponseBuilder::new()
        .description(operations::why(code))
        .content(JSON, Content::new(Some(failure.clone())))
        .header("X-Request-Id", text("Yours, else ours"));
    match code {
        ErrorCode::Unavailable => response.header("Retry-After", text("Seconds")),
        ErrorCode::MethodNotAllowed => response.header("Allow", text("The path's methods")),
        _ => response,
    }
    .build()
}

fn text(about: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new().description(Some(about)).build()
}

/// Bytes that the schema says nothing about.
fn binary() -> Content {
    Content::new(None::<Ref>)
}

fn path_parameter(name: &str) -> Parameter {
    let (about, schema) = match name {
        "version" => ("Its number", schemas::version()),
        "label" => {
            let labels = ["champion", "canary", "shadow"].map(|label| json!(label));
            ("What it does for the model", schemas::one_of_texts(labels.into()))
        }
        _ => ("Its name", schemas::text_like("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn header_parameter(name: &str, about: &str, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn the_document_is_golden() {
        let text = document().to_pretty_json().unwrap();
        golden::check("inference-openapi.json", &format!("{text}\n"));
    }

    #[test]
    fn every_path_is_there_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        assert_eq!(document.paths.paths.len(), PATHS.len());
        let operations = document.paths.paths.values().flat_map(|item| [&item.get, &item.post]);
        let mut ids: Vec<_> =
            operations.flatten().map(|operation| operation.operation_id.clone().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), PATHS.len());
    }
}
