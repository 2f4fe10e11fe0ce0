use proptest::prelude::*;

use super::*;
use crate::analysis::Level;

/// splitmix64 (Steele, Lea & Flood 2014): the same numbers on every run.
pub(in crate::analysis) struct Random(pub(in crate::analysis) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, below 1.
    pub(in crate::analysis) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

type Row = (RowAnswer, Truth);

fn class(class: u16, scores: &[f64]) -> RowAnswer {
    RowAnswer::Class { class, scores: scores.to_vec() }
}

fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Quality {
    let mut quality = Quality::default();
    for (answer, truth) in rows {
        quality.predicted(answer);
        quality.labelled(answer, *truth);
    }
    quality
}

fn level() -> Level {
    Level::NOT_WORSE
}

/// As in tests/quality/known.py.
pub(in crate::analysis) fn binary(i: u32, threshold: f64) -> Row {
    let part = f64::from((7_919 * i) % 10_007) / 10_007.0;
    let p = match i {
        _ if i.is_multiple_of(97) => 0.0,
        _ if i.is_multiple_of(101) => 1.0,
        _ => part * part,
    };
    let truth = f64::from((104_729 * u64::from(i) + 17) as u32 % 1_009) / 1_009.0 < p * 0.8 + 0.1;
    (class(u16::from(p >= threshold), &[1.0 - p, p]), Truth::Class(u16::from(truth)))
}

/// As in tests/quality/known.py.
fn several(i: u32) -> Row {
    let weights: Vec<_> = (0..4).map(|c| f64::from(1 + (i * (31 + 17 * c)) % 101)).collect();
    let sum: f64 = weights.iter().sum();
    let scores: Vec<_> = weights.iter().map(|weight| weight / sum).collect();
    let best = (0..4).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    let truth = if (i * i + 7 * i) % 11 < 6 { best as u32 } else { (i * 5 + 3) % 4 };
    (class(best as u16, &scores), Truth::Class(truth as u16))
}

/// As in tests/quality/known.py.
fn number(i: u64, base: f64) -> Row {
    let truth = base + ((7_919 * i) % 1_000) as f64 / 1_000.0;
    let answer = truth + (((104_729 * i) % 997) as f64 - 400.0) / 5_000.0;
    (RowAnswer::Value(answer), Truth::Value(truth))
}

#[track_caller]
fn near(got: impl IntoIterator<Item = Option<f64>>, expected: &[f64]) {
    let got: Vec<_> = got.into_iter().map(Option::unwrap).collect();
    assert_eq!(got.len(), expected.len());
    let same = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-9;
    assert!(got.iter().zip(expected).all(same), "{got:?}, expected {expected:?}");
}

fn by_class(class: &ClassFigures) -> [Option<f64>; 3] {
    let value = |proportion: Option<Proportion>| proportion.map(|proportion| proportion.value);
    [value(class.precision), value(class.recall), class.f1]
}

fn of_all(figures: &Figures) -> [Option<f64>; 5] {
    [
        figures.accuracy.map(|accuracy| accuracy.value),
        figures.macro_f1,
        figures.log_loss,
        figures.brier,
        figures.calibration_error,
    ]
}

#[test]
fn two_classes_are_as_scikit_learn_has_them() {
    let rows: Vec<_> = (0..2_000).map(|i| binary(i, 0.4)).collect();
    let figures = of(&rows).figures(level());
    near(
        of_all(&figures),
        &[0.7405, 0.7217634834139675, 0.6595841670219647, 0.1783097468591648, 0.06273056836630868],
    );
    let [negative, positive] = &*figures.classes else { panic!("{:?}", figures.classes) };
    near(by_class(negative), &[0.7930214115781126, 0.794912559618442, 0.7939658594680429]);
    near(by_class(positive), &[0.6508795669824087, 0.6482479784366577, 0.6495611073598919]);
    assert_eq!(figures.positive, Some(*positive));
    let auc = figures.auc.unwrap();
    assert!((auc.value - 0.7928545717113976).abs() <= auc.error && auc.error < 2e-3, "{auc:?}");
    let estimate = figures.estimate.unwrap();
    near(
        [Some(estimate.accuracy), estimate.precision, estimate.recall, estimate.f1],
        &[0.8016749090016921, 0.6867219937974506, 0.7544877688135015, 0.719011705772441],
    );
    assert_eq!((figures.rows, figures.labelled_rows, figures.scored_rows), (2_000, 2_000, 2_000));
}

#[test]
fn several_classes_are_as_scikit_learn_has_them() {
    let rows: Vec<_> = (0..1_500).map(several).collect();
    let figures = of(&rows).figures(level());
    near(
        of_all(&figures),
        &[
            0.6593333333333333,
            0.6576990603542145,
            1.2326593716969254,
            0.6497986624117695,
            0.25520116395690207,
        ],
    );
    let expected = [
        [0.6521739130434783, 0.6835443037974683, 0.6674907292954264],
        [0.656891495601173, 0.6345609065155807, 0.6455331412103746],
        [0.656441717791411, 0.6131805157593123, 0.6340740740740741],
        [0.6706443914081146, 0.6972704714640199, 0.683698296836983],
    ];
    assert_eq!(figures.classes.len(), expected.len());
    for (class, expected) in figures.classes.iter().zip(expected) {
        near(by_class(class), &expected);
    }
    let estimate = figures.estimate.unwrap();
    near([Some(estimate.accuracy)], &[0.40420764107454443]);
    assert_eq!((estimate.precision, figures.auc, figures.positive), (None, None, None));
}

fn of_errors(figures: &Figures) -> [Option<f64>; 6] {
    let errors = figures.errors.unwrap();
    let radius = |mean: ErrorMean| mean.upper.map(|upper| upper - mean.value);
    let (mae, bias) = (errors.mae, errors.bias);
    [Some(mae.value), Some(bias.value), Some(errors.rmse), errors.r2, radius(mae), radius(bias)]
}

#[test]
fn numbers_are_as_scikit_learn_has_them() {
    let rows: Vec<_> = (0..1_000).map(|i| number(i, -0.3)).collect();
    near(
        of_errors(&of(&rows).figures(level())),
        &[
            0.0518348,
            0.019327599999999997,
            0.06084234249270815,
            0.9555784678984679,
            0.0030578041945390063,
            0.005537268211796924,
        ],
    );
}

#[test]
fn a_million_large_numbers_are_as_exact() {
    let mut parts = vec![Quality::default(); 7];
    for i in 0..1_000_000 {
        let (answer, truth) = number(i, 1e6);
        parts[(i % 7) as usize].labelled(&answer, truth);
    }
    let mut all = Quality::default();
    parts.iter().for_each(|part| all.merge(part));
    near(
        of_errors(&all.figures(level())),
        &[
            0.0517764668001692,
            0.01959942040009459,
            0.06080714951473831,
            0.955629842444499,
            0.0001233807444216506,
            0.00022273302012179377,
        ],
    );
}

#[test]
fn nothing_has_no_figures() {
    let nothing = Quality::default();
    assert!(nothing.is_empty());
    let figures = nothing.figures(level());
    assert_eq!(of_all(&figures), [None; 5]);
    assert!(figures.classes.is_empty() && figures.errors.is_none() && figures.estimate.is_none());
    assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
    let shown = r#"{"level":0.05,"rows":0,"unusable":0,"labelled_rows":0,"unusable_labels":0,"scored_rows":0}"#;
    assert_eq!(serde_json::to_string(&figures).unwrap(), shown);
}

#[test]
fn what_is_unusable_changes_nothing_else() {
    let many = [1.0 / 33.0; 33];
    let answers = [
        class(32, &[]),
        class(u16::MAX, &[]),
        class(2, &[0.5, 0.5]),
        class(0, &many),
        class(0, &[f64::NAN, 1.0]),
        class(0, &[f64::INFINITY, 0.0]),
        class(0, &[2.5, -1.5]),
        RowAnswer::Value(f64::NAN),
        RowAnswer::Value(f64::NEG_INFINITY),
        RowAnswer::Value(1e101),
    ];
    let number = answers.len() as u64;
    let quality = of(&answers.map(|answer| (answer, Truth::Class(0))));
    let expected = Quality { unusable: number, unusable_labels: number, ..Quality::default() };
    assert_eq!(quality, expected);

    let labels = [
        (class(0, &[]), Truth::Value(0.0)),
        (class(0, &[]), Truth::Class(32)),
        (class(0, &[0.5, 0.5]), Truth::Class(2)),
        (RowAnswer::Value(0.0), Truth::Class(0)),
        (RowAnswer::Value(0.0), Truth::Value(f64::NAN)),
        (RowAnswer::Value(0.0), Truth::Value(f64::INFINITY)),
    ];
    let mut quality = Quality::default();
    labels.iter().for_each(|(answer, truth)| quality.labelled(answer, *truth));
    assert_eq!(quality, Quality { unusable_labels: 6, ..Quality::default() });
}

#[test]
fn classes_without_scores_have_counts_alone() {
    // Class 2 is never named, class 3 only by a label.
    let rows = [(0, 0), (0, 1), (1, 1), (1, 3)].map(|(a, t)| (class(a, &[]), Truth::Class(t)));
    let figures = of(&rows).figures(level());
    // scikit-learn: f1_score([0, 1, 1, 3], [0, 0, 1, 1], average="macro")
    near([figures.accuracy.map(|a| a.value), figures.macro_f1], &[0.5, 0.3888888888888889]);
    assert_eq!(by_class(&figures.classes[2]), [None; 3]);
    assert_eq!(by_class(&figures.classes[3]), [None, Some(0.0), Some(0.0)]);
    assert_eq!((figures.scored_rows, figures.log_loss, figures.estimate), (0, None, None));
    // Rounding beyond 1 is a probability still; rows need not sum to 1.
    let figures = of(&[(class(1, &[0.0, 1.0 + 1e-7]), Truth::Class(1))]).figures(level());
    assert_eq!((figures.scored_rows, figures.brier), (1, Some(0.0)));
    let rows = [(class(0, &[0.6, 0.6, 0.2]), Truth::Class(0))];
    near([of(&rows).figures(level()).log_loss], &[0.5108256237659907]);
}

#[test]
fn what_is_stored_is_small_and_comes_back() {
    let classes = (0..2_000).map(|i| binary(i, 0.4));
    let rows: Vec<_> = classes.chain((0..9).map(|i| number(i, 0.1))).collect();
    let quality = of(&rows);
    let text = serde_json::to_string(&quality).unwrap();
    assert!(text.len() < 20_000, "{}", text.len());
    assert_eq!(serde_json::from_str::<Quality>(&text).unwrap(), quality);
    // What was not made here cannot do harm.
    let odd = r#"{"classes":65535,"answered":[18446744073709551615,18446744073709551615],
        "confusion":[[18446744073709551615,1],[],[1,2,3]],"scores":{"ranks":{"60000":[1,18446744073709551615]}}}"#;
    let mut odd: Quality = serde_json::from_str(odd).unwrap();
    odd.merge(&odd.clone());
    assert_eq!(odd.figures(level()).classes.len(), CLASSES_MAX);
}

