//! Cheap requests that came at the same time, run as one batch on the thread that
//! read them.
//!
//! The first becomes the leader. It lets the thread's other tasks go first, once:
//! each that has a request of the same version puts it down here and waits. Then
//! the leader takes what lies here, hands the lead over if something is left,
//! runs its batch, and answers everybody in it. No timer, no other thread.
//!
//! The lead is a value: whoever drops it unused (because its client left) hands
//! it to the next, so nobody waits for a leader that is gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::serving::batch::{Next, decide};
use crate::serving::crowd::Crowd;
use crate::serving::job::{self, Job, Said};
use crate::serving::{Completed, LoadedVersion};
use crate::types::thread;

/// Threads beyond this number share their places.
const SHARDS: usize = 32;

/// Where the cheap requests of one version meet, by thread: to wait for another
/// thread would cost more than it gains.
#[derive(Default)]
pub(super) struct Combiner {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
pub(super) struct Shard {
    pub(super) crowd: Crowd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Somebody will run what waits.
    led: bool,
}

impl Combiner {
    /// The calling thread's place.
    pub(super) fn shard(&self) -> (usize, &Shard) {
        let number = thread::number() % SHARDS;
        (number, &self.shards[number])
    }

    /// The end of a look that began in this place.
    pub(super) fn looked(&self, number: usize, arrived: u32) {
        self.shards[number].crowd.looked(arrived);
    }
}

/// The duty to run what waits in a shard. Dropped, it goes to the next.
pub(super) struct Lead {
    version: Arc<LoadedVersion>,
    shard: usize,
    /// It is still ours.
    held: bool,
}

/// Runs a request together with those of its version that come meanwhile.
pub(super) async fn run(
    shard: usize,
    job: impl FnOnce(oneshot::Sender<Said>) -> Job,
) -> Result<Completed> {
    let (reply, mut answer) = oneshot::channel();
    if let Some(lead) = Lead::enter(shard, job(reply)) {
        tokio::task::yield_now().await;
        lead.run();
    }
    loop {
        match answer.await {
            Ok(Said::Done(done)) => return done,
            Ok(Said::Lead(next, lead)) => {
                lead.run();
                answer = next;
            }
            Err(_) => return Err(Error::internal("a batch ended before its answer")),
        }
    }
}

impl Lead {
    /// Puts a request down; the lead, if nobody has it.
    fn enter(shard: usize, job: Job) -> Option<Self> {
        let version = Arc::clone(&job.version);
        let mut state = version.combiner().shards[shard].lock();
        state.waiting.push_back(job);
        let first = !std::mem::replace(&mut state.led, true);
        drop(state);
        first.then_some(Self { version, shard, held: true })
    }

    fn place(&self) -> &Shard {
        &self.version.combiner().shards[self.shard]
    }

    /// Runs the first batch of what waits.
    fn run(mut self) {
        let (late, batch) = self.take();
        // Another thread may take the rest while this one runs.
        self.pass_on();
        late.into_iter().for_each(Job::late);
        job::run(batch);
    }

    fn take(&self) -> (Vec<Job>, Vec<Job>) {
        let place = self.place();
        let mut state = place.lock();
        place.crowd.came(u32::try_from(state.waiting.len()).unwrap_or(u32::MAX));
        let decision = decide(state.waiting.make_contiguous(), Instant::now());
        let batch = match decision.next {
            Next::Run(batch) => batch,
            Next::WaitUntil(_) | Next::Nothing => Vec::new(),
        };
        let [cancelled, late, batch] =
            extract(&mut state.waiting, [&decision.cancelled, &decision.late, &batch]);
        drop(state);
        cancelled.into_iter().for_each(Job::left);
        (late, batch)
    }

    /// Gives the lead to the first that waits, or back if nobody does.
    fn pass_on(&mut self) {
        while std::mem::take(&mut self.held) {
            let mut state = self.place().lock();
            let Some(first) = state.waiting.front_mut() else {
                state.led = false;
                return;
            };
            let (reply, answer) = oneshot::channel();
            let old = std::mem::replace(&mut first.reply, reply);
            drop(state);
            let (version, shard) = (Arc::clone(&self.version), self.shard);
            let lead = Self { version, shard, held: true };
            if let Err(Said::Lead(_, mut lead)) = old.send(Said::Lead(answer, lead)) {
                // Its client has left: it stays, to be counted by who takes it,
                // and must not be asked again.
                lead.held = false;
                self.skip_first();
                self.held = true;
            }
        }
    }

    /// Takes the first out, whose client has left.
    fn skip_first(&self) {
        let gone = self.place().lock().waiting.pop_front();
        gone.into_iter().for_each(Job::left);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.pass_on();
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the jobs at these places out of a queue; each list is ascending, and no
/// place is in two of them.
pub(super) fn extract<const N: usize>(
    queue: &mut VecDeque<Job>,
    places: [&[usize]; N],
) -> [Vec<Job>; N] {
    // The common case: the whole queue, or its beginning.
    let mut taken = places.map(|places| Vec::with_capacity(places.len()));
    let count: usize = places.iter().map(|places| places.len()).sum();
    let mut ends = [0; N];
    let last = places.iter().filter_map(|places| places.last()).max().map_or(0, |last| last + 1);
    let mut kept = Vec::with_capacity(last - count);
    for (place, job) in queue.drain(..last).enumerate() {
        let list = (0..N).find(|list| places[*list].get(ends[*list]) == Some(&place));
        match list {
            Some(list) => {
                ends[list] += 1;
                taken[list].push(job);
            }
            None => kept.push(job),
        }
    }
    kept.into_iter().rev().for_each(|job| queue.push_front(job));
    taken
}
