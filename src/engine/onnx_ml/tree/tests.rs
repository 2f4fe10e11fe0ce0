//! The walk against the plain one that the standard describes.

use std::collections::HashMap;

use proptest::prelude::*;

use super::forest::Forest;
use super::real::Real;
use super::sums::{Aggregate, Ensemble};
use super::trees::{Branch, Mode, Node, Trees, Weight, to_u32};

const MODES: [Mode; 7] =
    [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq, Mode::Member];

/// Few, so that ties are the rule.
const NUMBERS: [f64; 9] =
    [-1.0, 0.0, -0.0, 0.5, 1.0, 1e-45, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % most
    }

    fn number(&mut self) -> f64 {
        NUMBERS[self.below(NUMBERS.len())]
    }
}

fn grow(dice: &mut Dice, trees: &mut Trees, depth: usize, modes: &[Mode]) -> u32 {
    let at = to_u32(trees.nodes.len());
    if depth == 0 || dice.below(5) == 0 {
        let leaf = to_u32(trees.leaves.len());
        trees.leaves.push(leaf..leaf + 1);
        trees.weights.push(Weight { target: 0, value: f64::from(leaf) });
        trees.nodes.push(Node::Leaf(leaf));
        return at;
    }
    trees.nodes.push(Node::Leaf(0)); // until its children have their places
    let mode = modes[dice.below(modes.len())];
    if mode == Mode::Member {
        let members = (0..dice.below(5)).map(|_| dice.number()).collect();
        trees.sets.insert(at, members);
    }
    let branch = Branch {
        threshold: dice.number(),
        feature: to_u32(dice.below(3)),
        on_true: grow(dice, trees, depth - 1, modes),
        on_false: grow(dice, trees, depth - 1, modes),
        mode,
        missing_is_true: dice.below(2) == 0,
    };
    trees.nodes[at as usize] = Node::Branch(branch);
    at
}

fn forest(dice: &mut Dice, count: usize, modes: &[Mode]) -> Trees {
    let mut trees = Trees { targets: 1, sets: HashMap::new(), ..Trees::default() };
    for _ in 0..count {
        let root = grow(dice, &mut trees, 5, modes);
        trees.roots.push(root);
    }
    trees.check(|at| at.to_string()).unwrap();
    trees
}

/// As the standard has it.
fn plain_walk<X: Real>(trees: &Trees, root: u32, row: &[X]) -> u32 {
    let mut at = root;
    loop {
        let branch = match &trees.nodes[at as usize] {
            Node::Leaf(leaf) => return *leaf,
            Node::Branch(branch) => branch,
        };
        let (x, threshold) = (row[branch.feature as usize], X::of(branch.threshold));
        let holds = match branch.mode {
            Mode::Leq => x <= threshold,
            Mode::Lt => x < threshold,
            Mode::Gte => x >= threshold,
            Mode::Gt => x > threshold,
            Mode::Eq => x == threshold,
            Mode::Neq => x != threshold,
            Mode::Member => trees.sets[&at].iter().any(|&member| x == X::of(member)),
        };
        let holds = holds || (branch.missing_is_true && x.is_nan());
        at = if holds { branch.on_true } else { branch.on_false };
    }
}

