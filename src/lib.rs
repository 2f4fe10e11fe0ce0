//! Foreshadow serves ONNX models and watches new versions on the real
//! traffic before they can hurt anyone.
//!
//! # Three paths
//!
//! ```text
//! DATA     socket → server → protocol → routing {slot → plan → split} → serving {inline | engine threads} → engine → reply
//!                                           └ shadow copy (bounded, droppable) ┘        └→ telemetry (lock-free counts)
//! CONTROL  notify → scan → settle → pin → preflight (child process) → load → warm-up → gate → publish → retire
//!          operator → cli → admin → manager ────────────────────────────────────────────┘
//! LEARN    recorder counts → jury → analysis (pure) → outcome → policy (pure) → controller → manager → publish
//!          audit log → webhooks, server-sent events → others
//!          answered rows → telemetry::Watch → monitor → analysis (pure) → drift → people
//!          telemetry counts, drift, control's board → monitor → alerts (pure) → audit log, people
//!          answered requests, a sample → telemetry::Tap → capture → Parquet files → replay → people
//!          Parquet files, kept answers with labels → capture::dataset → one table to train on
//!          telemetry counts → comparison (champion beside canary and shadows) → people
//! ```
//!
//! Data never calls control: they meet only in the slot, one `ArcSwap<Plan>`
//! per model. Control never blocks data: what is slow (hashing, loading,
//! optimising, freeing a model) runs on control's own threads.
//!
//! # Words
//!
//! A *model* is a named prediction service; a *version* one immutable artifact
//! of it, pinned by its SHA-256 digest. The *catalog* maps names to *slots*; a
//! slot holds the *plan*: who is *champion*, *canary* (at a *weight*) and
//! *shadow* (at a *sample* rate). What the *split* decides for one request is
//! an *assignment*. To *publish* is to swap a new plan into a slot, the only
//! write that the data path ever sees.
//!
//! # Who may use whom
//!
//! `server → protocol, admin`; `protocol → routing → serving → engine`;
//! `registry → routing, serving, engine, store`; `rollout → registry, analysis,
//! store`; `monitor → analysis, store`; `capture → analysis, routing, engine`; `admin → registry,
//! rollout, monitor, capture, store`; `webhooks → store`.
//! `app` wires all of it, `cli` is the door; only they and `webhooks` use `config`. Everyone
//! may use `types`, `error` and `telemetry`; `analysis`, which is pure, only
//! `types` and `error`. `tests/architecture.rs` checks this against the
//! sources.
//!
//! # Invariants
//!
//! 1. A request loads its plan exactly once and finishes on the versions that
//!    plan named, whatever is published meanwhile.
//! 2. Nothing from `routing` down knows HTTP, gRPC or JSON.
//! 3. No plan is published whose versions have not passed preflight, warm-up
//!    and the gate (the champion's signature, a cost limit).
//! 4. Every queue, map and log is bounded; what is dropped is counted, and the
//!    count is shown beside every figure that it could bend.
//! 5. A shadow cannot be seen by a client: not in the reply, not in its
//!    latency (copies are handed over once the reply is written), not when it
//!    errors, panics, returns nonsense, or is stuck.
//! 6. A bad model, file or setting changes nothing that serves.
//! 7. Every publish has an audit entry, written before it: who, why, from
//!    which plan to which.
//! 8. A client that left costs nothing more; a deadline that passed runs
//!    nothing.
//! 9. Metric series of a retired version are removed.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

pub mod admin;
pub mod analysis;
pub mod app;
pub mod capture;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
#[cfg(test)]
mod golden;
pub mod monitor;
pub mod protocol;
pub mod registry;
pub mod rollout;
pub mod routing;
pub mod server;
pub mod serving;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod webhooks;
