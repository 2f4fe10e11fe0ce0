//! The walk from roots to leaves, many at a time.
//!
//! A node is a threshold and a word: the column it looks at, the position of
//! its left child, and whether it is a branch. One step is
//!
//! ```text
//! position = child + (branch and not x ≤ threshold)
//! ```
//!
//! A leaf's child is itself, so a step at a leaf stays there, and there is no
//! branch instruction to be mispredicted: sixteen walks go in step, until none
//! of them moves, and the processor works on all of them at once. Where there
//! are enough rows, they go through one tree in step, which then stays in the
//! cache; a lone row goes through sixteen trees in step. (Gather instructions
//! were measured, and are slower than sixteen ordinary loads.)

use std::hint::select_unpredictable;

use super::columns::Columns;
use super::place::{Layout, Placed, place};
use super::real::Real;
use super::trees::Trees;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// Walks in step.
const LANES: usize = 16;

/// Rows that are taken through all trees together: few enough for the cache.
const ROWS_BYTES: usize = 128 << 10;

/// A node's integer: column, position of the left child, branch bit.
trait Word: Copy + Default {
    const BITS: u32;

    /// `bits` is known to fit.
    fn of(bits: u64) -> Self;

    fn column(self, shift: u32) -> usize;

    /// The position after a step: `self` is a node's word.
    fn next(self, mask: Self, right: bool) -> Self;

    fn or(self, other: Self) -> Self;

    fn is_branch(self) -> bool;

    fn position(self) -> usize;
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            const BITS: u32 = <$word>::BITS;

            #[expect(clippy::allow_attributes, reason = "for one of the two types only")]
            #[allow(clippy::cast_possible_truncation, reason = "the caller knows")]
            fn of(bits: u64) -> Self {
                bits as Self
            }

            #[inline]
            fn column(self, shift: u32) -> usize {
                (self >> shift) as usize
            }

            #[inline]
            fn next(self, mask: Self, right: bool) -> Self {
                // Which way is a coin toss: no branch instruction may come of it.
                (self & mask) + select_unpredictable(right, (self & 1) << 1, 0)
            }

            #[inline]
            fn or(self, other: Self) -> Self {
                self | other
            }

            #[inline]
            fn is_branch(self) -> bool {
                self & 1 == 1
            }

            #[inline]
            fn position(self) -> usize {
                (self >> 1) as usize
            }
        }
    };
}

word!(u32);
word!(u64);

#[derive(Clone, Copy, Debug)]
struct Node<X, W> {
    threshold: X,
    word: W,
}

/// Nodes whose words are of one size. A position is stored as twice the index
/// in `list`: the lowest bit of a word is the branch bit.
///
/// Invariants, established by [`Nodes::pack`]: every root is a valid
/// position, and so is, for each node, `next` with and without a step to the
/// right; every column is below `columns`.
#[derive(Debug)]
struct Nodes<X, W> {
    list: Vec<Node<X, W>>,
    /// Padded to a whole number of lanes by the position of a leaf.
    roots: Vec<W>,
    trees: usize,
    columns: usize,
    shift: u32,
    mask: W,
}

impl<X: Real, W: Word> Nodes<X, W> {
    /// `None` if the words are too small.
    fn pack(layout: &Layout<X>) -> TractResult<Option<Self>> {
        let (nodes, columns) = (&layout.nodes, layout.columns.len());
        let shift = bits(nodes.len()) + 1;
        if shift + bits(columns).max(1) > W::BITS {
            return Ok(None);
        }
        let word = |node: &Placed<X>| {
            let last = u64::from(node.next) + u64::from(node.is_branch);
            ensure!(last < nodes.len() as u64 && (node.column as usize) < columns, "a bad layout");
            let position = u64::from(node.next) << 1 | u64::from(node.is_branch);
            Ok(W::of(u64::from(node.column) << shift | position))
        };
        let list = nodes
            .iter()
            .map(|node| Ok(Node { threshold: node.threshold, word: word(node)? }))
            .collect::<TractResult<Vec<_>>>()?;
        let mut roots = Vec::with_capacity(layout.roots.len().next_multiple_of(LANES));
        for &root in &layout.roots {
            ensure!((root as usize) < nodes.len(), "a bad layout");
            roots.push(W::of(u64::from(root) << 1));
        }
        let trees = roots.len();
        // A root's neighbour is a leaf that nothing leads to.
        let idle = layout.roots.first().map_or(0, |root| root + 1);
        ensure!((idle as usize) < nodes.len(), "a bad layout");
        roots.resize(trees.next_multiple_of(LANES), W::of(u64::from(idle) << 1));
        let mask = W::of((1_u64 << shift) - 2);
        Ok(Some(Self { list, roots, trees, columns, shift, mask }))
    }

    /// One step of one walk: the next position, and the word at this one.
    ///
    /// # Safety
    ///
    /// `position` is a root or came from a step, and `row` points to at least
    /// `columns` numbers.
    #[inline(always)]
    unsafe fn step(&self, position: W, row: *const X) -> (W, W) {
        // SAFETY: by the invariant of `Nodes`, roots and whatever a step gives
        // are valid positions, and columns are below `columns`.
        unsafe {
            let node = self.list.get_unchecked(position.position());
            let x = *row.add(node.word.column(self.shift));
            #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN goes right")]
            let right = !(x <= node.threshold);
            (node.word.next(self.mask, right), node.word)
        }
    }

