//! `grpc.health.v1`: whether the process, and each model, wants traffic.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use crate::protocol::Service;
use crate::protocol::grpc::route::SERVICE;
use crate::protocol::v2::metadata;

/// Time between two looks at what somebody watches.
const LOOK: Duration = Duration::from_millis(200);

/// Answers from what the data path itself goes by; nothing is kept twice.
pub(super) struct Health(Arc<Service>);

impl Health {
    pub(super) const fn new(service: Arc<Service>) -> Self {
        Self(service)
    }
}

/// The whole server under no name and under its service's; any other name is a
/// model's.
fn status(service: &Service, name: &str) -> ServingStatus {
    let serves = |yes| if yes { ServingStatus::Serving } else { ServingStatus::NotServing };
    let whole = metadata::ready(&service.readiness).is_ok();
    if name.is_empty() || name == SERVICE {
        return serves(whole);
    }
    match service.router.plan(name) {
        Ok(plan) => serves(metadata::check_ready(&plan, None).is_ok()),
        Err(_) => ServingStatus::ServiceUnknown,
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Watch;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        match status(&self.0, name) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "unknown service {name:?}: expected \"\", {SERVICE:?} or a model's name"
            ))),
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (service, name) = (Arc::clone(&self.0), request.into_inner().service);
        Ok(Response::new(Watch { service, name, looks, told: None }))
    }
}

/// Tells the status at first, and then whenever it has changed.
pub(super) struct Watch {
    service: Arc<Service>,
    name: String,
    looks: Interval,
    told: Option<ServingStatus>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            ready!(self.looks.poll_tick(context));
            let now = status(&self.service, &self.name);
            if self.told != Some(now) {
                self.told = Some(now);
                return Poll::Ready(Some(Ok(HealthCheckResponse { status: now.into() })));
            }
        }
    }
}
