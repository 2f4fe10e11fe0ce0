//! Kept answers of a gateway, page by page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cli::client::Admin;
use crate::cli::failure::Failure;
use crate::types::{LabelValue, ModelName};

/// Requests that are asked for at once: the most.
const LIMIT: usize = 10_000;

/// A page, as it is read. Unknown fields are ignored, so that an older client reads a newer
/// gateway.
#[derive(Debug, Deserialize)]
struct Page {
    answers: Vec<Answer>,
    next: Option<u64>,
    end: u64,
}

/// An answer to one row.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Answer {
    pub(super) prediction_id: String,
    pub(super) row: u32,
    pub(super) time: String,
    pub(super) version: u64,
    pub(super) role: String,
    pub(super) answer: Option<Said>,
    #[serde(default)]
    pub(super) scores: Vec<f64>,
    #[serde(default)]
    pub(super) groups: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) label: Option<LabelValue>,
}

/// The answer itself.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Said {
    /// A class without a name.
    Class(i64),
    Number(f64),
    /// The name of a class.
    Name(String),
}

/// Reads all pages, one after the other, up to what there is when the first one is read.
pub(super) fn each_page(
    admin: &Admin,
    model: &ModelName,
    labelled: bool,
    mut take: impl FnMut(&[Answer]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let (mut after, mut end) = (0, None);
    loop {
        let path =
            format!("/v1/models/{model}/answers?after={after}&limit={LIMIT}&labelled={labelled}");
        let page: Page = admin.parse(runtime.block_on(admin.get_json(&path))?)?;
        take(&page.answers)?;
        let end = *end.get_or_insert(page.end);
        match page.next {
            None => return Ok(()),
            Some(next) if next >= end => return Ok(()),
            // Else it would never end.
            Some(next) if next <= after => return Err(admin.foreign()),
            Some(next) => after = next,
        }
    }
}
