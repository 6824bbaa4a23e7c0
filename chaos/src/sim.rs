//! The simulator: whole nodes in one thread, on virtual time, under one seed.
//!
//! ```text
//!             seed
//!               |  one stream of random numbers per concern (sim::random)
//!   +-----------+-------------+---------------+----------------+
//!   executor    net           disks           fault scheduler  clients + oracle
//!   (ready      (delay, loss, (sync latency,  (crash, cut,     (uniquely numbered
//!    queue)      cuts, twice)  torn writes)    skew, move ...)   samples, judged)
//! ```
//!
//! Everything random comes from the seed, so a seed is a complete bug report: the same seed gives the same run, and
//! [`runtime::SimRuntime::trace_hash`] proves it. Each concern draws from its own stream, so that a change in one does
//! not reshuffle the others.
//!
//! Read [`run`] first (a seed from founding to judgement), then [`faults`] and [`oracle`]; [`executor`], [`net`] and
//! [`machine`] are the world that nodes live in.

pub mod checks;
pub mod clients;
pub mod cluster;
pub mod corpus;
pub mod disk_log;
pub mod executor;
pub mod faults;
pub mod machine;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod shrink;
pub mod soak;
pub mod watch;
