//! What is sent. Pure.

use serde_json::json;

use crate::config::WebhookForm;
use crate::store::AuditEntry;

/// The id of an entry's message: the same whenever it is sent, and another one for
/// another log.
pub(super) fn id(entry: &AuditEntry) -> String {
    let hash = entry.hash.rsplit(':').next().unwrap_or_default();
    format!("audit_{}_{}", entry.number, hash.get(..16).unwrap_or(hash))
}

/// The body, in JSON.
pub(super) fn body(entry: &AuditEntry, form: WebhookForm) -> String {
    match form {
        WebhookForm::Json => {
            json!({"type": kind(entry), "timestamp": entry.time, "data": entry}).to_string()
        }
        WebhookForm::Slack => json!({"text": text(entry)}).to_string(),
    }
}

/// What a rollout decided, and an alert, is told apart from what somebody changed.
fn kind(entry: &AuditEntry) -> &'static str {
    if entry.evidence.is_some() {
        "rollout.step"
    } else if entry.action.starts_with("alert firing: ") {
        "alert.firing"
    } else if entry.action.starts_with("alert resolved: ") {
        "alert.resolved"
    } else {
        "audit.entry"
    }
}

/// A few lines for people. Names in it are what others wrote: none of them shall be
/// taken for a link or for calling somebody.
fn text(entry: &AuditEntry) -> String {
    let AuditEntry { number, model, actor, action, reason, from, to, .. } = entry;
    let what = if model.is_empty() { "foreshadow" } else { model };
    let mut text = format!("*{}*: {} (by {})", plain(what), plain(action), plain(actor));
    if from.is_empty() && to.is_empty() {
        // It is about no model.
    } else if from == to {
        text.push_str(&format!("\n{}", plain(to)));
    } else {
        text.push_str(&format!("\n{} → {}", plain(from), plain(to)));
    }
    if let Some(reason) = reason {
        text.push_str(&format!("\n_{}_", plain(reason)));
    }
    text.push_str(&format!("\nentry {number}"));
    text
}

fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(evidence: Option<&str>) -> AuditEntry {
        AuditEntry {
            number: 17,
            time: "2026-01-02T03:04:05.678Z".into(),
            model: "churn".into(),
            actor: "eve".into(),
            action: "promote 2".into(),
            reason: Some("<!channel> & a week".into()),
            from: "champion 1".into(),
            to: "champion 2".into(),
            evidence: evidence.map(str::to_owned),
            hash: format!("sha256:{}", "ab".repeat(32)),
        }
    }

    #[test]
    fn both_forms_say_it_all() {
        let entry = entry(None);
        assert_eq!(id(&entry), "audit_17_abababababababab");
        let sent: serde_json::Value =
            serde_json::from_str(&body(&entry, WebhookForm::Json)).unwrap();
        assert_eq!(sent["type"], "audit.entry");
        assert_eq!(sent["timestamp"], "2026-01-02T03:04:05.678Z");
        assert_eq!(serde_json::from_value::<AuditEntry>(sent["data"].clone()).unwrap(), entry);
        let sent: serde_json::Value =
            serde_json::from_str(&body(&entry, WebhookForm::Slack)).unwrap();
        assert_eq!(
            sent["text"],
            "*churn*: promote 2 (by eve)\nchampion 1 → champion 2\n_&lt;!channel&gt; &amp; a \
             week_\nentry 17"
        );
    }

    #[test]
    fn what_is_about_no_model_has_no_plans() {
        let (model, from, to) = (String::new(), String::new(), String::new());
        let action = "token ci made: viewer".to_owned();
        let about_none = AuditEntry { model, from, to, action, reason: None, ..entry(None) };
        let sent: serde_json::Value =
            serde_json::from_str(&body(&about_none, WebhookForm::Slack)).unwrap();
        assert_eq!(sent["text"], "*foreshadow*: token ci made: viewer (by eve)\nentry 17");
    }

    #[test]
    fn what_a_rollout_decides_is_told_apart() {
        let sent = body(&entry(Some("{}")), WebhookForm::Json);
        assert!(sent.contains("\"type\":\"rollout.step\""), "{sent}");
    }

    #[test]
    fn an_alert_is_told_apart() {
        for (state, kind) in [("firing", "alert.firing"), ("resolved", "alert.resolved")] {
            let (from, to) = (String::new(), String::new());
            let action = format!("alert {state}: errors");
            let alert = AuditEntry { action, from, to, actor: "monitor".into(), ..entry(None) };
            let sent: serde_json::Value =
                serde_json::from_str(&body(&alert, WebhookForm::Json)).unwrap();
            assert_eq!(sent["type"], kind);
            let text = text(&alert);
            assert!(text.starts_with(&format!("*churn*: alert {state}: errors (by mon")), "{text}");
        }
    }
}
