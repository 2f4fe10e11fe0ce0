//! What each request needs. Pure.

use http::Method;

use crate::store::TokenRole;

/// The role that a request needs: to look, a viewer's; to change who answers, an
/// operator's; whatever concerns tokens, an admin's. Single answers with what turned out to
/// be true may be about persons, and who knows an answer's id may report a label for it: to
/// read them an operator's as well.
pub(super) fn needed(method: &Method, path: &str) -> TokenRole {
    let mut segments = path.trim_start_matches('/').split('/');
    match [(); 4].map(|()| segments.next()) {
        [Some("v1"), Some("tokens"), ..] => return TokenRole::Admin,
        [Some("v1"), Some("models"), Some(_), Some("answers")] => return TokenRole::Operator,
        _ => {}
    }
    // To plan changes nothing, but has a body.
    let plans = path.ends_with("/rollout/plan");
    if [Method::GET, Method::HEAD].contains(method) || plans && *method == Method::POST {
        TokenRole::Viewer
    } else {
        TokenRole::Operator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_look_to_change_and_to_hand_out() {
        use TokenRole::{Admin, Operator, Viewer};
        for (method, path, expected) in [
            (Method::GET, "/v1/models", Viewer),
            (Method::GET, "/metrics", Viewer),
            (Method::HEAD, "/v1/models/churn", Viewer),
            (Method::POST, "/v1/models/churn/rollout/plan", Viewer),
            (Method::POST, "/v1/models/churn/rollout", Operator),
            (Method::POST, "/v1/models/churn/rollout/abort", Operator),
            (Method::PUT, "/v1/models/churn/canary", Operator),
            (Method::GET, "/v1/models/churn/anomalies", Viewer),
            (Method::GET, "/v1/models/churn/drift", Viewer),
            (Method::POST, "/v1/models/churn/drift/relearn", Operator),
            (Method::DELETE, "/v1/models/churn/canary", Operator),
            (Method::GET, "/v1/models/churn/answers", Operator),
            (Method::HEAD, "/v1/models/churn/answers", Operator),
            (Method::GET, "/v1/models/answers", Viewer),
            (Method::GET, "/v1/tokens", Admin),
            (Method::POST, "/v1/tokens", Admin),
            (Method::DELETE, "/v1/tokens/eve", Admin),
            (Method::PUT, "/v1/models/churn/rollout/plan", Operator),
            (Method::PATCH, "/nowhere", Operator),
        ] {
            assert_eq!(needed(&method, path), expected, "{method} {path}");
        }
    }
}