/// Every leaf that is reached, and the order of the visits.
fn check<X: Real>(dice: &mut Dice, trees: &Trees, count: usize) {
    let rows = (0..count * 4).map(|_| X::of(dice.number())).collect::<Vec<_>>();
    let forest = Forest::new(trees, X::from_index).unwrap();
    let mut next_tree = vec![0; count];
    forest.walk(&rows, 4, |row, tree, leaf| {
        let expected = plain_walk(trees, trees.roots[tree], &rows[row * 4..][..4]);
        assert_eq!(leaf.index(), expected, "row {row}, tree {tree}");
        assert_eq!(next_tree[row], tree, "trees come in order");
        next_tree[row] += 1;
    });
    assert!(next_tree.iter().all(|&seen| seen == trees.roots.len()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_walk_ends_where_the_plain_one_does(
        seed: u64,
        trees in 1_usize..40,
        rows in 0_usize..60,
        modes in 1_usize..8,
    ) {
        let mut dice = Dice(seed);
        let trees = forest(&mut dice, trees, &MODES[..modes]);
        check::<f32>(&mut dice, &trees, rows);
        check::<f64>(&mut dice, &trees, rows);
    }
}

#[test]
fn many_columns_take_large_nodes() {
    let branch = |feature| {
        Node::Branch(Branch {
            threshold: 0.0,
            feature,
            on_true: 1,
            on_false: 2,
            mode: Mode::Leq,
            missing_is_true: false,
        })
    };
    // 31 bits of feature and 3 of position do not fit 32.
    let feature = (1 << 31) - 1;
    let mut trees = forest(&mut Dice(1), 1, &MODES[..1]);
    trees.nodes = vec![branch(feature), Node::Leaf(0), Node::Leaf(1)];
    trees.leaves = vec![0..1, 1..2];
    trees.weights = vec![Weight { target: 0, value: 1.0 }, Weight { target: 0, value: 2.0 }];
    trees.check(|at| at.to_string()).unwrap();
    assert!(Forest::<f32>::new(&trees, f32::from_index).unwrap().is_large());
    trees.nodes[0] = branch(3);
    trees.features = 0;
    trees.check(|at| at.to_string()).unwrap();
    assert!(!Forest::<f32>::new(&trees, f32::from_index).unwrap().is_large());
}

#[test]
fn large_nodes_lead_to_the_same_leaves() {
    let mut dice = Dice(7);
    let trees = forest(&mut dice, 20, &MODES);
    let small = Ensemble::<f32>::new(&trees, Aggregate::Sum).unwrap();
    let rows = (0..40 * 4).map(|_| f32::of(dice.number())).collect::<Vec<_>>();
    let large = Forest::<f32>::large(&trees, f32::from_index).unwrap();
    let mut sums = vec![0.0; 40];
    large
        .walk(&rows, 4, |row, _, leaf| sums[row] += trees.weights_of(leaf.index())[0].value as f32);
    assert_eq!(small.run(&rows, 4).scores, sums);
}

/// Sums of leaves with these (target, value) each, in two trees.
fn sums(aggregate: Aggregate, leaves: [&[(u32, f64)]; 3]) -> (Vec<f32>, Vec<Vec<bool>>) {
    let mut trees = Trees { targets: 2, ..Trees::default() };
    for leaf in leaves {
        let start = to_u32(trees.weights.len());
        trees.weights.extend(leaf.iter().map(|&(target, value)| Weight { target, value }));
        trees.leaves.push(start..to_u32(trees.weights.len()));
    }
    trees.nodes = vec![
        Node::Branch(Branch {
            threshold: 0.0,
            feature: 0,
            on_true: 1,
            on_false: 2,
            mode: Mode::Leq,
            missing_is_true: false,
        }),
        Node::Leaf(0),
        Node::Leaf(1),
        Node::Leaf(2),
    ];
    trees.roots = vec![0, 3];
    trees.check(|at| at.to_string()).unwrap();
    let ensemble = Ensemble::<f32>::new(&trees, aggregate).unwrap();
    let mut sums = ensemble.run(&[-1.0, 1.0], 1);
    let present = sums.rows().map(|(_, present)| present.to_vec()).collect();
    (sums.scores, present)
}

#[test]
fn sums_are_the_same_for_every_kind_of_leaf() {
    let both = vec![vec![true; 2]; 2];
    let one = sums(Aggregate::Sum, [&[(0, 1.0)], &[(0, 2.0)], &[(1, 8.0)]]);
    assert_eq!(one, (vec![1.0, 8.0, 2.0, 8.0], both.clone()));
    let table =
        sums(Aggregate::Sum, [&[(0, 1.0), (1, 3.0)], &[(0, 2.0), (1, 4.0)], &[(0, 8.0), (1, 0.5)]]);
    assert_eq!(table, (vec![9.0, 3.5, 10.0, 4.5], both.clone()));
    let lists = sums(Aggregate::Sum, [&[(0, 1.0)], &[(1, 2.0)], &[(1, 8.0)]]);
    assert_eq!(lists, (vec![1.0, 8.0, 0.0, 10.0], vec![vec![true; 2], vec![false, true]]));
    let max = sums(Aggregate::Max, [&[(0, -1.0), (1, 9.0)], &[(1, 2.0)], &[(1, 8.0)]]);
    assert_eq!(max, (vec![-1.0, 9.0, 0.0, 8.0], vec![vec![true; 2], vec![false, true]]));
    let average = sums(Aggregate::Average, [&[(0, 1.0)], &[(0, 2.0)], &[(1, 8.0)]]);
    assert_eq!(average, (vec![0.5, 4.0, 1.0, 4.0], both));
}
