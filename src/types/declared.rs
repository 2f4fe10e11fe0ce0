//! What a model's owner declares of it beside the artifact, as the
//! `config.pbtxt` of a Triton repository does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{Datatype, Dim, TensorSpec, VersionId};

/// What is declared of a model's tensors: narrower than the artifact says it,
/// or in another shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// Whether the first dimension of every tensor is the row, which the shapes
    /// below leave out; `None` lets the artifact tell.
    pub batched: Option<bool>,
    /// All inputs, or none of them.
    pub inputs: Vec<DeclaredTensor>,
    /// The outputs that clients may have; all, if none is declared.
    pub outputs: Vec<DeclaredTensor>,
    /// What is run before the version serves, besides our own warm-up.
    pub warm_up: Vec<WarmUpSample>,
}

/// What is declared of one input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeclaredTensor {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// The dimensions that clients see; `None` for one that may vary.
    pub dims: Vec<Option<usize>>,
    /// The dimensions that the graph has instead, of as many elements.
    pub reshape: Option<Vec<usize>>,
    /// The file that names the entries of its last dimension.
    pub label_file: Option<String>,
    /// These names.
    pub classes: Vec<String>,
}

/// A request that is run at warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmUpSample {
    /// Its name, for people.
    pub name: String,
    /// How often it is run.
    pub runs: usize,
    /// The inputs by name, in the shapes that clients send.
    pub inputs: Vec<WarmUpInput>,
}

/// One input of a [`WarmUpSample`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmUpInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// Its shape, rows included.
    pub shape: Vec<usize>,
    /// Numbers drawn at random instead of zeros.
    pub random: bool,
}

impl Declared {
    /// What a trial depends on: without the names of classes.
    #[must_use]
    pub fn without_classes(&self) -> Self {
        let mut bare = self.clone();
        for tensor in bare.inputs.iter_mut().chain(&mut bare.outputs) {
            (tensor.label_file, tensor.classes) = (None, Vec::new());
        }
        bare
    }
}

/// The versions of a model that are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionPolicy {
    /// All that there are.
    #[default]
    All,
    /// So many of the highest numbers.
    Latest(usize),
    /// These.
    Specific(Vec<VersionId>),
}

impl fmt::Display for VersionPolicy {
    /// `latest 1`, `all`, `specific 1, 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Latest(count) => write!(f, "latest {count}"),
            Self::Specific(versions) => {
                let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
                write!(f, "specific {}", versions.join(", "))
            }
        }
    }
}

/// What a `config.pbtxt` says that clients may ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TritonSettings {
    /// The most rows of a request; `None` where it says nothing of rows.
    pub max_batch_size: Option<usize>,
    /// Of its tensors.
    pub declared: Arc<Declared>,
    /// Which versions are loaded.
    pub version_policy: VersionPolicy,
    /// The artifact's name in a version's folder.
    pub default_model_filename: Option<String>,
    /// Free parameters.
    pub parameters: BTreeMap<String, String>,
}

impl DeclaredTensor {
    /// The names of the entries of the last dimension, where there is one for
    /// each of them and the artifact has none. More names than entries are
    /// the file's affair.
    #[must_use]
    pub fn classes_of(&self, spec: &TensorSpec) -> Option<&[String]> {
        let Some(Dim::Fixed(entries)) = spec.shape.last() else { return None };
        let fits = spec.classes.is_empty() && *entries > 0;
        self.classes.get(..*entries).filter(|_| fits)
    }
}
