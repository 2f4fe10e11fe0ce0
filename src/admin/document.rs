//! The OpenAPI document: what the handlers declare, and what is the same for
//! all of them.

use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, ToSchema as _};

use crate::admin::reply::ErrorBody;

/// What the handlers are added to.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Foreshadow admin API",
        description = "Who answers for a model, what the others would have answered, and how to change it.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Token),
    security(("token" = []), ()),
)]
pub(super) struct Document;

/// The token, as the document describes it.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let text = "Required where the gateway has a token; a loopback listener may have none.";
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// A model's name, as `types::ModelName` takes it.
const MODEL: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";

/// What every operation may answer as well: the rules for callers, the form of
/// what they send, and a gateway that stops are the same for all.
const REFUSALS: [(&str, &str); 7] = [
    ("400", "Malformed; `error` says what and where"),
    ("401", "No token, or a wrong one"),
    ("403", "A foreign Host or Origin"),
    ("408", "The body did not come in time"),
    ("413", "The body is too large"),
    ("503", "The gateway stops, or its audit log cannot be written"),
    ("504", "No answer in time; what was asked may still happen"),
];

/// Adds to every operation what is the same for all.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            let parameters = operation.parameters.iter_mut().flatten();
            parameters.for_each(constrain);
            let takes_body = operation.request_body.is_some();
            for (status, text) in REFUSALS {
                if takes_body || !matches!(status, "408" | "413") {
                    let responses = &mut operation.responses.responses;
                    responses.entry(status.to_owned()).or_insert_with(|| refusal(text));
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

fn refusal(text: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name(ErrorBody::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    RefOr::T(ResponseBuilder::new().description(text).content("application/json", content).build())
}

/// Says what a path's parameter may be.
fn constrain(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let schema = match &*parameter.name {
        "model" => ObjectBuilder::new().schema_type(Type::String).pattern(Some(MODEL)),
        "version" => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1_usize))
            .maximum(Some(9_007_199_254_740_991_usize)),
        _ => return,
    };
    parameter.schema = Some(RefOr::T(Schema::Object(schema.build())));
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::types::ModelName;

    fn document() -> Value {
        serde_json::to_value(crate::admin::openapi()).unwrap()
    }

    #[test]
    fn every_operation_says_how_it_may_be_refused() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = &operation["responses"];
                let has = |status: &str| responses.get(status).is_some();
                assert!(["400", "403", "504"].into_iter().all(has), "{method} {path}");
                assert_eq!(has("413"), operation.get("requestBody").is_some(), "{method} {path}");
                assert!(!has("default"), "{method} {path}");
            }
        }
    }

    #[test]
    fn names_are_described_as_they_are_taken() {
        let document = document();
        let parameter = &document["paths"]["/v1/models/{model}"]["get"]["parameters"][0];
        assert_eq!(parameter["schema"]["pattern"], super::MODEL);
        let longest = "a".repeat(128);
        for good in ["a", "_", "0.b-c", &longest] {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        let longer = "a".repeat(129);
        for bad in ["", ".a", "-a", "a b", "ä", &longer] {
            assert!(ModelName::new(bad).is_err(), "{bad}");
        }
    }
}
