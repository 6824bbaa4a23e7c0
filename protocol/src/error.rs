//! The closed set of error kinds that crosses crates. `server::error` alone maps it to HTTP and other codes.

use serde::{Deserialize, Serialize};

/// What kind of failure an error is, and thereby whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request can never succeed as it is.
    InvalidInput,
    /// The named thing does not exist.
    NotFound,
    /// The thing exists already or changed meanwhile.
    Conflict,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit of the request, tenant or query was exceeded.
    LimitExceeded,
    /// A queue, the memory or the disk is full; later it may not be.
    ResourceExhausted,
    /// A shard has no leader, a peer does not answer, or the outcome is unknown.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The caller went away or asked to stop.
    Canceled,
    /// Stored bytes are wrong.
    Corruption,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// Whether the same request may succeed when sent again.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::ResourceExhausted | Self::Unavailable | Self::Timeout)
    }
}
