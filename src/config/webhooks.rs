//! The file of webhooks: who is told what happens.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde::Deserialize;

use super::raw;
use crate::types::ModelName;

/// The most webhooks.
const WEBHOOKS_MAX: usize = 16;
/// The longest name.
const NAME_CHARS_MAX: usize = 64;
/// How a secret begins, as in the specification "Standard Webhooks".
const SECRET_PREFIX: &str = "whsec_";
/// How many bytes a secret has, by the same.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Who is told what happens.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name in metrics and in the log.
    pub name: String,
    /// Where entries are sent. It may be a secret by itself.
    pub url: Uri,
    /// What is sent.
    pub form: WebhookForm,
    /// What it is signed with.
    pub secret: Option<Vec<u8>>,
    /// Only what concerns these; all for `None`.
    pub models: Option<BTreeSet<ModelName>>,
}

impl fmt::Debug for Webhook {
    /// Without the secret, and without what may be one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookForm {
    /// The entry as it is.
    #[default]
    Json,
    /// A text, as Slack and those like it take.
    Slack,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    webhook: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    url: String,
    #[serde(default)]
    form: WebhookForm,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    models: Option<BTreeSet<String>>,
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, or something in it is wrong; the text says what, and no secret.
pub fn read_webhooks(file: &Path) -> Result<Vec<Webhook>, String> {
    let at = |problem: String| format!("{}: {problem}", file.display());
    let text = raw::read_bounded(file).map_err(|error| at(format!("cannot be read: {error}")))?;
    // What toml prints of the place could show a secret.
    let written: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        at(format!("{line}{}", error.message()))
    })?;
    if written.webhook.len() > WEBHOOKS_MAX {
        let count = written.webhook.len();
        return Err(at(format!("expected at most {WEBHOOKS_MAX} webhooks, got {count}")));
    }
    let mut webhooks: Vec<Webhook> = Vec::new();
    for one in written.webhook {
        let name: String = one.name.chars().take(NAME_CHARS_MAX).collect();
        let one = checked(one, file).map_err(|e| at(format!("webhook {name:?}: {e}")))?;
        if webhooks.iter().any(|other| other.name == one.name) {
            return Err(at(format!("webhook {name:?}: expected another name than the others'")));
        }
        webhooks.push(one);
    }
    Ok(webhooks)
}

fn checked(one: Written, file: &Path) -> Result<Webhook, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if one.name.is_empty() || one.name.len() > NAME_CHARS_MAX || !one.name.chars().all(plain) {
        return Err(format!("name: expected 1 to {NAME_CHARS_MAX} letters, digits or .-_"));
    }
    let url = one.url.parse::<Uri>().ok().filter(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|h| !h.is_empty())
    });
    let url = url.ok_or("url: expected one like https://host/path (it is not shown here)")?;
    let secret = match (one.secret, one.secret_file) {
        (Some(_), Some(_)) => return Err("expected either secret or secret_file, got both".into()),
        (Some(text), None) => Some(secret(text.trim())?),
        (None, Some(path)) => {
            let path = file.parent().unwrap_or(Path::new("")).join(path);
            let text = raw::read_bounded(&path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            Some(secret(text.trim())?)
        }
        (None, None) => None,
    };
    if secret.is_none() && one.form == WebhookForm::Json {
        return Err(format!(
            "expected a secret or secret_file ({SECRET_PREFIX} and the base64 of {} to {} bytes), \
             so that its receiver can tell who sends; only form = \"slack\" may do without",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        ));
    }
    let models = one.models.map(|names| {
        let name = |name: String| name.parse().map_err(|_| format!("models: {name:?} is no name"));
        names.into_iter().map(name).collect::<Result<_, _>>()
    });
    Ok(Webhook { name: one.name, url, form: one.form, secret, models: models.transpose()? })
}

fn secret(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
    bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).ok_or_else(|| {
        format!(
            "secret: expected {SECRET_PREFIX} and the base64 of {} to {} random bytes (it is not \
             shown here)",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn read(text: &str) -> Result<Vec<Webhook>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let file = folder.path().join("webhooks.toml");
        std::fs::write(&file, text).unwrap();
        read_webhooks(&file)
    }

    #[test]
    fn a_file_is_read_and_no_secret_shown() {
        let text = format!(
            "[[webhook]]\nname = \"ci\"\nurl = \"https://a.example/x?y=1\"\nsecret = \"{SECRET}\"\n\
             models = [\"churn\"]\n[[webhook]]\nname = \"team\"\nurl = \"http://127.0.0.1:9/t\"\n\
             form = \"slack\"\n[[webhook]]\nname = \"log\"\nurl = \"http://b\"\n\
             secret_file = \"secret\"\n"
        );
        let webhooks = read(&text).unwrap();
        let [ci, team, log] = &webhooks[..] else { panic!("{webhooks:?}") };
        assert_eq!(ci.secret.as_ref().unwrap().len(), 24);
        assert_eq!((ci.form, team.form), (WebhookForm::Json, WebhookForm::Slack));
        assert_eq!(ci.models.as_ref().unwrap().len(), 1);
        assert_eq!((&team.secret, &log.secret), (&None, &ci.secret));
        assert_eq!(format!("{ci:?}"), "Webhook { name: \"ci\", .. }");
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_without_its_secrets() {
        let one = |rest: &str| format!("[[webhook]]\nname = \"a\"\nurl = \"https://h\"\n{rest}\n");
        let good = one(&format!("secret = \"{SECRET}\""));
        for (text, expected) in [
            (one(""), "webhook \"a\": expected a secret or secret_file"),
            (one("secret = \"whsec_c2hvcnQ=\""), "secret: expected whsec_"),
            (one("secret = \"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""), "secret: expected whsec_"),
            (one(&format!("secret = \"{SECRET}\"\nsecret_file = \"s\"")), "got both"),
            (one("secret_file = \"nowhere\""), "nowhere cannot be read"),
            (one("form = \"slack\"\nmodels = [\"a/b\"]"), "models: \"a/b\" is no name"),
            (one("form = \"teams\""), "line 4: unknown variant `teams`"),
            (one("hidden"), "line 4: "),
            (good.repeat(2), "webhook \"a\": expected another name"),
            (good.replace("https", "ftp"), "url: expected one like"),
            (good.replace("\"a\"", "\"a b\""), "name: expected"),
            (one("form = \"slack\"").repeat(17), "at most 16 webhooks, got 17"),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains(expected), "{text}\n{said}");
            assert!(!said.contains("MfKQ") && !said.contains("c2hv"), "{said}");
        }
        assert!(
            read_webhooks(Path::new("/nowhere/w.toml")).unwrap_err().contains("cannot be read")
        );
    }
}