    /// Walks in step to the leaves.
    ///
    /// # Safety
    ///
    /// As for [`Nodes::step`], for each lane.
    #[inline(always)]
    unsafe fn descend<const N: usize>(&self, at: &mut [W; N], row: impl Fn(usize) -> *const X) {
        loop {
            let mut words = W::default();
            for (lane, at) in at.iter_mut().enumerate() {
                // SAFETY: the caller's promise; and a step gives positions.
                let (next, word) = unsafe { self.step(*at, row(lane)) };
                *at = next;
                words = words.or(word);
            }
            if !words.is_branch() {
                return;
            }
        }
    }

    fn payload(&self, position: W) -> X {
        self.list[position.position()].threshold
    }

    /// Takes one row to a leaf of each tree.
    fn row(&self, row: &[X], mut visit: impl FnMut(usize, X)) {
        assert!(row.len() >= self.columns);
        for (group, roots) in self.roots.as_chunks::<LANES>().0.iter().enumerate() {
            let mut at = *roots;
            // SAFETY: these are roots (or a leaf), and `row` is long enough.
            unsafe { self.descend(&mut at, |_| row.as_ptr()) };
            let first = group * LANES;
            for (lane, &at) in at.iter().enumerate().take(self.trees - first) {
                visit(first + lane, self.payload(at));
            }
        }
    }

    /// Takes N rows of `width` numbers to a leaf of one tree.
    #[inline(always)]
    fn rows<const N: usize>(
        &self,
        tree: usize,
        rows: &[X],
        width: usize,
        mut visit: impl FnMut(usize, X),
    ) {
        assert!(width >= self.columns && rows.len() >= N * width);
        let mut at = [self.roots[tree]; N];
        // SAFETY: these are roots, and `rows` holds N rows that are long enough.
        unsafe { self.descend(&mut at, |lane| rows.as_ptr().add(lane * width)) };
        at.iter().enumerate().for_each(|(lane, &at)| visit(lane, self.payload(at)));
    }

    fn walk(&self, rows: &[X], width: usize, visit: &mut impl FnMut(usize, usize, X)) {
        let block = (ROWS_BYTES / (width * size_of::<X>())).clamp(LANES, 1024);
        let block = block.next_multiple_of(LANES);
        for (i, rows) in rows.chunks(block * width).enumerate() {
            self.walk_block(rows, width, &mut |row, tree, leaf| visit(i * block + row, tree, leaf));
        }
    }

    fn walk_block(&self, rows: &[X], width: usize, visit: &mut impl FnMut(usize, usize, X)) {
        let count = rows.len() / width;
        let (sixteens, eights) = (count / LANES * LANES, count / 8 * 8);
        if eights > 0 {
            for tree in 0..self.trees {
                for first in (0..sixteens).step_by(LANES) {
                    let rows = &rows[first * width..];
                    self.rows::<LANES>(tree, rows, width, |lane, leaf| {
                        visit(first + lane, tree, leaf);
                    });
                }
                if sixteens < eights {
                    self.rows::<8>(tree, &rows[sixteens * width..], width, |lane, leaf| {
                        visit(sixteens + lane, tree, leaf);
                    });
                }
            }
        }
        for row in eights..count {
            self.row(&rows[row * width..][..width], |tree, leaf| visit(row, tree, leaf));
        }
    }
}

/// How many bits numbers below `count` take.
fn bits(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}

#[derive(Debug)]
enum Packed<X> {
    /// 8 bytes a node for FP32.
    Small(Nodes<X, u32>),
    /// 16 bytes a node: very many nodes, or columns.
    Large(Nodes<X, u64>),
}

/// The trees of an ensemble, ready to be walked.
#[derive(Debug)]
pub(super) struct Forest<X> {
    nodes: Packed<X>,
    columns: Columns,
    features: usize,
}

impl<X: Real> Forest<X> {
    /// Lays `trees` out; `payload` gives the number that a leaf brings along.
    pub(super) fn new(trees: &Trees, payload: impl Fn(u32) -> X) -> TractResult<Self> {
        let layout = place(trees, payload)?;
        let nodes = match Nodes::pack(&layout)? {
            Some(nodes) => Packed::Small(nodes),
            None => Packed::Large(Nodes::pack(&layout)?.context("more than 2^62 nodes")?),
        };
        Ok(Self { nodes, columns: layout.columns, features: trees.features })
    }

    #[cfg(test)]
    pub(super) fn is_large(&self) -> bool {
        matches!(self.nodes, Packed::Large(_))
    }

    /// The same with large nodes, needed or not.
    #[cfg(test)]
    pub(super) fn large(trees: &Trees, payload: impl Fn(u32) -> X) -> TractResult<Self> {
        let layout = place(trees, payload)?;
        let nodes = Packed::Large(Nodes::pack(&layout)?.context("nodes")?);
        Ok(Self { nodes, columns: layout.columns, features: trees.features })
    }

    /// The least number of features that a row must have.
    pub(super) fn features(&self) -> usize {
        self.features.max(1)
    }

    /// Calls `visit` with row, tree and payload for the leaf that each row
    /// reaches in each tree; for a given row in the order of the trees.
    #[inline]
    pub(super) fn walk(&self, rows: &[X], width: usize, mut visit: impl FnMut(usize, usize, X)) {
        let (rows, width) = self.columns.of(rows, width);
        match &self.nodes {
            Packed::Small(nodes) => nodes.walk(&rows, width, &mut visit),
            Packed::Large(nodes) => nodes.walk(&rows, width, &mut visit),
        }
    }
}
