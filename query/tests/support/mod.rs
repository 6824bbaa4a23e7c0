//! What the tests of the engine share: a cluster in memory, and the runner of Prometheus' test language.

pub mod in_process;
pub mod memory;
pub mod script;
pub mod series;
