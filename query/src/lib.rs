//! From query text to answers: PromQL parser, planner and evaluator, fragments for the shards, limits.

#![forbid(unsafe_code)]
