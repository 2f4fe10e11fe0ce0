use std::collections::BTreeSet;

use super::*;
use crate::analysis::psi_bound;
use crate::monitor::rounds::Rounds;
use crate::monitor::rounds::tests::watched;
use crate::monitor::{DriftView, ModelStanding, Settings};
use crate::types::{
    Bins, Counts, Data, Datatype, Digest, Dim, Feature, ModelName, Signature, Tensor, TensorSpec,
};

const WHOLE: Whole = Whole { time: Duration::from_secs(60), rows: 400 };

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

fn id(version: u64) -> VersionId {
    VersionId::new(version).unwrap()
}

fn signature(output: &str) -> Signature {
    let spec = |name: &str| TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into())]);
    Signature::new(vec![spec("x")], vec![spec(output)])
}

/// Of 400 rows, in two bins each.
fn profile() -> Profile {
    let feature = |name: &str| Feature {
        name: name.into(),
        tensor: name.into(),
        column: 0,
        bins: Bins::Bounds(vec![0.0, 0.5, 1.0]),
        counts: Counts { bins: vec![200, 200], ..Counts::default() },
    };
    Profile {
        schema: Profile::SCHEMA,
        model: model(),
        artifact: Digest::new([1; 32]),
        source: "train.csv".into(),
        created: "2026-01-01T00:00:00Z".into(),
        rows: 400,
        inputs: vec![feature("x")],
        missing_together: None,
        outputs: vec![feature("y")],
    }
}

mod both {
    use super::*;

    const fn minute(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    /// So many rows so far: all inputs alike, so many of the outputs in the upper bin.
    fn read(rows: u64, upper: u64) -> FeatureSnapshot {
        let places =
            |upper| Counts { bins: vec![rows - upper, upper], ..Counts::default() }.by_place();
        FeatureSnapshot { rows, inputs: vec![places(rows / 2)], outputs: vec![places(upper)] }
    }

    fn half() -> Option<Share> {
        "50%".parse().ok()
    }

    /// The champion has counted 1,000 rows before.
    fn new() -> Both {
        let common = Common::new(&profile(), &signature("y"), &signature("y"));
        Both::new(common, WHOLE, half(), Duration::ZERO, read(1000, 500))
    }

    fn words(both: &Both) -> Vec<&'static str> {
        both.columns().iter().map(|column| word(column.drift)).collect()
    }

    #[test]
    fn windows_of_both_close_together_when_both_have_rows_enough() {
        let mut both = new();
        let cases = [
            // The champion's rows do, and the canary's do not; and the reverse.
            (minute(5), read(399, 199), read(9000, 4500), (399, 8000), None),
            (minute(5), read(900, 450), read(1399, 700), (900, 399), None),
            (minute(6), read(900, 450), read(1400, 700), (0, 0), Some((900, 400))),
            // Rows at once, and no time.
            (minute(6), read(1900, 950), read(9400, 4700), (1000, 8000), None),
            (minute(7), read(1900, 950), read(9400, 4700), (0, 0), Some((1000, 8000))),
        ];
        for (now, canary, champion, rows, closed) in cases {
            let came = match both.step(now, canary, &champion, half()) {
                Step::Closed(Closed { rows, .. }, champion_rows) => Some((rows, champion_rows)),
                Step::Goes => None,
                Step::Forgot => panic!("forgotten"),
            };
            assert_eq!((came, both.rows), (closed, rows));
        }
        assert_eq!(words(&both), ["alike", "alike"]);
    }

    #[test]
    fn the_champions_window_is_the_reference_and_not_its_profile() {
        let mut both = new();
        let (mut canary, mut champion) = ((0, 0), (1000, 500));
        let mut step = |both: &mut Both, n, canary_upper, champion_upper| {
            canary = (canary.0 + 500, canary.1 + canary_upper);
            champion = (champion.0 + 4500, champion.1 + champion_upper);
            let (canary, champion) = (read(canary.0, canary.1), read(champion.0, champion.1));
            let step = both.step(minute(n), canary, &champion, half());
            assert_eq!(step, Step::Closed(Closed { rows: 500, time: minute(1) }, 4500));
            words(both)[1]
        };
        assert_eq!(words(&both), ["waiting", "waiting"]);
        // Both are far from the profile, and alike.
        assert_eq!(step(&mut both, 1, 450, 4050), "alike");
        for (n, expected) in [(2, "apart"), (3, "apart"), (4, "different")] {
            assert_eq!(step(&mut both, n, 250, 4050), expected);
            assert_eq!(words(&both)[0], "alike");
        }
        let found = both.columns()[1].found.unwrap().difference.unwrap();
        assert!(found.psi > 0.5, "{found:?}");
        // Rows of both count for the bound.
        let expected = psi_bound(Level::DRIFT, 2, 4500, 500);
        assert!((found.bound - expected).abs() < 1e-12, "{found:?}");
        assert_eq!(step(&mut both, 5, 450, 4050), "different");
        assert_eq!(step(&mut both, 6, 450, 4050), "alike");
    }

