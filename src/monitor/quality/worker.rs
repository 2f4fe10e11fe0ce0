//! The one thread that reads and writes predictions and labels.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::error::{Error, ErrorCode, Result};
use crate::monitor::quality::book::{Book, day};
use crate::monitor::quality::join::{Join, Rules};
use crate::monitor::quality::{
    AnswersOf, AnswersView, Job, QualitySettings, QualityView, answers, show,
};
use crate::store::{Changes, NewPrediction, PREDICTIONS_FILE, Predictions};
use crate::telemetry::{Kept, Metrics};
use crate::types::{Label, ModelName, PredictionId, Receipt};

/// How often kept answers are stored.
const TICK: Duration = Duration::from_millis(500);
/// How often old ones are removed, and figures shown: every so many ticks.
const TIDY_TICKS: u64 = 20;
/// Answers that are stored at once.
const BATCH: usize = 10_000;
/// Labels that are stored at once; reports are never divided.
const LABELS: usize = 50_000;
/// Old answers that are removed at once.
const PRUNED: u32 = 20_000;
/// And how often one after the other; what is left waits for the next time.
const PRUNES: u32 = 20;

/// The open file and what it says.
struct Open {
    store: Predictions,
    book: Book,
}

/// Stores, joins and shows.
pub(super) struct Worker {
    settings: QualitySettings,
    metrics: Arc<Metrics>,
    open: Option<Open>,
    /// Why it cannot be read or written; said once.
    problem: Option<String>,
    /// Models whose gauges are set.
    shown: BTreeSet<ModelName>,
}

/// A report with the one who waits for its receipt.
type Report = (Vec<Label>, oneshot::Sender<Result<Receipt>>);

