//! Versions that come, serve and go, one after the other: what is left in the
//! gateway's memory?

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::admin::{Admin, exchange};
use crate::error::Error;
use crate::repository::Repository;
use crate::stop::Stop;
use crate::target::Target;

/// Resident memory is looked at after this many versions.
const SAMPLE_EVERY: u64 = 20;
/// How much it may have grown since the first look, at the end.
const GROWTH_MAX: f64 = 0.10;
/// Versions that stay when the next one comes: one may want to go back.
const KEPT: usize = 2;
/// How often a version's state is asked for.
const POLL: Duration = Duration::from_millis(5);
/// How long a version may take to be ready, or to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many versions, and what each answers.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    /// Versions.
    pub count: u64,
    /// Requests to each while it is champion.
    pub requests: u64,
}

/// Resident memory, in bytes, after so many versions.
#[derive(Clone, Debug, Default)]
pub struct Growth(Vec<(u64, u64)>);

impl Growth {
    /// The last figure over the first.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
        (self.0.len() > 1).then(|| last.1 as f64 / first.1 as f64)
    }

    /// Whether memory stayed, as far as this run can tell.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.ratio().is_some_and(|ratio| ratio <= 1.0 + GROWTH_MAX)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(ratio), [first, .., last]) = (self.ratio(), &self.0[..]) else {
            return writeln!(f, "too few versions to tell: take more than {SAMPLE_EVERY}");
        };
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        writeln!(
            f,
            "{verdict}: resident memory after {} versions is {ratio:.3} of what it was after {}; \
             at most {:.2} is good",
            last.0,
            first.0,
            1.0 + GROWTH_MAX
        )
    }
}

/// Adds versions, promotes each, asks it, and removes those before it.
///
/// # Errors
/// If a version does not become ready, a request fails, or the admin API does
/// not answer. The champion that was found is put back.
pub fn run(
    cycle: Cycle,
    repository: &mut Repository,
    admin: &mut Admin,
    target: &Target,
    stop: &Stop,
    progress: &mut dyn FnMut(&str),
) -> Result<Growth, Error> {
    let found = admin.state()?;
    let artifact = repository.artifact(found.champion)?;
    let clients = Builder::new_current_thread().enable_all().build();
    let clients =
        clients.map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
    let mut growth = Growth::default();
    let mut play = || {
        let mut serving = Vec::new();
        for number in 1..=cycle.count {
            if stop.is_asked() {
                break;
            }
            let version = repository.add(&distinct(&artifact, number))?;
            wait_until(admin, version, &["ready"])?;
            admin.promote(version)?;
            (0..cycle.requests).try_for_each(|i| ask(&clients, target, version, i))?;
            serving.push(version);
            if serving.len() > KEPT {
                let old = serving.remove(0);
                repository.remove(old)?;
                wait_until(admin, old, &["retired"])?;
            }
            if number % SAMPLE_EVERY == 0 {
                let resident = admin.resident_bytes()?;
                growth.0.push((number, resident));
                progress(&line(&growth, number, resident));
            }
        }
        Ok(())
    };
    let played = play();
    // Before an error is returned: it must not leave the plan changed.
    let put_back = admin.put_back(&found);
    played.and(put_back).map(|()| growth)
}

fn line(growth: &Growth, number: u64, resident: u64) -> String {
    let ratio = growth.ratio().map_or_else(String::new, |ratio| format!("  x{ratio:.3}"));
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = resident as f64 / f64::from(1 << 20);
    format!("  {number:>5} versions  {mebibytes:>8.1} MiB resident{ratio}")
}

/// The same model as a file of its own: of a field that comes twice the last
/// one counts, and `doc_string` means nothing to an engine.
pub(crate) fn distinct(artifact: &[u8], number: u64) -> Vec<u8> {
    const DOC_STRING: u8 = 6 << 3 | 2;
    let text = format!("copy {number}");
    let mut copy = artifact.to_vec();
    // Shorter than 128 bytes, whose length is one byte.
    copy.extend([DOC_STRING, u8::try_from(text.len()).unwrap_or(0)]);
    copy.extend(text.as_bytes());
    copy
}

/// Asks for a version's state until it is one of these.
pub(crate) fn wait_until(admin: &mut Admin, version: u64, states: &[&str]) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let (state, reason) = admin.version_state(version)?;
        if states.contains(&&*state) {
            return Ok(());
        }
        if state == "failed" || began.elapsed() > PATIENCE {
            let wanted = states.join(" or ");
            return Err(Error::new(format!(
                "version {version} is {state}, not {wanted}: {reason}"
            )));
        }
        sleep(POLL);
    }
}

fn ask(clients: &Runtime, target: &Target, version: u64, number: u64) -> Result<(), Error> {
    let failed = |why: String| Error::new(format!("a request to version {version}: {why}"));
    let request = target.request(number);
    let answer = clients.block_on(exchange(&target.server, request)).map_err(failed)?;
    if answer.0.is_success() { Ok(()) } else { Err(failed(answer.0.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_judged_by_the_first_look() {
        let growth = |last| Growth(vec![(20, 100), (40, 200), (60, last)]);
        assert!(growth(110).passed() && !growth(111).passed());
        assert!(growth(111).to_string().starts_with("FAIL: resident memory after 60 versions"));
        assert!(!Growth(vec![(20, 100)]).passed());
    }

    #[test]
    fn copies_differ_at_the_end_only() {
        assert_eq!(distinct(b"model", 7), b"model\x32\x06copy 7");
    }
}
