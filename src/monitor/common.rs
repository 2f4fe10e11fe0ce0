//! What a canary has in common with its champion: the columns of the champion's profile
//! that mean the same in both. Pure.

use crate::monitor::view::OtherColumnView;
use crate::telemetry::FeatureSnapshot;
use crate::types::{Datatype, Feature, Profile, Signature, TensorSpec};

/// The columns that both have.
pub(super) struct Common {
    /// The champion's profile, without the others.
    pub(super) profile: Profile,
    /// Those that cannot be compared.
    pub(super) others: Vec<OtherColumnView>,
    /// Where they stand among all of the profile's inputs.
    inputs: Vec<usize>,
    /// Among its outputs.
    outputs: Vec<usize>,
}

impl Common {
    /// Of the champion's profile and the signatures of both.
    pub(super) fn new(profile: &Profile, champion: &Signature, canary: &Signature) -> Self {
        let mut others = Vec::new();
        let mut those = |kind, features: &[Feature], of: fn(&Signature) -> &[TensorSpec]| {
            let mut kept = Vec::new();
            for (place, feature) in features.iter().enumerate() {
                match fits(feature, of(champion), of(canary)) {
                    Ok(()) => kept.push(place),
                    Err(reason) => {
                        others.push(OtherColumnView { kind, name: feature.name.clone(), reason });
                    }
                }
            }
            kept
        };
        let inputs = those("input", &profile.inputs, |signature| &signature.inputs);
        let outputs = those("output", &profile.outputs, |signature| &signature.outputs);
        let profile = Profile {
            inputs: at(&profile.inputs, &inputs),
            outputs: at(&profile.outputs, &outputs),
            // It names inputs that may be left out here.
            missing_together: None,
            ..profile.clone()
        };
        Self { profile, others, inputs, outputs }
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    /// The counts of these columns, of what the champion has counted of all.
    pub(super) fn of(&self, read: &FeatureSnapshot) -> FeatureSnapshot {
        FeatureSnapshot {
            rows: read.rows,
            inputs: at(&read.inputs, &self.inputs),
            outputs: at(&read.outputs, &self.outputs),
        }
    }
}

fn at<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().filter_map(|place| all.get(*place)).cloned().collect()
}

