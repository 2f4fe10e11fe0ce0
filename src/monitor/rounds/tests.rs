use std::fs;

use super::*;
use crate::types::{
    Bins, Counts, Data, Datatype, Digest, Dim, Feature, ModelName, ModelSettings, Share, Signature,
    Tensor, TensorSpec, VersionId,
};

/// What the owner says of a model that is watched, or not; nobody looks for odd rows.
pub(in crate::monitor) fn watched(wanted: bool) -> ModelSettings {
    ModelSettings { drift_off: !wanted, odd_rows: Some(Share::ZERO), ..ModelSettings::default() }
}

/// A gateway's monitor whose thread is the test.
struct World {
    root: tempfile::TempDir,
    metrics: Arc<Metrics>,
    rounds: Rounds,
}

impl World {
    fn new(learn_rows: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let settings = Settings {
            tick: Duration::from_secs(1),
            window: Duration::ZERO,
            window_rows: 200,
            learn_rows,
            folder: root.path().join("profiles"),
        };
        let rounds = Rounds::new(settings, Arc::clone(&metrics));
        Self { root, metrics, rounds }
    }

    /// A version that is wanted, with this content.
    fn load(&self, digest: u8) -> Arc<Watch> {
        let spec = TensorSpec::new("x", Datatype::Fp32, vec![Dim::Symbol("N".into())]);
        let signature = Signature::new(vec![spec.clone()], vec![spec]);
        let watch = Watch::new(model(), version(), Digest::new([digest; 32]), signature);
        watch.settle(&watched(true));
        self.metrics.watches().add(&watch);
        watch
    }

    /// A look, and what it shows of the only version.
    fn look(&mut self) -> Option<Arc<DriftView>> {
        let views = self.rounds.round(&BTreeSet::new(), &[]);
        assert!(views.len() <= 1);
        views.into_values().next().map(|shown| shown.view)
    }

    fn standing(&mut self) -> &'static str {
        self.look().unwrap().standing
    }

    fn relearn(&mut self) -> Arc<DriftView> {
        let views = self.rounds.round(&BTreeSet::from([(model(), version())]), &[]);
        Arc::clone(&views.into_values().next().unwrap().view)
    }

    fn has_series(&self) -> bool {
        self.metrics.render().contains("foreshadow_drifting{")
    }

    /// The file that it keeps of this content.
    fn kept(&self, digest: u8) -> std::path::PathBuf {
        let digest = Digest::new([digest; 32]);
        self.root.path().join(format!("profiles/m-{}.json", digest.hex()))
    }
}

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

fn version() -> VersionId {
    VersionId::new(1).unwrap()
}

/// Answers so many rows, evenly spread from `from` to `from + 1`.
fn answer(watch: &Watch, rows: u16, from: f32) {
    for row in 0..rows {
        let value = from + f32::from(row % 50) / 50.0;
        let x = [Tensor::new("x", vec![1], Data::Fp32(vec![value])).unwrap()];
        watch.answered(&x, &x, "id", false);
    }
}

/// A profile of 400 rows, half and half below 0.5 and above.
fn profile(source: &str) -> Arc<Profile> {
    let counts = Counts { bins: vec![200, 200], ..Counts::default() };
    let feature = Feature {
        name: "x".into(),
        tensor: "x".into(),
        column: 0,
        bins: Bins::Bounds(vec![0.0, 0.5, 1.0]),
        counts,
    };
    Arc::new(Profile {
        schema: Profile::SCHEMA,
        model: model(),
        artifact: Digest::new([1; 32]),
        source: source.into(),
        created: "2026-01-01T00:00:00Z".into(),
        rows: 400,
        inputs: vec![feature],
        missing_together: None,
        outputs: vec![],
    })
}

/// Learns, and judges a window.
fn counting(world: &mut World, watch: &Watch) {
    assert_eq!(world.standing(), "learning");
    answer(watch, 400, 0.0);
    assert_eq!(world.standing(), "counting");
    answer(watch, 200, 0.0);
    assert!(world.look().unwrap().last.is_some() && world.has_series());
}

#[test]
fn a_version_that_is_gone_is_forgotten() {
    let mut world = World::new(400);
    let watch = world.load(1);
    counting(&mut world, &watch);
    drop(watch);
    assert!(world.look().is_none());
    assert!(!world.has_series() && world.rounds.known.is_empty());
}

#[test]
fn of_two_lives_of_a_number_the_newest_is_looked_at() {
    let mut world = World::new(400);
    let old = world.load(1);
    counting(&mut world, &old);
    let new = world.load(2);
    assert_eq!(world.standing(), "learning");
    assert!(!world.has_series());
    // The old one is still answering.
    answer(&old, 200, 0.0);
    answer(&new, 300, 0.0);
    assert_eq!(world.look().unwrap().learnt.unwrap().rows, 300);
    answer(&new, 100, 0.0);
    assert_eq!(world.standing(), "counting");
    drop(old);
    assert_eq!(world.standing(), "counting");
}

