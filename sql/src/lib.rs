//! SQL over the cluster: DataFusion on top, the shards below, fragments of our own in between.
//!
//! What lives here: statements, tables, the plan node that asks the shards, and what a shard does with a fragment. What
//! does not: storage, network, HTTP. Shards are reached through `query::source`, like those of PromQL; what only the
//! node knows (its members, its settings) comes through [`system::System`].
//!
//! ```text
//! text ─statement─► AST ─engine─► plan over catalog's tables ─push─► what shards can do is folded into each scan
//!   coordinator: scan asks all shards at once and gives their rows on; DataFusion does the rest
//!   shard:       shard::Fragment walks over its rows: filters, projections, first rows, partial aggregates
//! ```
//!
//! Invariants: a statement that misses a shard fails and names it; nothing here writes; a tenant sees its own rows only;
//! what a statement holds is charged to its budget and to the node.
//!
//! Read first: [`columns`], [`scan`], [`push`], then [`shard`].

#![forbid(unsafe_code)]

pub mod catalog;
pub mod columns;
mod derived;
pub mod engine;
pub mod error;
pub mod exprs;
pub mod filters;
pub mod format;
pub mod functions;
mod interrupt;
mod literals;
pub mod memory;
pub mod postgres;
pub mod promql;
pub mod push;
mod rows;
pub mod scan;
pub mod shard;
pub mod statement;
pub mod system;

pub use datafusion::common::runtime::JoinSetTracer as TaskTracer;
pub use engine::{Rows, SqlEngine, SqlOptions, SqlQuery};
pub use error::SqlError;
pub use shard::Fragment;
pub use statement::{Parameter, Parameters};

/// Has the tasks of all plans of this process wrapped, so that what belongs to a task goes along; the first call counts.
pub fn trace_tasks(tracer: &'static dyn TaskTracer) {
    // There is one node in a process.
    let _ = datafusion::common::runtime::set_join_set_tracer(tracer);
}
