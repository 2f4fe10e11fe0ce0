//! How much of a model was made for shapes.

/// A model's plans: graphs that were optimised for some shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanFigures {
    /// Plans that are held now.
    pub held: usize,
    /// Their memory, as far as can be told.
    pub bytes: usize,
    /// Plans that were made so far.
    pub made: u64,
    /// Plans that were freed so far.
    pub evicted: u64,
}