#[test]
fn what_is_not_watched_any_more_shows_nothing() {
    let mut world = World::new(400);
    let watch = world.load(1);
    counting(&mut world, &watch);
    watch.settle(&watched(false));
    assert_eq!(world.standing(), "off");
    assert!(!world.has_series());
    watch.settle(&watched(true));
    assert_eq!(world.standing(), "counting");
    answer(&watch, 200, 0.0);
    assert!(world.look().is_some() && world.has_series());
    watch.give(Some(Ok(profile("train.csv"))));
    assert_eq!(world.standing(), "counting");
    assert!(!world.has_series());
    answer(&watch, 200, 0.0);
    assert!(world.look().is_some() && world.has_series());
    watch.give(Some(Err("profile.json: EOF".into())));
    let view = world.look().unwrap();
    assert_eq!((view.standing, view.problem.as_deref()), ("resting", Some("profile.json: EOF")));
    assert!(!world.has_series());
}

#[test]
fn what_was_given_is_not_kept() {
    let mut world = World::new(400);
    let watch = world.load(1);
    watch.give(Some(Ok(profile("train.csv"))));
    assert_eq!(world.look().unwrap().reference.as_ref().unwrap().source, "train.csv");
    assert!(!world.kept(1).exists());
    answer(&watch, 100, 0.0);
    // The same again is no news.
    watch.give(Some(Ok(profile("train.csv"))));
    assert_eq!(world.look().unwrap().window_rows, 100);
    // It was wrong, and is removed.
    watch.give(None);
    assert_eq!(world.standing(), "learning");
}

#[test]
fn what_was_learnt_and_cannot_be_used_is_learnt_anew() {
    for broken in ["{", "another signature"] {
        let mut world = World::new(400);
        let text = match broken {
            "{" => "{".to_owned(),
            _ => {
                let mut other = Profile::clone(&profile(LIVE));
                other.inputs[0].tensor = "y".into();
                serde_json::to_string(&other).unwrap()
            }
        };
        fs::create_dir_all(world.root.path().join("profiles")).unwrap();
        fs::write(world.kept(1), text).unwrap();
        let watch = world.load(1);
        counting(&mut world, &watch);
        // The next life has it.
        drop(watch);
        let _watch = world.load(1);
        assert_eq!(world.standing(), "counting", "{broken}");
    }
    let mut world = World::new(0);
    fs::create_dir_all(world.root.path().join("profiles")).unwrap();
    fs::write(world.kept(1), "{").unwrap();
    let _watch = world.load(1);
    let view = world.look().unwrap();
    assert!(view.standing == "resting" && view.problem.is_some(), "{view:?}");
}

#[test]
fn what_was_learnt_can_be_learnt_anew() {
    let mut world = World::new(400);
    let watch = world.load(1);
    counting(&mut world, &watch);
    assert!(world.kept(1).exists());
    let view = world.relearn();
    assert_eq!((view.standing, view.learnt.unwrap().rows), ("learning", 0));
    assert!(!world.kept(1).exists() && !world.has_series());
    answer(&watch, 400, 5.0);
    assert_eq!(world.standing(), "counting");
    assert_eq!(watch.profile().unwrap().inputs[0].counts.below, 0);
    answer(&watch, 200, 5.0);
    assert_eq!(world.look().unwrap().columns[0].state, "steady");
}

#[test]
fn who_may_learn_anew_is_told() {
    let mut world = World::new(400);
    let watch = world.load(1);
    let told = |world: &mut World| {
        let views = world.rounds.round(&BTreeSet::new(), &[]);
        views.into_values().next().map(|shown| shown.relearn)
    };
    assert_eq!(told(&mut world), Some(Relearn::May));
    watch.give(Some(Err("profile.json: EOF".into())));
    assert_eq!(told(&mut world), Some(Relearn::Given));
    watch.settle(&watched(false));
    assert_eq!(told(&mut world), Some(Relearn::Off));
    let mut world = World::new(0);
    let _watch = world.load(1);
    assert_eq!(told(&mut world), Some(Relearn::LearnsNone));
    let key = (model(), version());
    for (own, expected) in [
        (None, "not loaded"),
        (Some(Relearn::Off), "drift = false"),
        (Some(Relearn::Given), "its folder has a profile.json"),
        (Some(Relearn::LearnsNone), "monitor.learn_rows is 0"),
    ] {
        let error = Relearn::check(own, &key).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
    Relearn::check(Some(Relearn::May), &key).unwrap();
}

#[test]
fn any_time_can_be_written() {
    let (epoch, second) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
    assert_eq!(rfc3339(epoch - second), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(epoch + second), "1970-01-01T00:00:01.000Z");
    assert_eq!(rfc3339(epoch + TIME_MAX * 2), "9999-12-31T23:59:59.000Z");
}