    #[test]
    fn the_bound_knows_how_few_rows_both_have() {
        let mut few = Both {
            whole: Whole { rows: 200, ..WHOLE },
            windows: Windows::new(
                Whole { rows: 200, ..WHOLE },
                Level::DRIFT,
                &profile(),
                Duration::ZERO,
                FeatureSnapshot::default(),
            ),
            ..new()
        };
        let bins = |rows: u64| vec![vec![0, 0, 0, 0, 0, rows / 2, rows / 2, 1, 1, 1, 1, 1, 1, 1]];
        let wide = |rows: u64| FeatureSnapshot { rows, inputs: bins(rows), outputs: vec![] };
        few.base = FeatureSnapshot::default();
        let step = few.step(minute(1), wide(200), &wide(10_000), half());
        assert!(matches!(step, Step::Closed(..)), "{step:?}");
        let found = few.columns()[0].found.unwrap().difference.unwrap();
        let expected = psi_bound(Level::DRIFT, 9, 10_007, 207);
        assert!((found.bound - expected).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn with_another_weight_the_window_begins_anew_and_what_was_found_stands() {
        let mut both = new();
        let closed = both.step(minute(1), read(400, 400), &read(1400, 700), half());
        assert!(matches!(closed, Step::Closed(..)));
        let found = both.columns().to_vec();
        let weight = "10%".parse().ok();
        let step = both.step(minute(2), read(700, 700), &read(1700, 850), weight);
        assert_eq!((step, both.rows, both.columns()), (Step::Goes, (0, 0), &*found));
        // What came before it is in no window.
        let step = both.step(minute(3), read(1099, 1099), &read(5000, 2500), weight);
        assert_eq!((step, both.rows), (Step::Goes, (399, 3300)));
        let step = both.step(minute(3), read(1100, 1100), &read(5000, 2500), weight);
        assert_eq!(step, Step::Closed(Closed { rows: 400, time: minute(1) }, 3300));
    }

    #[test]
    fn what_was_found_is_forgotten_when_either_gets_no_rows_any_more() {
        for (canary, champion) in [((401, 401), (9000, 4500)), ((9000, 9000), (1401, 700))] {
            let mut both = new();
            let closed = both.step(minute(10), read(400, 400), &read(1400, 700), half());
            assert!(matches!(closed, Step::Closed(..)));
            let (canary, champion) = (read(canary.0, canary.1), read(champion.0, champion.1));
            for n in [11, 40] {
                assert_eq!(both.step(minute(n), canary.clone(), &champion, half()), Step::Goes);
            }
            assert_eq!(words(&both), ["alike", "apart"]);
            let step = both.step(minute(41), canary.clone(), &champion, half());
            assert_eq!((step, words(&both)), (Step::Forgot, vec!["waiting", "waiting"]));
            assert_eq!(both.step(minute(99), canary, &champion, half()), Step::Goes);
        }
    }
}

/// A gateway's monitor whose thread is the test, with a champion and a canary.
struct World {
    _root: tempfile::TempDir,
    metrics: Arc<Metrics>,
    rounds: Rounds,
    /// Champion and canary.
    roles: (u64, Option<u64>),
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
        Self { _root: root, metrics, rounds, roles: (1, Some(2)) }
    }

    fn load(&self, version: u64, signature: Signature) -> Arc<Watch> {
        let content = u8::try_from(version).unwrap();
        let watch = Watch::new(model(), id(version), Digest::new([content; 32]), signature);
        watch.settle(&watched(true));
        self.metrics.watches().add(&watch);
        watch
    }

    /// Version 1 with a profile, and version 2 that learns its own.
    fn with_both() -> (Self, Arc<Watch>, Arc<Watch>) {
        let world = Self::new(1000);
        let (champion, canary) = (world.load(1, signature("y")), world.load(2, signature("y")));
        champion.give(Some(Ok(Arc::new(profile()))));
        (world, champion, canary)
    }

    fn look_with(&mut self, relearn: &BTreeSet<(ModelName, VersionId)>) -> Vec<Arc<DriftView>> {
        let standing = ModelStanding {
            model: model(),
            champion: Some(id(self.roles.0)),
            canary: self.roles.1.map(id),
            weight: "50%".parse().ok(),
            wants_champion: true,
            failed: vec![],
        };
        let views = self.rounds.round(relearn, &[standing]);
        views.into_values().map(|shown| shown.view).collect()
    }

    /// What is shown of this version against its champion.
    fn against(&mut self, version: u64) -> Option<AgainstView> {
        let views = self.look_with(&BTreeSet::new());
        views.iter().find(|view| view.version == id(version))?.against_champion.clone()
    }

    /// Why version 2 cannot be compared.
    fn problem(&mut self) -> String {
        let view = self.against(2).unwrap();
        assert!(view.columns.is_empty() && view.last.is_none(), "{view:?}");
        view.problem.unwrap()
    }

    fn has_series(&self) -> bool {
        self.metrics.render().contains("foreshadow_canary_different{")
    }
}

/// Answers so many rows with values evenly spread from 0 to 1, and this more.
fn answer(watch: &Watch, rows: u16, more: f32) {
    for row in 0..rows {
        let value = f32::from(row % 50) / 50.0;
        let x = Tensor::new("x", vec![1], Data::Fp32(vec![value])).unwrap();
        let y = Tensor::new("y", vec![1], Data::Fp32(vec![value + more])).unwrap();
        watch.answered(&[x], &[y], "id", false);
    }
}

fn states(view: &AgainstView) -> Vec<(&'static str, &'static str)> {
    view.columns.iter().map(|column| (column.kind, column.state)).collect()
}

/// Has version 2 differ for one window.
fn apart(world: &mut World, champion: &Watch, canary: &Watch) -> AgainstView {
    assert!(world.against(2).unwrap().problem.is_none());
    answer(champion, 300, 0.0);
    answer(canary, 200, 0.4);
    let view = world.against(2).unwrap();
    assert_eq!(states(&view), [("input", "alike"), ("output", "apart")], "{view:#?}");
    assert!(world.has_series());
    view
}

#[test]
fn a_canary_that_answers_otherwise_differs_and_gets_the_same_to_answer() {
    let (mut world, champion, canary) = World::with_both();
    let view = apart(&mut world, &champion, &canary);
    let last = view.last.unwrap();
    assert_eq!((view.version, last.rows, last.champion_rows), (id(1), 200, 300));
    for expected in ["apart", "different"] {
        answer(&champion, 300, 0.0);
        answer(&canary, 200, 0.4);
        assert_eq!(states(&world.against(2).unwrap())[1].1, expected);
    }
    let text = world.metrics.render();
    let one = |kind, column| {
        format!(
            "foreshadow_canary_different{{column={column:?},kind={kind:?},model=\"m\",version=\"2\"}}"
        )
    };
    assert!(text.contains(&format!("{} 0", one("input", "x"))), "{text}");
    assert!(text.contains(&format!("{} 1", one("output", "y"))), "{text}");
    // It has no profile of its own yet, and the champion is against nobody.
    let views = world.look_with(&BTreeSet::new());
    assert_eq!((views[0].standing, &views[0].against_champion), ("counting", &None));
    assert_eq!((views[1].standing, views[1].columns.len()), ("learning", 0));
}

#[test]
fn a_rollout_that_ends_is_forgotten_in_the_middle_of_a_window() {
    let (mut world, champion, canary) = World::with_both();
    apart(&mut world, &champion, &canary);
    answer(&canary, 100, 0.4);
    world.roles = (1, None);
    assert!(world.against(2).is_none() && canary.counts_beside().is_none());
    assert!(!world.has_series());
    // The next one begins with nothing.
    world.roles = (1, Some(2));
    let view = world.against(2).unwrap();
    assert_eq!((view.window_rows, states(&view)[1].1), (0, "waiting"));
    // It becomes champion, and the former one is the control.
    world.roles = (2, Some(1));
    assert!(world.against(2).is_none() && canary.counts_beside().is_none());
    let view = world.against(1).unwrap();
    let says = "the champion is still learning its profile, which has the bins";
    assert_eq!((view.version, view.problem.as_deref()), (id(2), Some(says)));
    answer(&canary, 1000, 0.4);
    assert!(world.against(1).unwrap().problem.is_none() && champion.counts_beside().is_some());
}

#[test]
fn without_the_champions_bins_nothing_is_compared_and_that_is_told() {
    let (mut world, champion, canary) = World::with_both();
    apart(&mut world, &champion, &canary);
    champion.give(Some(Err("profile.json: EOF".into())));
    assert_eq!(world.problem(), "the champion has no profile, which would have the bins");
    assert!(!world.has_series() && canary.counts_beside().is_none());
    champion.give(None);
    let learns = "the champion is still learning its profile, which has the bins";
    assert_eq!(world.problem(), learns);
    answer(&champion, 1000, 0.0);
    assert!(world.against(2).unwrap().problem.is_none());
    answer(&champion, 200, 0.0);
    answer(&canary, 200, 0.4);
    assert_eq!(states(&world.against(2).unwrap())[1].1, "apart");
    // It learns anew.
    world.look_with(&BTreeSet::from([(model(), id(1))]));
    assert_eq!(world.problem(), learns);
    assert!(!world.has_series());
    // Nobody is watched whose owner does not want it.
    champion.settle(&watched(false));
    canary.settle(&watched(false));
    assert!(world.against(2).is_none());
}

#[test]
fn another_life_of_either_begins_anew() {
    let (mut world, champion, canary) = World::with_both();
    apart(&mut world, &champion, &canary);
    let again = world.load(1, signature("y"));
    again.give(Some(Ok(Arc::new(profile()))));
    let view = world.against(2).unwrap();
    assert_eq!((states(&view)[1].1, view.last, world.has_series()), ("waiting", None, false));
    apart(&mut world, &again, &canary);
    let another = world.load(2, signature("y"));
    assert_eq!(states(&world.against(2).unwrap())[1].1, "waiting");
    assert!(!world.has_series() && another.counts_beside().is_some());
    apart(&mut world, &again, &another);
    drop((canary, another));
    assert!(world.against(2).is_none() && !world.has_series());
}

#[test]
fn columns_that_are_others_are_told_and_the_rest_is_compared() {
    let mut world = World::new(0);
    let (champion, canary) = (world.load(1, signature("y")), world.load(2, signature("z")));
    champion.give(Some(Ok(Arc::new(profile()))));
    let view = world.against(2).unwrap();
    assert_eq!(states(&view), [("input", "waiting")]);
    let other = &view.not_comparable[0];
    let told = (other.kind, &*other.name, &*other.reason);
    assert_eq!(told, ("output", "y", "the canary has no tensor \"y\""));
    answer(&champion, 200, 0.0);
    answer(&canary, 200, 0.4);
    assert_eq!(states(&world.against(2).unwrap()), [("input", "alike")]);
    let mut world = World::new(0);
    let spec = TensorSpec::new("z", Datatype::Fp32, vec![Dim::Symbol("N".into())]);
    let nothing = Signature::new(vec![spec.clone()], vec![spec]);
    let (champion, canary) = (world.load(1, signature("y")), world.load(2, nothing));
    champion.give(Some(Ok(Arc::new(profile()))));
    assert_eq!(world.problem(), "no column of the champion's profile is one of the canary's");
    assert!(canary.counts_beside().is_none());
}

#[test]
fn one_that_answers_nan_everywhere_differs_and_two_do_not() {
    let (mut world, champion, canary) = World::with_both();
    world.look_with(&BTreeSet::new());
    for (more, expected) in [(0.0, "apart"), (f32::NAN, "alike")] {
        answer(&champion, 200, more);
        answer(&canary, 200, f32::NAN);
        let view = world.against(2).unwrap();
        assert_eq!(states(&view)[1].1, expected, "{view:#?}");
        assert!((view.columns[1].window.nan - 1.0).abs() < f64::EPSILON);
    }
}
