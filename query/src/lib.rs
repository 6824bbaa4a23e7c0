//! From query text to answers: PromQL parser, planner and evaluator, fragments for the shards, limits; and the same for
//! logs and traces.
//!
//! What lives here: everything that knows PromQL, LogQL, TraceQL and the language in which logs are searched, and the data model
//! of their results. What does not: storage, network, HTTP. The engine asks for data through the traits of [`source`], which `server` implements.
//!
//! ```text
//! text ─promql::parser─► tree ─plan─► tree, durations resolved, step-invariant parts marked
//!   coordinator: engine walks the tree; what a shard can do alone (selectors, functions over single series, partial
//!                aggregates) goes out as fragments, all at once; the rest is evaluated on the answers
//!   shard:       fragment::run evaluates its part series by series, streaming into the answer's columns
//! ```
//!
//! Invariants: the same evaluator runs at the shards and at the coordinator; answers do not depend on the number of
//! shards (bit for bit but for sums, which agree to 1e-12); a query that misses a shard fails.
//!
//! Read first: [`source`], then [`promql::ast`], [`value`]; for logs, [`logs`]; for traces, [`traces`].

#![forbid(unsafe_code)]

pub mod annotations;
mod calendar;
pub mod engine;
pub mod error;
pub mod eval;
pub mod exec;
pub mod features;
pub mod format;
pub mod fragment;
pub mod histogram;
mod kahan;
pub mod logs;
pub mod plan;
pub mod promql;
pub mod result;
pub mod source;
pub mod traces;
pub mod value;
mod xxh64;

pub use engine::{Engine, EngineOptions, QueryKind, QueryRequest};
pub use error::QueryError;
pub use exec::{Accounts, CancelFlag, Control, Limits};
pub use features::Features;
pub use fragment::{Fragment, run_fragment};
pub use result::QueryResult;
