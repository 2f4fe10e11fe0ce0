//! Version files that a gateway must survive (`hostile/make.py` wrote them).

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::error::Error;
use crate::repository::Repository;
use crate::versions::wait_until;

/// What each does, and the file.
const FILES: [(&str, &[u8]); 3] = [
    ("loops", include_bytes!("../hostile/loops.onnx")),
    ("asks for 200 GB", include_bytes!("../hostile/greedy.onnx")),
    ("panics", include_bytes!("../hostile/panics.onnx")),
];

/// What became of the versions.
#[derive(Clone, Debug, Default)]
pub struct Fates {
    /// What each was to do, and why the gateway refused it.
    pub failed: Vec<(String, String)>,
    /// Those that were not refused, or could not be added.
    pub odd: Vec<String>,
}

impl Fates {
    /// Whether each was refused.
    ///
    /// # Errors
    /// If one was not, or could not be added.
    pub fn judge(&self) -> Result<(), Error> {
        match &self.odd[..] {
            [] => Ok(()),
            [first, ..] => {
                let count = self.odd.len();
                Err(Error::new(format!("{count} hostile versions were not refused; {first}")))
            }
        }
    }
}

/// Adds one version after the other until the other end of `over` is dropped;
/// waits for the end of each before the next comes.
pub(crate) fn keep_adding(
    repository: &mut Repository,
    admin: &mut Admin,
    every: Duration,
    over: &Receiver<()>,
) -> Fates {
    let mut fates = Fates::default();
    for (what, file) in FILES.iter().cycle() {
        let began = Instant::now();
        match add(repository, admin, file) {
            Ok(reason) => fates.failed.push(((*what).to_owned(), reason)),
            Err(error) => fates.odd.push(format!("{what}: {error}")),
        }
        let left = every.saturating_sub(began.elapsed());
        if over.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    fates
}

/// The reason for which it is refused.
fn add(repository: &mut Repository, admin: &mut Admin, file: &[u8]) -> Result<String, Error> {
    let version = repository.add(file)?;
    match wait_until(admin, version, &["ready", "retired"]) {
        Ok(()) => Err(Error::new(format!("version {version} was not refused"))),
        Err(error) => {
            let (state, reason) = admin.version_state(version)?;
            repository.remove(version)?;
            if state == "failed" { Ok(reason) } else { Err(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_refused_fails_the_run() {
        let failed = vec![("loops".to_owned(), "time limit".to_owned())];
        let mut fates = Fates { failed, odd: vec![] };
        assert!(fates.judge().is_ok());
        fates.odd.push("panics: version 5 was not refused".to_owned());
        let why = fates.judge().unwrap_err().to_string();
        assert!(why.contains("1 hostile") && why.contains("version 5"), "{why}");
    }
}
