//! Integration tests over real sockets. One binary, so that it links once.
//!
//! Most start the app in this process on ports of the system's choice, with a
//! scripted engine; `binary`, `check`, `disk` and `hostile` run the real program.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests may")]

mod alerts;
mod bad_input;
mod bad_tensors;
mod batching;
mod binary;
mod capture;
mod check;
mod dataset;
mod disk;
mod drift;
mod drift_canary;
mod engine;
mod engines;
mod external;
mod feedback;
mod feedback_kills;
mod feedback_many;
mod gateway;
mod grpc;
mod hostile;
mod http;
mod inference_openapi;
mod label_guards;
mod openapi;
mod profile;
mod program;
mod repository;
mod rollout_kills;
mod rollouts;
mod schema;
mod shadows;
mod store;
mod swap;
mod tokens;
mod triton;
mod v2_bad_input;
mod v2_repository;
mod webhooks;
mod wires;
mod words;