/// Any row, of any kind, good or bad.
fn row() -> impl Strategy<Value = Row> {
    let scores = proptest::collection::vec(0.0..=1.0_f64, 0..4);
    let some = (0..4_u16, scores).prop_map(|(c, scores)| RowAnswer::Class { class: c, scores });
    let two = (0..2_u16, 0.0..=1.0_f64).prop_map(|(c, p)| class(c, &[1.0 - p, p]));
    let value = prop_oneof![any::<f64>(), -1e6..1e6_f64];
    let answer = prop_oneof![2 => some, 3 => two, 3 => value.clone().prop_map(RowAnswer::Value)];
    let truth = prop_oneof![(0..4_u16).prop_map(Truth::Class), value.prop_map(Truth::Value)];
    (answer, truth)
}

/// All that is said, as numbers.
fn numbers(figures: &Figures) -> Vec<(String, f64)> {
    fn walk(path: &str, value: &serde_json::Value, into: &mut Vec<(String, f64)>) {
        match value {
            serde_json::Value::Object(fields) => {
                fields
                    .iter()
                    .for_each(|(name, value)| walk(&format!("{path}.{name}"), value, into));
            }
            serde_json::Value::Array(values) => {
                values.iter().for_each(|value| walk(path, value, into));
            }
            value => into.push((path.to_owned(), value.as_f64().unwrap_or(f64::NAN))),
        }
    }
    let mut numbers = Vec::new();
    walk("", &serde_json::to_value(figures).unwrap(), &mut numbers);
    numbers
}

