//! Statistics, as the protocol's extension of that name has them.
//!
//! What is always so: nothing is cached, hence no hits and misses; the sizes of
//! batches are not told apart (the metrics `foreshadow_batch_rows` do that, in
//! buckets), hence an empty `batch_stats`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Result;
use crate::protocol::reply::Reply;
use crate::protocol::v2::metadata::{self, json};
use crate::routing::{Plan, Router};
use crate::telemetry::{Metrics, ModelStatistics, StatisticDuration};
use crate::types::VersionId;

/// Statistics of some versions.
#[derive(Serialize, ToSchema)]
#[schema(as = V2Statistics)]
pub(in crate::protocol) struct All {
    model_stats: Vec<Model>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V2ModelStatistics)]
struct Model {
    name: String,
    version: String,
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: Inference,
    #[schema(value_type = Vec<Object>)]
    batch_stats: [(); 0],
}

#[derive(Serialize, ToSchema)]
#[schema(as = V2InferenceStatistics)]
struct Inference {
    success: Duration,
    fail: Duration,
    queue: Duration,
    compute_input: Duration,
    compute_infer: Duration,
    compute_output: Duration,
    cache_hit: Duration,
    cache_miss: Duration,
}

#[derive(Serialize, ToSchema)]
#[schema(as = V2StatisticDuration)]
struct Duration {
    count: u64,
    ns: u64,
}

impl From<StatisticDuration> for Duration {
    fn from(StatisticDuration { count, ns }: StatisticDuration) -> Self {
        Self { count, ns }
    }
}

impl From<ModelStatistics> for Model {
    fn from(of: ModelStatistics) -> Self {
        Self {
            name: of.model.to_string(),
            version: of.version.to_string(),
            last_inference: of.last_inference_ms,
            inference_count: of.inference_count,
            execution_count: of.execution_count,
            inference_stats: Inference {
                success: of.success.into(),
                fail: of.fail.into(),
                queue: of.queue.into(),
                compute_input: of.compute_input.into(),
                compute_infer: of.compute_infer.into(),
                compute_output: of.compute_output.into(),
                cache_hit: StatisticDuration::default().into(),
                cache_miss: StatisticDuration::default().into(),
            },
            batch_stats: [],
        }
    }
}

/// The statistics of the versions that are ready: of all models, of one, or of
/// one version; by model and version.
///
/// # Errors
/// `NotFound` for a model or version that is not there.
pub(in crate::protocol) fn statistics(
    router: &Router,
    metrics: &Metrics,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<ModelStatistics>> {
    let of = |plan: &Plan, version: VersionId| metrics.statistics(&plan.model, version);
    let Some(model) = model else {
        let names = router.catalog().names();
        // One that left meanwhile has none.
        let plans = names.iter().filter_map(|name| router.plan(name.as_str()).ok());
        return Ok(plans
            .flat_map(|plan| plan.ready.keys().map(|v| of(&plan, *v)).collect::<Vec<_>>())
            .collect());
    };
    let plan = router.plan(model)?;
    match version {
        Some(text) => Ok(vec![of(&plan, metadata::pinned(&plan, text)?)]),
        None => Ok(plan.ready.keys().map(|version| of(&plan, *version)).collect()),
    }
}

/// `GET /v2/models/stats` and `GET /v2/models/{m}[/versions/{v}]/stats`.
pub(in crate::protocol) fn reply(statistics: Vec<ModelStatistics>) -> Reply {
    json(&All { model_stats: statistics.into_iter().map(Model::from).collect() })
}
