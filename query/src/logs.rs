//! Logs: the search language, LogQL, and what both ask of the shards.

pub mod level;
pub mod search;
pub mod source;