/// Whether a column means the same in both; the error says why not. One and the same
/// request is sent to both, so of an input of as many columns each has its place.
fn fits(feature: &Feature, champion: &[TensorSpec], canary: &[TensorSpec]) -> Result<(), String> {
    let tensor = &feature.tensor;
    let [champion, canary] = [("champion", champion), ("canary", canary)].map(|(whose, specs)| {
        let spec = specs.iter().find(|spec| spec.name == *tensor);
        spec.ok_or_else(|| format!("the {whose} has no tensor {tensor:?}"))
    });
    let (champion, canary) = (champion?, canary?);
    let are_texts = |spec: &TensorSpec| spec.datatype == Datatype::Bytes;
    if are_texts(champion) != are_texts(canary) {
        let (here, there) = (canary.datatype, champion.datatype);
        return Err(format!("tensor {tensor:?} has {here}, the champion's {there}"));
    }
    if champion.columns() != canary.columns() {
        let (here, there) = (canary.wire_shape(), champion.wire_shape());
        return Err(format!("tensor {tensor:?} has the shape {here:?}, the champion's {there:?}"));
    }
    let both_say = !champion.classes.is_empty() && !canary.classes.is_empty();
    if both_say && champion.classes != canary.classes {
        return Err(format!("tensor {tensor:?} has other classes, or in another order"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Bins, Counts, Digest, Dim, ModelName};

    fn spec(name: &str, datatype: Datatype, width: usize) -> TensorSpec {
        TensorSpec::new(name, datatype, vec![Dim::Symbol("N".into()), Dim::Fixed(width)])
    }

    fn feature(name: &str, tensor: &str, column: usize) -> Feature {
        let bins = Bins::Integers(vec![0]);
        let counts = Counts { bins: vec![0], ..Counts::default() };
        Feature { name: name.into(), tensor: tensor.into(), column, bins, counts }
    }

    fn profile() -> Profile {
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([0; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 0,
            inputs: vec![feature("age", "x", 1), feature("plan", "plan", 0)],
            missing_together: None,
            outputs: vec![feature("p", "p", 0), feature("label", "label", 0)],
        }
    }

    fn signature() -> Signature {
        Signature::new(
            vec![spec("x", Datatype::Fp32, 2), spec("plan", Datatype::Bytes, 1)],
            vec![spec("p", Datatype::Fp32, 2), spec("label", Datatype::Int64, 1)],
        )
    }

    #[test]
    fn columns_are_common_that_mean_the_same() {
        type Change = fn(&mut Signature);
        let cases: [(Change, &str, &str); 9] = [
            (|_| {}, "", ""),
            // Another kind of number, another order, a value per row.
            (|s| s.inputs[0].datatype = Datatype::Fp64, "", ""),
            (|s| s.outputs.reverse(), "", ""),
            (|s| s.outputs[1].shape.truncate(1), "", ""),
            (|s| s.outputs[0].classes = ["no", "yes"].map(String::from).into(), "", ""),
            (|s| s.outputs[0].name = "q".into(), "p", "the canary has no tensor \"p\""),
            (
                |s| s.outputs[1].datatype = Datatype::Bytes,
                "label",
                "tensor \"label\" has BYTES, the champion's INT64",
            ),
            (
                |s| s.inputs[0] = spec("x", Datatype::Fp32, 3),
                "age",
                "tensor \"x\" has the shape [-1, 3], the champion's [-1, 2]",
            ),
            (
                |s| s.inputs[1].shape.push(Dim::Fixed(2)),
                "plan",
                "tensor \"plan\" has the shape [-1, 1, 2], the champion's [-1, 1]",
            ),
        ];
        for (change, name, reason) in cases {
            let mut canary = signature();
            change(&mut canary);
            let common = Common::new(&profile(), &signature(), &canary);
            let others: Vec<_> = common.others.iter().map(|o| (&*o.name, &*o.reason)).collect();
            let expected: &[_] = if name.is_empty() { &[] } else { &[(name, reason)] };
            assert_eq!(others, expected);
            assert_eq!(
                common.profile.inputs.len() + common.profile.outputs.len() + others.len(),
                4
            );
            assert!(!common.is_empty());
        }
    }

    #[test]
    fn classes_in_another_order_are_not_compared() {
        let of = |classes: [&str; 2]| {
            let mut signature = signature();
            signature.outputs[0].classes = classes.map(String::from).into();
            signature
        };
        let common = Common::new(&profile(), &of(["no", "yes"]), &of(["yes", "no"]));
        let reason = "tensor \"p\" has other classes, or in another order";
        assert_eq!(common.others[0].reason, reason);
        let common = Common::new(&profile(), &of(["no", "yes"]), &of(["no", "yes"]));
        assert_eq!(common.others, []);
    }

    #[test]
    fn of_the_champions_counts_only_those_are_taken() {
        let mut canary = signature();
        canary.inputs[0].name = "z".into();
        canary.outputs[0].name = "q".into();
        let common = Common::new(&profile(), &signature(), &canary);
        let read = FeatureSnapshot {
            rows: 7,
            inputs: vec![vec![1], vec![2]],
            outputs: vec![vec![3], vec![4]],
        };
        let of_both = common.of(&read);
        assert_eq!(
            (of_both.rows, of_both.inputs, of_both.outputs),
            (7, vec![vec![2]], vec![vec![4]])
        );
        let names: Vec<_> = common.profile.inputs.iter().map(|feature| &*feature.name).collect();
        assert_eq!(names, ["plan"]);
        let nothing = Common::new(&profile(), &signature(), &Signature::new(vec![], vec![]));
        assert!(nothing.is_empty() && nothing.others.len() == 4);
    }
}