proptest! {
    #[test]
    fn parts_add_up_in_any_order(
        rows in proptest::collection::vec((row(), 0..4_usize, any::<u32>()), 0..60),
    ) {
        let whole = of(rows.iter().map(|(row, ..)| row));
        let mut shuffled: Vec<_> = rows.iter().collect();
        shuffled.sort_by_key(|(.., key)| *key);
        let part = |part| of(shuffled.iter().filter(|(_, p, _)| *p == part).map(|(row, ..)| row));
        let (mut forward, mut backward) = (Quality::default(), Quality::default());
        (0..4).for_each(|i| forward.merge(&part(i)));
        (0..4).rev().for_each(|i| backward.merge(&part(i)));
        let expected = numbers(&whole.figures(level()));
        for merged in [forward, backward] {
            let got = numbers(&merged.figures(level()));
            prop_assert_eq!(got.len(), expected.len());
            for ((name, a), (_, b)) in got.iter().zip(&expected) {
                prop_assert!(a.is_finite() && (a - b).abs() <= 1e-11 * a.abs().max(1.0), "{}: {} {}", name, a, b);
            }
        }
    }

    #[test]
    fn figures_are_within_their_ranges(rows in proptest::collection::vec(row(), 0..60)) {
        for (name, value) in numbers(&of(&rows).figures(level())) {
            prop_assert!(value.is_finite(), "{} {}", name, value);
            let counts = ["rows", "count", "of", "class", "log_loss", "brier", "unusable", "labels"];
            let free = name.starts_with(".errors") || counts.iter().any(|count| name.ends_with(count));
            prop_assert!(free || (0.0..=1.0).contains(&value), "{} {}", name, value);
        }
    }
}
