//! Many answers and labels out of order, with duplicates and strangers among them.
//!
//! Some thousands each time; `PREDICTIONS=1000000` for what a busy day has, which also
//! says how much memory it took.

use std::sync::Arc;
use std::time::Duration;

use foreshadow::monitor::quality::{Quality, QualitySettings, spawn};
use foreshadow::telemetry::{Answerer, ArmRole, Asked, Keeper, Metrics};
use foreshadow::types::{
    Data, Datatype, Digest, Dim, Feedback as _, GROUPINGS_MAX, Label, LabelSettings, LabelValue,
    ModelName, ModelSettings, OTHER, PredictionId, Receipt, Share, Signature, Tensor, TensorSpec,
    VersionId,
};

/// Labels of one report.
const REPORT: usize = 5_000;
/// Answers between two looks at whether they are stored: fewer than may wait.
const ANSWERS: u64 = 20_000;

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

/// Each id is another one, in no order.
fn id(n: u64) -> PredictionId {
    let mix = |salt: u64| {
        let mut z = n.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    };
    PredictionId(((u128::from(mix(1)) << 64) | u128::from(mix(2))).to_be_bytes())
}

/// The probability that is answered to it: 0.01 to 0.99.
fn probability(n: u64) -> f64 {
    f64::from(u32::try_from(n * 37 % 99).unwrap() + 1) / 100.0
}

/// What turns out to be true of it.
const fn truth(n: u64) -> u64 {
    (n % 5 < 2) as u64
}

/// Every other answer gets its label.
const fn has_label(n: u64) -> bool {
    n % 2 == 1
}

fn keeper(metrics: &Metrics) -> Keeper {
    let labels = LabelSettings {
        keep: Share::ALL,
        classes: vec![],
        wrong_beyond: None,
        wrong_max: None,
        groupings: vec![],
    };
    let scores = TensorSpec::new("p", Datatype::Fp64, vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
    let answerer = Answerer {
        model: model(),
        version: VersionId::new(1).unwrap(),
        digest: Digest::new([1; 32]),
        role: ArmRole::Champion,
        split: None,
        labels: Arc::new(labels),
    };
    metrics.keeper(answerer, &Signature::new(vec![], vec![scores]), &ModelSettings::default())
}

async fn answer(quality: &Quality, keeper: &Keeper, from: u64, to: u64) {
    for n in from..to {
        let p = probability(n);
        let scores = Tensor::new("p", vec![1, 2], Data::Fp64(vec![1.0 - p, p])).unwrap();
        let asked = Asked { id: id(n), key: None, groups: [OTHER; GROUPINGS_MAX] };
        keeper.keep(asked, &[], &[scores]);
    }
    // What is kept is stored before it is shown.
    quality.show(&model(), 1).await.unwrap();
}

fn label(n: u64) -> Label {
    #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
    let value = LabelValue::Number(truth(n) as f64);
    Label { id: id(n), row: 0, value }
}

async fn report(quality: &Quality, labels: &[Label]) -> Receipt {
    let mut all = Receipt::default();
    for labels in labels.chunks(REPORT) {
        let receipt = quality.report(labels.to_vec()).await.unwrap();
        all.joined += receipt.joined;
        all.duplicate += receipt.duplicate;
        all.waiting += receipt.waiting;
        assert_eq!((receipt.refused, receipt.dropped, receipt.late), (0, 0, 0), "{receipt:?}");
    }
    all
}

/// MiB that this process has in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096 / 1024 / 1024
}

#[test]
fn many_answers_and_labels_are_joined_right() {
    let predictions: u64 =
        std::env::var("PREDICTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = QualitySettings {
        folder: folder.path().to_owned(),
        join_within: Duration::from_secs(14 * 24 * 3600),
        bytes_max: u64::MAX,
        keep_figures: Duration::from_secs(30 * 24 * 3600),
        waiting_max: 100_000,
        waiting_for: Duration::from_secs(3600),
    };
    let metrics = Arc::new(Metrics::new());
    let (quality, joining) = spawn(settings, Arc::clone(&metrics)).unwrap();
    let keeper = keeper(&metrics);
    let figures = runtime.block_on(async {
        // Some labels come before anything is known, and a few never belong to anything.
        let early: Vec<_> =
            (0..predictions).filter(|n| has_label(*n) && n % 41 == 0).map(label).collect();
        let strangers: Vec<_> =
            (0..predictions / 100).map(|n| label(predictions + 1 + n)).collect();
        let first = report(&quality, &early).await;
        assert_eq!(first.waiting, u64::try_from(early.len()).unwrap());
        let mut seen = Vec::new();
        for from in (0..predictions).step_by(usize::try_from(ANSWERS).unwrap()) {
            let to = (from + ANSWERS).min(predictions);
            answer(&quality, &keeper, from, to).await;
            // The newest first; each tenth twice.
            let due: Vec<_> = (from..to).rev().filter(|n| has_label(*n) && n % 41 != 0).collect();
            let labels: Vec<_> = due.iter().map(|n| label(*n)).collect();
            let got = report(&quality, &labels).await;
            assert_eq!(got.joined, u64::try_from(labels.len()).unwrap());
            let again: Vec<_> = due.iter().step_by(10).map(|n| label(*n)).collect();
            let got = report(&quality, &again).await;
            assert_eq!(got.duplicate, u64::try_from(again.len()).unwrap());
            seen.push(resident());
        }
        let got = report(&quality, &strangers).await;
        assert_eq!(got.waiting, u64::try_from(strangers.len()).unwrap());
        let (half, end) = (seen[seen.len() / 2], seen[seen.len() - 1]);
        println!("{predictions} answers: {half} MiB after half of them, {end} MiB at the end");
        quality.show(&model(), 1).await.unwrap().versions.remove(0).figures
    });
    let labelled: Vec<_> = (0..predictions).filter(|n| has_label(*n)).collect();
    let count = |test: fn(&u64) -> bool| {
        u64::try_from(labelled.iter().copied().filter(test).count()).unwrap()
    };
    assert_eq!(figures.rows, predictions);
    assert_eq!(figures.labelled_rows, u64::try_from(labelled.len()).unwrap());
    let right = |n: &u64| u64::from(probability(*n) > 0.5) == truth(*n);
    assert_eq!(figures.accuracy.unwrap().count, count(right));
    let loss = |n: &u64| {
        let p = probability(*n);
        -(if truth(*n) == 1 { p } else { 1.0 - p }).ln()
    };
    let losses: f64 = labelled.iter().map(loss).sum();
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let mean = losses / labelled.len() as f64;
    assert!((figures.log_loss.unwrap() - mean).abs() < 1e-9, "{:?} {mean}", figures.log_loss);
    runtime.block_on(joining.stop());
}
