//! Epochs: which formats all members of a cluster know.
//!
//! A build knows the formats of all epochs up to [`NEWEST`]. The meta group holds the epoch that is in use, and raises it when
//! every member says that it knows a newer one; it never falls. What an older build could not read (a new encoding in
//! segments or commands, a new command of the meta group, a new kind of request between nodes) is written or sent only
//! at an epoch that includes it. So nodes can be replaced by a newer build one at a time, and back, until the last of them
//! is new; a node that meets an epoch it does not know ends itself before it takes anything in.
//!
//! A change of format adds a constant here, and asks for it where it writes.

/// The newest epoch that this build knows.
pub const NEWEST: u16 = 5;
/// The first one.
pub const OLDEST: u16 = 1;
/// From here on a fragment may carry its place in a trace.
pub const TRACED_FRAGMENTS: u16 = 2;
/// From here on the meta group keeps join tokens.
pub const JOIN_TOKENS: u16 = 2;
/// From here on columns of floats say that none of their values is a staleness marker.
pub const NONE_STALE: u16 = 2;
/// From here on a merge may leave out tenants whose time is over, or roll up what they have.
pub const MERGES_BY_TENANT: u16 = 3;
/// From here on sections of logs' and spans' blocks have checksums of their own.
pub const CHECKED_SECTIONS: u16 = 4;
/// From here on flushes of logs and spans pack their columns as sub-batches do, and merges pack them small.
pub const QUICK_FLUSHES: u16 = 5;
