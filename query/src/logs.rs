//! Logs: the search language, LogQL, and what both ask of the shards.
//!
//! ```text
//! search::parse ─► LogFilter ─┐                          ┌─► LogSource::scan, count, values, fields, streams
//! logql::parse ─► Expr ───────┴─► engine ─► fragment ────┤   (a read view of one shard, storage's)
//!                                  merge ◄─ LogAnswer ◄──┘
//! ```
//!
//! Read first: [`source`], then [`search`], [`logql`], [`engine`].

pub mod engine;
pub(crate) mod fragment;
pub mod level;
pub mod logql;
pub mod patterns;
pub mod search;
pub mod source;
pub mod stats;

pub use engine::{LogQuery, Place, Row};
