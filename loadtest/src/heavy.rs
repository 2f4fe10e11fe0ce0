//! A graph of the size of ResNet-50 that is loaded, optimised and retired over
//! and over, while another model answers.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::error::Error;
use crate::graph::{WEIGHTS, resnet50};
use crate::repository::Repository;
use crate::stage::Events;
use crate::versions::{distinct, wait_until};

/// The model that comes and goes; a folder of this name must not be there.
pub const MODEL: &str = "loadtest-resnet50";
/// How often a version's state is asked for.
const POLL: Duration = Duration::from_millis(20);
/// How long the gateway may take to see the model's folder.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// The model in the repository, and its client.
#[derive(Debug)]
pub struct Heavy {
    repository: Repository,
    admin: Admin,
    model: Vec<u8>,
    weights: PathBuf,
    made: u64,
}

/// How loads went.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    /// Time from a version's appearance until it was ready.
    pub times: Vec<Duration>,
    /// Why the first that failed did.
    pub failure: Option<String>,
    /// What happened when.
    pub events: Events,
}

impl Heavy {
    /// Makes the graph and adds its first version, which stays; its load time.
    ///
    /// # Errors
    /// If it cannot be written, or the gateway does not take it.
    pub fn build(models: &Path, admin: &Admin) -> Result<(Self, Duration), Error> {
        // Hidden names are no models; on the same file system it can be linked.
        let weights = models.join(format!(".{MODEL}.data"));
        let wrong = |error: std::io::Error| Error::new(format!("{}: {error}", weights.display()));
        let repository = Repository::create(models, MODEL)?;
        let mut file = BufWriter::new(File::create(&weights).map_err(wrong)?);
        let model = resnet50(&mut file).map_err(wrong)?;
        file.into_inner().map_err(|error| wrong(error.into_error()))?;
        let admin = admin.for_model(MODEL)?;
        let mut heavy = Self { repository, admin, model, weights, made: 0 };
        let began = Instant::now();
        let first = heavy.add()?;
        // The model is unknown until the folder was seen.
        while heavy.admin.version_state(first).is_err() && began.elapsed() < SEEN_MAX {
            sleep(POLL);
        }
        wait_until(&mut heavy.admin, first, &["ready"])?;
        Ok((heavy, began.elapsed()))
    }

    fn add(&mut self) -> Result<u64, Error> {
        self.made += 1;
        let model = distinct(&self.model, self.made);
        self.repository.add_with(&model, &[(WEIGHTS, &self.weights)])
    }

    /// Loads and retires versions until the other end of `over` is dropped,
    /// or as many as asked for were loaded.
    pub(crate) fn keep_loading(&mut self, most: usize, over: &Receiver<()>) -> Loads {
        let mut loads = Loads::default();
        while loads.times.len() < most && over.try_recv() == Err(TryRecvError::Empty) {
            if let Err(error) = self.load(&mut loads, over) {
                loads.failure = Some(error.to_string());
                break;
            }
        }
        loads
    }

    fn load(&mut self, loads: &mut Loads, over: &Receiver<()>) -> Result<(), Error> {
        let began = Instant::now();
        let version = self.add()?;
        loads.events.push((began, format!("load {version}")));
        loop {
            let (state, reason) = self.admin.version_state(version)?;
            if state == "ready" {
                loads.times.push(began.elapsed());
                loads.events.push((Instant::now(), format!("ready {version}")));
                break;
            }
            if state == "failed" {
                return Err(Error::new(format!("version {version} of {MODEL}: {reason}")));
            }
            if over.try_recv() != Err(TryRecvError::Empty) {
                break;
            }
            sleep(POLL);
        }
        self.repository.remove(version)
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        // What is gone already needs no removing.
        let _ = fs::remove_file(&self.weights);
    }
}
