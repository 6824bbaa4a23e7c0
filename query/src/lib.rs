//! From query text to answers: PromQL parser, planner and evaluator, fragments for the shards, limits.
//!
//! Read first: [`source`], which says what the engine asks of the rest of the system.

#![forbid(unsafe_code)]

pub mod source;
