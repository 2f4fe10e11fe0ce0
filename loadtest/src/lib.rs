//! An open-loop HTTP load generator for Foreshadow and any other server
//! that takes JSON by POST.
//!
//! ```text
//! arrivals (when) → load: pace → queue → client (connections) → measure → report
//! scenario: stage (runs in turns) + admin (changes)     compare: medians of their ratios
//! html: the report as a page                            bare: a yardstick to compare with
//! graph, heavy: models made here                        usage: the server's CPU and memory
//! grpc: messages, and a yardstick for them
//! versions: they come, serve and go                     repository: the folder they come to
//! ```
//!
//! Open-loop: when requests are due is fixed beforehand, and a request's latency
//! counts from then, not from when a connection happened to be free. A server
//! that stalls is charged for everyone who would have waited, not for the one
//! request that was in flight (coordinated omission).
//!
//! `arrivals`, `report`, `text` and the figures in `measure` know neither clock nor
//! socket.

pub mod admin;
pub mod arrivals;
pub mod bare;
pub mod client;
pub mod compare;
pub mod error;
pub mod graph;
pub mod grpc;
pub mod heavy;
pub mod hostile;
pub mod html;
mod lane;
pub mod load;
pub mod measure;
mod overload;
pub mod pace;
pub mod queue;
pub mod report;
pub mod repository;
pub mod scenario;
mod stage;
pub mod stop;
pub mod target;
pub mod text;
pub mod timeline;
pub mod usage;
pub mod versions;
