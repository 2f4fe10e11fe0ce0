//! What a version must fulfil beside the champion: its clients' requests must
//! still fit, its answers too, and it may have to be quick enough. Pure.

use std::time::Duration;

use crate::registry::settings::Gate;
use crate::types::{Dim, Signature, TensorSpec, VersionId};

/// Changes that are told one by one.
const CHANGES_MAX: usize = 5;

/// Who is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Champion<'a> {
    pub(super) version: VersionId,
    pub(super) signature: &'a Signature,
}

/// Judges a signature; the error says what changed and how to allow it.
/// Without a champion there is nothing to compare with.
pub(super) fn signature(
    gate: Gate,
    champion: Option<Champion<'_>>,
    candidate: &Signature,
) -> Result<(), String> {
    let Some(champion) = champion.filter(|_| !gate.allow_signature_change) else { return Ok(()) };
    let mut changes = changes(champion, candidate);
    if changes.is_empty() {
        return Ok(());
    }
    let more = changes.len().saturating_sub(CHANGES_MAX);
    changes.truncate(CHANGES_MAX);
    if more > 0 {
        changes.push(format!("and {more} more changes"));
    }
    Err(format!(
        "signature: {}; allow it with allow_signature_change = true in model.toml",
        changes.join("; ")
    ))
}

/// Judges the time of one row; `None` where it was not measured.
pub(super) fn cost(gate: Gate, row_seconds: Option<f64>) -> Result<(), String> {
    let measured = row_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match (gate.cost_max, measured) {
        (Some(max), Some(measured)) if measured > max => Err(format!(
            "cost: a row takes {}, more than the {} that cost_max in model.toml allows",
            humantime::format_duration(rounded(measured)),
            humantime::format_duration(max)
        )),
        _ => Ok(()),
    }
}

/// Without digits that nobody reads; up, as it is more than something.
fn rounded(time: Duration) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    match nanos {
        0..=9_999 => time,
        10_000..=9_999_999 => Duration::from_micros(nanos.div_ceil(1_000)),
        _ => Duration::from_millis(nanos.div_ceil(1_000_000)),
    }
}

/// What clients of the champion would notice. An output more is fine, and so
/// is an input that takes more than before.
pub(super) fn changes(champion: Champion<'_>, candidate: &Signature) -> Vec<String> {
    let (before, number) = (champion.signature, champion.version);
    let mut changes = Vec::new();
    for spec in &before.inputs {
        let found = candidate.inputs.iter().find(|other| other.name == spec.name);
        changes.extend(input_change(spec, found, number));
    }
    for spec in &candidate.inputs {
        if !before.inputs.iter().any(|other| other.name == spec.name) {
            let (name, form) = (&spec.name, form(spec));
            changes.push(format!(
                "input {name:?}: this takes {form}, champion {number} has no such input"
            ));
        }
    }
    for spec in &before.outputs {
        let found = candidate.outputs.iter().find(|other| other.name == spec.name);
        changes.extend(output_change(spec, found, number));
    }
    changes
}

fn input_change(
    before: &TensorSpec,
    now: Option<&TensorSpec>,
    number: VersionId,
) -> Option<String> {
    let (name, was) = (&before.name, form(before));
    let Some(now) = now else {
        let text = format!("input {name:?}: champion {number} takes {was}, this has no such input");
        return Some(text);
    };
    // Whatever the champion takes must be taken.
    let takes = |(before, now): (&Dim, &Dim)| match (before, now) {
        (Dim::Fixed(before), Dim::Fixed(now)) => before == now,
        (_, now) => !matches!(now, Dim::Fixed(_)),
    };
    (!same(before, now, takes))
        .then(|| format!("input {name:?}: champion {number} takes {was}, this takes {}", form(now)))
}

fn output_change(
    before: &TensorSpec,
    now: Option<&TensorSpec>,
    number: VersionId,
) -> Option<String> {
    let (name, was) = (&before.name, form(before));
    let Some(now) = now else {
        let text =
            format!("output {name:?}: champion {number} gives {was}, this has no such output");
        return Some(text);
    };
    // A size that is not declared may be anything, and is often the same.
    let gives = |(before, now): (&Dim, &Dim)| match (before, now) {
        (Dim::Fixed(before), Dim::Fixed(now)) => before == now,
        _ => true,
    };
    if !same(before, now, gives) {
        let now = form(now);
        return Some(format!("output {name:?}: champion {number} gives {was}, this gives {now}"));
    }
    (before.classes != now.classes).then(|| {
        let (was, now) = (classes(before), classes(now));
        format!("output {name:?}: champion {number} names {was}, this names {now}")
    })
}

fn same(before: &TensorSpec, now: &TensorSpec, fits: impl Fn((&Dim, &Dim)) -> bool) -> bool {
    before.datatype == now.datatype
        && before.shape.len() == now.shape.len()
        && before.shape.iter().zip(&now.shape).all(fits)
}

/// `FP32 [-1, 12]`.
fn form(spec: &TensorSpec) -> String {
    format!("{} {:?}", spec.datatype, spec.wire_shape())
}

