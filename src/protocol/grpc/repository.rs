//! What the repository holds and has done, and what clients wish for it.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::Body;

use crate::error::{Error, Result};
use crate::protocol::call::Failed;
use crate::protocol::grpc::Grpc;
use crate::protocol::grpc::body::GrpcBody;
use crate::protocol::grpc::infer::message;
use crate::protocol::grpc::info::named;
use crate::protocol::grpc::pb;
use crate::protocol::grpc::pb::model_repository_parameter::ParameterChoice;
use crate::protocol::grpc::pb::repository_index_response::ModelIndex;
use crate::protocol::grpc::terms::Terms;
use crate::protocol::v2::{repository, stats};
use crate::telemetry::{ModelStatistics, StatisticDuration};
use crate::types::{Asked, IndexEntry, ModelState, VersionId, Wish};

impl Grpc {
    /// Without a name, of all models.
    pub(super) fn statistics(
        &self,
        request: &pb::ModelStatisticsRequest,
    ) -> Result<pb::ModelStatisticsResponse> {
        let (router, metrics) = (&self.service.router, &self.service.metrics);
        let (model, version) = (named(&request.name), named(&request.version));
        let statistics = stats::statistics(router, metrics, model, version)?;
        Ok(pb::ModelStatisticsResponse {
            model_stats: statistics.into_iter().map(Into::into).collect(),
        })
    }

    /// Everything, or what is ready.
    pub(super) fn index(
        &self,
        request: &pb::RepositoryIndexRequest,
    ) -> Result<pb::RepositoryIndexResponse> {
        let entries = self.service.repository()?.index().into_iter();
        let shown = entries.filter(|entry| !request.ready || entry.state == ModelState::Ready);
        Ok(pb::RepositoryIndexResponse { models: shown.map(Into::into).collect() })
    }

    /// Does what a client wishes for a model; a no is an answer, and no request was
    /// refused.
    pub(super) async fn wish<B>(
        &self,
        parts: Parts,
        body: B,
        terms: Terms,
        wish: Wish,
    ) -> Result<Response<GrpcBody>, Failed>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let bytes = self.read_small(body, terms).await?;
        // Both have the same fields.
        let request: pb::RepositoryModelLoadRequest = message(bytes)?;
        let (model, version) = (request.model_name.as_str(), version(&request)?);
        let asked = Asked { wish, model, version, headers: &parts.headers };
        self.service.repository()?.grant(asked).await.map_err(Failed::probe)?;
        // Both are empty.
        Ok(self.writing(terms).reply(&pb::RepositoryModelLoadResponse {})?)
    }
}

/// The version that a wish is for; `None` means the whole model.
fn version(request: &pb::RepositoryModelLoadRequest) -> Result<Option<VersionId>> {
    let mut version = None;
    for (name, value) in &request.parameters {
        if !repository::parameter(name)? {
            continue;
        }
        let text = match &value.parameter_choice {
            Some(ParameterChoice::StringParam(text)) => text.clone(),
            Some(ParameterChoice::Int64Param(number)) => number.to_string(),
            _ => return Err(Error::invalid("parameter \"version\": expected its number")),
        };
        let number = text.parse();
        version = Some(number.map_err(|error: Error| error.context("parameter \"version\""))?);
    }
    Ok(version)
}

impl From<IndexEntry> for ModelIndex {
    fn from(entry: IndexEntry) -> Self {
        Self {
            name: entry.model.to_string(),
            version: entry.version.map(|version| version.to_string()).unwrap_or_default(),
            state: entry.state.as_str().to_owned(),
            reason: entry.reason,
        }
    }
}

impl From<ModelStatistics> for pb::ModelStatistics {
    fn from(of: ModelStatistics) -> Self {
        let none = StatisticDuration::default();
        Self {
            name: of.model.to_string(),
            version: of.version.to_string(),
            last_inference: of.last_inference_ms,
            inference_count: of.inference_count,
            execution_count: of.execution_count,
            inference_stats: Some(pb::InferStatistics {
                success: Some(of.success.into()),
                fail: Some(of.fail.into()),
                queue: Some(of.queue.into()),
                compute_input: Some(of.compute_input.into()),
                compute_infer: Some(of.compute_infer.into()),
                compute_output: Some(of.compute_output.into()),
                cache_hit: Some(none.into()),
                cache_miss: Some(none.into()),
            }),
            ..Self::default()
        }
    }
}

impl From<StatisticDuration> for pb::StatisticDuration {
    fn from(StatisticDuration { count, ns }: StatisticDuration) -> Self {
        Self { count, ns }
    }
}
