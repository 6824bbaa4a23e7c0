//! Logs: the search language, LogQL, and what both ask of the shards.

pub mod source;
