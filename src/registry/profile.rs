//! `profile.json` in a version's folder.

use std::path::Path;
use std::sync::Arc;

use crate::registry::blobs::{PinError, read_text};
use crate::telemetry::GivenProfile;
use crate::types::{Digest, ModelName, Profile};

const FILE: &str = Profile::FILE;
/// The largest, in bytes. One of the most columns and bins has less.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a version's folder has. One that is of something else is told, and changes
/// nothing that serves.
pub(super) fn read(folder: &Path, model: &ModelName, digest: Digest) -> GivenProfile {
    // As all files there are read: without waiting for one that is none.
    let text = match read_text(&folder.join(FILE), BYTES_MAX).map_err(PinError::why) {
        Ok(text) => text?,
        Err(why) => return Some(Err(why)),
    };
    let profile = parse(&text, model, digest);
    Some(profile.map(Arc::new).map_err(|why| format!("{FILE}: {why}")))
}

fn parse(text: &str, model: &ModelName, digest: Digest) -> Result<Profile, String> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    profile.check().map_err(|error| error.message().to_owned())?;
    let again = format!("make it anew with `foreshadow profile {model}/VERSION --data FILE`");
    if profile.model != *model {
        let of = &profile.model;
        return Err(format!("expected one of model {model}, got one of {of}; {again}"));
    }
    if profile.artifact != digest {
        let (expected, got) = (digest.short(), profile.artifact.short());
        return Err(format!("expected one of the artifact {expected}, got one of {got}; {again}"));
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn profile() -> Profile {
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("churn").unwrap(),
            artifact: Digest::new([1; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 0,
            inputs: vec![],
            missing_together: None,
            outputs: vec![],
        }
    }

    #[test]
    fn a_folder_has_one_or_none_or_one_that_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let read = |model: &str, digest| {
            read(folder.path(), &ModelName::new(model).unwrap(), Digest::new([digest; 32]))
        };
        assert!(read("churn", 1).is_none());
        let text = serde_json::to_string(&profile()).unwrap();
        fs::write(folder.path().join(FILE), &text).unwrap();
        assert_eq!(*read("churn", 1).unwrap().unwrap(), profile());
        let again = "make it anew with `foreshadow profile";
        for (model, digest, expected) in [
            ("fraud", 1, "profile.json: expected one of model fraud, got one of churn; "),
            (
                "churn",
                2,
                "profile.json: expected one of the artifact 020202020202, got one of 010101010101; ",
            ),
        ] {
            let why = read(model, digest).unwrap().unwrap_err();
            assert!(why.starts_with(&format!("{expected}{again}")), "{why}");
        }
        fs::write(folder.path().join(FILE), &text[..text.len() / 2]).unwrap();
        let why = read("churn", 1).unwrap().unwrap_err();
        assert!(why.starts_with("profile.json: EOF"), "{why}");
        fs::remove_file(folder.path().join(FILE)).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(folder.path().join(FILE)).status();
        assert!(pipe.unwrap().success());
        let why = read("churn", 1).unwrap().unwrap_err();
        assert_eq!(why, "profile.json is no regular file");
    }
}