impl Worker {
    pub(super) const fn new(settings: QualitySettings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, open: None, problem: None, shown: BTreeSet::new() }
    }

    pub(super) async fn run(
        mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick: u64 = 0;
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.jobs(job, &mut jobs).await,
                    None => break,
                },
                _ = ticks.tick() => {
                    self.store_kept().await;
                    if tick.is_multiple_of(TIDY_TICKS) {
                        self.tidy().await;
                    }
                    tick += 1;
                }
                // An error means that the owner is gone: the same.
                _ = stopped.changed() => break,
            }
        }
        self.store_kept().await;
    }

    /// Does a job and those that wait behind it: reports share a write.
    async fn jobs(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) {
        let (mut next, mut reports, mut labels) = (Some(first), Vec::<Report>::new(), 0);
        while let Some(job) = next {
            match job {
                Job::Report(more, reply) => {
                    labels += more.len();
                    reports.push((more, reply));
                }
                Job::Show(model, days, reply) => {
                    let _ = reply.send(self.show(&model, days).await);
                }
                Job::Answers(asked, turn, reply) => {
                    // Who has left needs no answer.
                    if !reply.is_closed() {
                        let _ = reply.send(self.answers(&asked).await);
                    }
                    drop(turn);
                }
            }
            next = if labels < LABELS { jobs.try_recv().ok() } else { None };
        }
        if !reports.is_empty() {
            self.report(reports).await;
        }
    }

    async fn show(&mut self, model: &ModelName, days: u32) -> QualityView {
        self.store_kept().await;
        let known = self.problem.clone();
        let opened = self.opened().await;
        let problem = opened.as_ref().err().map(|error| error.message().to_owned());
        let problem = problem.or(known);
        let empty = Book::default();
        let book = opened.map_or(&empty, |open| &open.book);
        show::view(book, model, day(now()), days, problem)
    }

    async fn answers(&mut self, asked: &AnswersOf) -> Result<AnswersView> {
        // What was answered before it is asked for is there.
        self.store_kept().await;
        let Open { store, book } = self.opened().await?;
        let page = store.page(&answers::page_of(book, asked)).await?;
        Ok(answers::view(book, asked, &page))
    }

    /// Joins reports; each gets its receipt when all is stored.
    async fn report(&mut self, reports: Vec<Report>) {
        // A label may come right behind its answer.
        self.store_kept().await;
        let (labels, replies): (Vec<_>, Vec<_>) = reports.into_iter().unzip();
        match self.join(labels).await {
            Ok(receipts) => {
                for (reply, receipt) in replies.into_iter().zip(receipts) {
                    self.metrics.labelled(&receipt);
                    // Who left knows nothing, and may report it again.
                    let _ = reply.send(Ok(receipt));
                }
            }
            Err(error) => {
                for reply in replies {
                    let again = Error::new(error.code(), error.message().to_owned());
                    let _ = reply.send(Err(again));
                }
            }
        }
    }

    async fn join(&mut self, reports: Vec<Vec<Label>>) -> Result<Vec<Receipt>> {
        let (rules, metrics) = (self.rules(), Arc::clone(&self.metrics));
        let Open { store, book } = self.opened().await?;
        let ids: HashSet<PredictionId> = reports.iter().flatten().map(|label| label.id).collect();
        let found = store.find(&ids.into_iter().collect::<Vec<_>>()).await?;
        let before: HashMap<_, _> =
            found.iter().map(|stored| (stored.n, stored.prediction.truths.len())).collect();
        let mut found: HashMap<_, _> =
            found.into_iter().map(|stored| (stored.prediction.id, stored)).collect();
        let mut join = Join::default();
        let receipts: Vec<_> = reports
            .into_iter()
            .map(|labels| join.reported(book, rules, labels, &mut found))
            .collect();
        join.take_truths(found, &before);
        store.write(join.changes(book)).await?;
        join.done(book);
        tell(book, &metrics);
        Ok(receipts)
    }

    fn rules(&self) -> Rules {
        let now = now();
        Rules {
            now,
            since: now.saturating_sub(millis(self.settings.join_within)),
            waiting_max: self.settings.waiting_max,
        }
    }

    /// Stores what the request path had kept until now. What comes meanwhile waits for the
    /// next time: there may always be more.
    async fn store_kept(&mut self) {
        let inbox = Arc::clone(self.metrics.kept());
        let mut left = inbox.len();
        while left > 0 {
            let kept: Vec<_> = std::iter::from_fn(|| inbox.pop()).take(left.min(BATCH)).collect();
            if kept.is_empty() {
                return;
            }
            left = left.saturating_sub(kept.len());
            let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
            let stored = self.store(kept).await;
            self.metrics.stored(count, stored.is_err());
            if let Err(error) = stored {
                self.tell(&error);
                return;
            }
            self.problem = None;
        }
    }

    async fn store(&mut self, kept: Vec<Kept>) -> Result<()> {
        let metrics = Arc::clone(&self.metrics);
        let Open { store, book } = self.opened().await?;
        let mut join = Join::default();
        for Kept { id, at, answerer, key, rows } in kept {
            let answerer = book.number(&answerer, store).await?;
            let rows = rows.into_iter().map(|row| (row.answer, row.groups)).collect();
            let prediction = NewPrediction { id, at, answerer, key, rows, truths: Vec::new() };
            let come = book.waiting.get(&id).cloned().unwrap_or_default();
            join.answered(book, prediction, come);
        }
        store.write(join.changes(book)).await?;
        for (id, _) in &join.changes.come {
            book.come(*id);
        }
        let came = join.came.clone();
        join.done(book);
        tell(book, &metrics);
        metrics.labelled(&came);
        Ok(())
    }

    /// The file, opened when there is something to be stored, or something was.
    async fn opened(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            let exists = self.settings.folder.join(PREDICTIONS_FILE).exists();
            if !exists && !self.metrics.keeps_answers() {
                return Err(Error::new(
                    ErrorCode::Conflict,
                    "no model keeps its answers for labels; add a table [labels] to the model.toml \
                     of one",
                ));
            }
            let store = Predictions::open(&self.settings.folder).await?;
            let book = Book::read(&store).await?;
            self.open = Some(Open { store, book });
        }
        let open = self.open.as_mut();
        let open = open.ok_or_else(|| Error::internal("the store of predictions is closed"))?;
        open.book.trials.follow(self.metrics.trials().all());
        Ok(open)
    }

    /// Removes what is too old or too much, and shows figures.
    async fn tidy(&mut self) {
        if self.open.is_none() && !self.settings.folder.join(PREDICTIONS_FILE).exists() {
            return;
        }
        if let Err(error) = self.prune().await {
            self.tell(&error);
        }
        if let Some(open) = &self.open {
            tell(&open.book, &self.metrics);
            let shown = show::show(&open.book, &self.metrics, day(now()));
            for model in self.shown.iter().filter(|model| !shown.contains(*model)) {
                self.metrics.set_quality(model, &[]);
            }
            self.shown = shown;
            let standing = show::standing(&open.book, &self.metrics, day(now()));
            self.metrics.set_quality_standing(standing);
        }
    }

    async fn prune(&mut self) -> Result<()> {
        let (rules, settings) = (self.rules(), self.settings.clone());
        let first_day = day(rules.now.saturating_sub(millis(settings.keep_figures)));
        let waiting_before = rules.now.saturating_sub(millis(settings.waiting_for));
        let Open { store, book } = self.opened().await?;
        // Somewhat later than they are too old to be joined: a label that is late is told so.
        let late = rules.since.saturating_sub(millis(settings.join_within) / 4);
        for _ in 0..PRUNES {
            if store.prune(late, PRUNED).await? < u64::from(PRUNED) {
                break;
            }
        }
        for _ in 0..PRUNES {
            if store.bytes_used().await? <= settings.bytes_max {
                break;
            }
            if store.prune_oldest(PRUNED).await? == 0 {
                break;
            }
        }
        if !book.trials.ended.is_empty() {
            let ended_trials = book.trials.ended.clone();
            store.write(&Changes { ended_trials, ..Changes::default() }).await?;
            book.trials.ended.clear();
        }
        store.forget(waiting_before, first_day).await?;
        book.forget(waiting_before, first_day);
        Ok(())
    }

    /// Says a problem once, until something worked again.
    fn tell(&mut self, error: &Error) {
        if self.problem.as_deref() != Some(error.message()) {
            tracing::error!(detail = error.detail(), "{error}");
            self.problem = Some(error.message().to_owned());
        }
    }
}

/// Tells rollouts what is known of them.
fn tell(book: &Book, metrics: &Metrics) {
    for (model, trial, counts) in book.trials.all() {
        metrics.trials().tell(model, trial, counts);
    }
}

fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