/// `the classes "no", "yes"`.
fn classes(spec: &TensorSpec) -> String {
    const SHOWN: usize = 10;
    if spec.classes.is_empty() {
        return "no classes".to_owned();
    }
    let shown: Vec<_> = spec.classes.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = if spec.classes.len() > SHOWN { ", …" } else { "" };
    format!("the classes {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        let dim = |size: &i64| usize::try_from(*size).map_or(Dim::Any, Dim::Fixed);
        TensorSpec::new(name, datatype, shape.iter().map(dim).collect())
    }

    fn champion() -> Signature {
        Signature::new(
            vec![spec("age", Datatype::Fp32, &[-1, 12])],
            vec![spec("label", Datatype::Int64, &[-1]), spec("p", Datatype::Fp32, &[-1, 2])],
        )
    }

    fn judge(change: impl Fn(&mut Signature), gate: Gate) -> Result<(), String> {
        let (before, mut candidate) = (champion(), champion());
        change(&mut candidate);
        let version = VersionId::new(2).unwrap();
        signature(gate, Some(Champion { version, signature: &before }), &candidate)
    }

    /// A name for a change, the change, and what is said of it (nothing: fine).
    type Case = (&'static str, fn(&mut Signature), &'static [&'static str]);

    const CASES: [Case; 16] = [
        ("nothing", |_| {}, &[]),
        (
            "input re-typed",
            |s| s.inputs[0].datatype = Datatype::Fp64,
            &["input \"age\": champion 2 takes FP32 [-1, 12], this takes FP64 [-1, 12]"],
        ),
        (
            "input renamed",
            |s| s.inputs[0].name = "years".into(),
            &[
                "input \"age\": champion 2 takes FP32 [-1, 12], this has no such input",
                "input \"years\": this takes FP32 [-1, 12], champion 2 has no such input",
            ],
        ),
        (
            "input removed",
            |s| s.inputs.clear(),
            &["input \"age\": champion 2 takes FP32 [-1, 12], this has no such input"],
        ),
        (
            "input added",
            |s| s.inputs.push(spec("more", Datatype::Bytes, &[-1, 1])),
            &["input \"more\": this takes BYTES [-1, 1], champion 2 has no such input"],
        ),
        (
            "input wider",
            |s| s.inputs[0].shape[1] = Dim::Fixed(13),
            &["input \"age\": champion 2 takes FP32 [-1, 12], this takes FP32 [-1, 13]"],
        ),
        (
            "no batches any more",
            |s| s.inputs[0].shape[0] = Dim::Fixed(1),
            &["input \"age\": champion 2 takes FP32 [-1, 12], this takes FP32 [1, 12]"],
        ),
        (
            "another rank",
            |s| s.inputs[0].shape.push(Dim::Fixed(1)),
            &["input \"age\": champion 2 takes FP32 [-1, 12], this takes FP32 [-1, 12, 1]"],
        ),
        ("input takes more", |s| s.inputs[0].shape[1] = Dim::Any, &[]),
        ("a named dimension", |s| s.inputs[0].shape[0] = Dim::Symbol("batch".into()), &[]),
        (
            "output removed",
            |s| drop(s.outputs.remove(0)),
            &["output \"label\": champion 2 gives INT64 [-1], this has no such output"],
        ),
        (
            "output re-typed",
            |s| s.outputs[0].datatype = Datatype::Bytes,
            &["output \"label\": champion 2 gives INT64 [-1], this gives BYTES [-1]"],
        ),
        (
            "output re-shaped",
            |s| s.outputs[1].shape[1] = Dim::Fixed(3),
            &["output \"p\": champion 2 gives FP32 [-1, 2], this gives FP32 [-1, 3]"],
        ),
        ("a size that is not declared", |s| s.outputs[1].shape[1] = Dim::Any, &[]),
        (
            "classes in another order",
            |s| s.outputs[1].classes = ["yes".to_owned(), "no".to_owned()].into(),
            &["output \"p\": champion 2 names no classes, this names the classes \"yes\", \"no\""],
        ),
        ("an output more", |s| s.outputs.push(spec("z", Datatype::Fp32, &[-1])), &[]),
    ];

    #[test]
    fn what_clients_would_notice_is_refused_unless_it_is_allowed() {
        let allow = Gate { allow_signature_change: true, ..Gate::default() };
        for (name, change, expected) in CASES {
            let judged = judge(change, Gate::default());
            match expected {
                [] => assert_eq!(judged, Ok(()), "{name}"),
                expected => assert_eq!(
                    judged.unwrap_err(),
                    format!(
                        "signature: {}; allow it with allow_signature_change = true in model.toml",
                        expected.join("; ")
                    ),
                    "{name}"
                ),
            }
            assert_eq!(judge(change, allow), Ok(()), "{name}");
        }
    }

    #[test]
    fn order_and_a_missing_champion_do_not_matter() {
        assert_eq!(judge(|s| s.outputs.reverse(), Gate::default()), Ok(()));
        assert_eq!(signature(Gate::default(), None, &champion()), Ok(()));
    }

    #[test]
    fn many_changes_are_counted() {
        let many = |s: &mut Signature| {
            s.inputs.extend((0..30).map(|i| spec(&format!("x{i}"), Datatype::Fp32, &[1])));
        };
        let why = judge(many, Gate::default()).unwrap_err();
        assert!(why.contains("; and 25 more changes; allow"), "{why}");
    }

    #[test]
    fn a_row_may_take_so_long_and_no_longer() {
        let gate = Gate { cost_max: Some(Duration::from_millis(2)), ..Gate::default() };
        assert_eq!(cost(gate, Some(0.002)), Ok(()));
        assert_eq!(cost(gate, None), Ok(()));
        assert_eq!(cost(Gate::default(), Some(1e9)), Ok(()));
        assert_eq!(
            cost(gate, Some(0.003_214_159)).unwrap_err(),
            "cost: a row takes 3ms 215us, more than the 2ms that cost_max in model.toml allows"
        );
        assert!(cost(gate, Some(1.000_4)).unwrap_err().contains("takes 1s 1ms, more"));
    }
}
