//! `grpc.health.v1`: whether the process, and each model, wants traffic.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::error::{Error, ErrorCode};
use crate::protocol::Service;
use crate::protocol::call::Failed;
use crate::protocol::grpc::answer::{Writing, head};
use crate::protocol::grpc::body::{BodyError, GrpcBody, Stoppable};
use crate::protocol::grpc::infer::message;
use crate::protocol::grpc::route::SERVICE;
use crate::protocol::grpc::terms::Terms;
use crate::protocol::grpc::{Grpc, ending, status as told};
use crate::protocol::v2::metadata;

/// Time between two looks at what somebody watches.
const LOOK: Duration = Duration::from_millis(200);

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

impl Grpc {
    /// A model that nobody knows is an error; so has it the service's definition.
    pub(super) async fn check<B>(&self, body: B, terms: Terms) -> Result<Response<GrpcBody>, Failed>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let bytes = self.read_small(body, terms).await?;
        let HealthCheckRequest { service: name } = message(bytes)?;
        let status = status(&self.service, &name);
        if status == ServingStatus::ServiceUnknown {
            let message =
                format!("unknown service {name:?}: expected \"\", {SERVICE:?} or a model's name");
            return Err(Failed::probe(Error::new(ErrorCode::NotFound, message)));
        }
        Ok(self.writing(terms).reply(&HealthCheckResponse { status: status.into() })?)
    }

    /// Tells it again and again, until the client or the process has enough.
    pub(super) async fn watch<B>(&self, body: B, terms: Terms) -> Result<Response<GrpcBody>, Failed>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let bytes = self.read_small(body, terms).await?;
        let HealthCheckRequest { service: name } = message(bytes)?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (service, writing) = (Arc::clone(&self.service), self.writing(terms));
        let watch = Watch { service, name, writing, looks, told: None };
        let stopped = Box::pin(self.drained());
        let body = Stoppable::new(watch, stopped, told::trailers(&ending()));
        Ok(head(terms.reply, GrpcBody::streamed(body)))
    }
}

/// Tells the status at first, and then whenever it has changed.
struct Watch {
    service: Arc<Service>,
    name: String,
    writing: Writing,
    looks: Interval,
    told: Option<ServingStatus>,
}

impl Body for Watch {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            ready!(self.looks.poll_tick(context));
            let now = status(&self.service, &self.name);
            if self.told != Some(now) {
                self.told = Some(now);
                let frame = self.writing.frame(&HealthCheckResponse { status: now.into() });
                let frame = frame.map(|(bytes, _)| Frame::data(bytes));
                return Poll::Ready(Some(frame.map_err(Into::into)));
            }
        }
    }
}
