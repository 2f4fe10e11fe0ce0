//! What is kept for labels, and what became of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use prometheus::{GaugeVec, IntCounterVec};

use crate::telemetry::Metrics;
use crate::telemetry::keeper::{Answerer, Keeper, KeptCounters, KeptInbox, inbox};
use crate::telemetry::metrics::Declare;
use crate::types::{LabelSettings, ModelName, ModelSettings, Receipt, Share, Signature, VersionId};

const VERSION: &[&str] = &["model", "version"];
const DROPPED: &[&str] = &["model", "version", "reason"];
const FIGURE: &[&str] = &["model", "version", "role", "figure"];

/// A figure of a version's quality.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityFigure {
    /// The version.
    pub version: String,
    /// Its role.
    pub role: String,
    /// `accuracy`, `auc`, …
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
}

/// What labels say of a version that is loaded, over the last days.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityStanding {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionId,
    /// Of how many answers are wrong; `None` where nobody said how many may be, or no label
    /// has come.
    pub wrong: Option<WrongRate>,
    /// What is unequal between groups, in words; `None` where groups cannot be compared.
    pub unequal: Option<Vec<String>>,
}

/// How many answers were wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrongRate {
    /// Of the labelled rows, 0 to 1.
    pub value: f64,
    /// The lower end of its interval.
    pub at_least: f64,
    /// How many may be.
    pub max: Share,
    /// Labelled rows.
    pub rows: u64,
}

/// All families, and the queue of what is to be stored.
pub(super) struct Labels {
    inbox: Arc<KeptInbox>,
    keeps: AtomicBool,
    kept: IntCounterVec,
    dropped: IntCounterVec,
    stored: IntCounterVec,
    labels: IntCounterVec,
    quality: GaugeVec,
    standing: ArcSwap<Vec<QualityStanding>>,
    /// What each model's owner wants now.
    settings: Mutex<BTreeMap<ModelName, Arc<LabelSettings>>>,
}

impl Labels {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        Self {
            inbox: Arc::new(inbox()),
            keeps: AtomicBool::new(false),
            kept: d.counters(
                "foreshadow_predictions_kept_total",
                "Answered requests that were kept for their labels.",
                VERSION,
            ),
            dropped: d.counters(
                "foreshadow_predictions_dropped_total",
                "Answered requests that should have been kept and were not, and rows beyond \
                 1,024 of one.",
                DROPPED,
            ),
            stored: d.counters(
                "foreshadow_predictions_stored_total",
                "Kept requests by what became of them: stored, or lost since that failed.",
                &["outcome"],
            ),
            labels: d.counters(
                "foreshadow_labels_total",
                "Reported labels by what became of them.",
                &["outcome"],
            ),
            standing: ArcSwap::default(),
            settings: Mutex::default(),
            quality: d.float_gauges(
                "foreshadow_quality",
                "How good answers were, by the labels that came for them.",
                FIGURE,
            ),
        }
    }
}

impl Metrics {
    /// Who keeps what `answerer` answers.
    #[must_use]
    pub fn keeper(
        &self,
        answerer: Answerer,
        signature: &Signature,
        settings: &ModelSettings,
    ) -> Keeper {
        self.labels.keeps.store(true, Relaxed);
        let (model, version) = (answerer.model.as_str(), answerer.version.to_string());
        let dropped = |reason| self.labels.dropped.with_label_values(&[model, &version, reason]);
        let counters = KeptCounters {
            kept: self.labels.kept.with_label_values(&[model, &version]),
            queue_count: dropped("queue_count"),
            queue_bytes: dropped("queue_bytes"),
            rows: dropped("rows"),
        };
        Keeper::new(answerer, signature, settings, Arc::clone(&self.labels.inbox), counters)
    }

    /// Whether answers of any model are or were kept.
    #[must_use]
    pub fn keeps_answers(&self) -> bool {
        self.labels.keeps.load(Relaxed)
    }

    /// What is kept and not stored yet.
    #[must_use]
    pub const fn kept(&self) -> &Arc<KeptInbox> {
        &self.labels.inbox
    }

    /// So many kept requests were stored, or could not be.
    pub fn stored(&self, requests: u64, is_lost: bool) {
        let outcome = if is_lost { "lost" } else { "stored" };
        self.labels.stored.with_label_values(&[outcome]).inc_by(requests);
    }

    /// Counts what became of labels.
    pub fn labelled(&self, receipt: &Receipt) {
        let Receipt { joined, duplicate, conflicting, late, waiting, dropped, refused, .. } =
            *receipt;
        for (outcome, count) in [
            ("joined", joined),
            ("duplicate", duplicate),
            ("conflicting", conflicting),
            ("late", late),
            ("waiting", waiting),
            ("dropped", dropped),
            ("refused", refused),
        ] {
            self.labels.labels.with_label_values(&[outcome]).inc_by(count);
        }
    }

    /// Shows a model's quality in place of what was shown.
    pub fn set_quality(&self, model: &ModelName, figures: &[QualityFigure]) {
        self.remove(&self.labels.quality, model.as_str(), None);
        for QualityFigure { version, role, figure, value } in figures {
            let labels = [model.as_str(), version, role, figure];
            self.labels.quality.with_label_values(&labels).set(*value);
        }
    }

    /// Says what a model's owner wants of its labels from now on.
    pub fn set_label_settings(&self, model: &ModelName, wanted: Option<&Arc<LabelSettings>>) {
        let mut settings = self.labels.settings.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted {
            Some(wanted) => drop(settings.insert(model.clone(), Arc::clone(wanted))),
            None => drop(settings.remove(model)),
        }
    }

    /// What a model's owner wants of its labels now.
    #[must_use]
    pub fn label_settings(&self, model: &ModelName) -> Option<Arc<LabelSettings>> {
        let settings = self.labels.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get(model).cloned()
    }

    /// Says how the versions that are loaded stand by their labels.
    pub fn set_quality_standing(&self, standing: Vec<QualityStanding>) {
        self.labels.standing.store(Arc::new(standing));
    }

    /// How the versions that are loaded stand by their labels.
    #[must_use]
    pub fn quality_standing(&self) -> Arc<Vec<QualityStanding>> {
        self.labels.standing.load_full()
    }

    /// Removes what is shown of a version.
    pub(super) fn remove_kept(&self, model: &str, version: Option<&str>) {
        self.remove(&self.labels.kept, model, version);
        self.remove(&self.labels.dropped, model, version);
        self.remove(&self.labels.quality, model, version);
        if version.is_none() {
            let mut settings = self.labels.settings.lock().unwrap_or_else(PoisonError::into_inner);
            settings.retain(|own, _| own.as_str() != model);
        }
    }
}
