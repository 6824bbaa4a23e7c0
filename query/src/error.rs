//! Why a query failed, in Prometheus' words where Prometheus has any.

use protocol::error::ErrorKind;

use crate::promql::parser::ParseError;
use crate::source::SourceError;

/// A failed query.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text is no PromQL, or its types do not fit.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A parameter of the request is wrong.
    #[error("{0}")]
    BadParameter(String),
    /// The expression can not be evaluated on the data it met.
    #[error("{0}")]
    Execution(String),
    /// More samples than the query may load.
    #[error(
        "query processing would load too many samples into memory in query execution: \
         at least {asked}, more than the limit of {limit} (query.max_samples). \
         Select fewer series or a shorter range, or raise the limit"
    )]
    TooManySamples {
        /// The limit.
        limit: u64,
        /// As many as were found before the query ended; it would have read more.
        asked: u64,
    },
    /// More points per series than a range query may ask for.
    #[error(
        "exceeded maximum resolution of {} points per timeseries: {} were asked for. \
         Try decreasing the query resolution (?step=XX), or raise query.max_points_per_series",
        thousands(*limit),
        thousands(*points)
    )]
    TooManyPoints {
        /// Points asked for.
        points: u64,
        /// The limit.
        limit: u64,
    },
    /// More memory than the query may hold.
    #[error(
        "query needs at least {asked} bytes of memory, more than its budget of {limit} bytes (query.max_memory). \
         Aggregate, select fewer series or use a longer step, or raise the budget"
    )]
    TooMuchMemory {
        /// The budget.
        limit: u64,
        /// What it held, and wanted besides.
        asked: u64,
    },
    /// A shard's answer is longer than answers may be.
    #[error(
        "the answer of one shard is {asked} bytes long, more than the {limit} bytes that a shard may answer \
         (a fixed limit). Aggregate, select fewer series or use a longer step"
    )]
    AnswerTooLong {
        /// The limit.
        limit: u64,
        /// Length of the answer, as far as it was made.
        asked: u64,
    },
    /// The memory of the node is used up, by this query and by others.
    #[error(
        "the node has no memory left for the query, which needs at least {asked} bytes: the budget of the node is \
         {budget} bytes (node.memory_budget). Try again when less runs, select less, or raise the budget"
    )]
    NodeMemory {
        /// The node's budget.
        budget: u64,
        /// What the query held, and wanted besides.
        asked: u64,
    },
    /// The deadline passed.
    #[error("query timed out in {0}")]
    Timeout(String),
    /// The caller went away or asked to stop.
    #[error("query was canceled in {0}")]
    Canceled(String),
    /// Storage, network or a shard failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A fragment or an answer is not understood.
    #[error("fragment: {0}")]
    Protocol(String),
}

/// A number with commas between groups of three digits, as Prometheus writes this limit.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl QueryError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::BadParameter(_) | Self::TooManyPoints { .. } => ErrorKind::InvalidInput,
            Self::Execution(_)
            | Self::TooManySamples { .. }
            | Self::TooMuchMemory { .. }
            | Self::AnswerTooLong { .. } => ErrorKind::LimitExceeded,
            Self::NodeMemory { .. } => ErrorKind::ResourceExhausted,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Canceled(_) => ErrorKind::Canceled,
            Self::Source(error) => error.kind,
            Self::Protocol(_) => ErrorKind::Internal,
        }
    }

    /// The `errorType` of the Prometheus API.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::BadParameter(_) | Self::TooManyPoints { .. } => "bad_data",
            Self::Execution(_)
            | Self::TooManySamples { .. }
            | Self::TooMuchMemory { .. }
            | Self::AnswerTooLong { .. } => "execution",
            Self::NodeMemory { .. } => "unavailable",
            Self::Timeout(_) => "timeout",
            Self::Canceled(_) => "canceled",
            Self::Source(error) => match error.kind {
                ErrorKind::Timeout => "timeout",
                ErrorKind::Canceled => "canceled",
                ErrorKind::LimitExceeded => "execution",
                ErrorKind::Unavailable | ErrorKind::ResourceExhausted => "unavailable",
                _ => "internal",
            },
            Self::Protocol(_) => "internal",
        }
    }

    /// Number of the variant in fragment answers, with what the variant holds.
    pub fn to_wire(&self) -> (u32, String) {
        let text = self.to_string();
        match self {
            Self::Parse(_) | Self::BadParameter(_) | Self::TooManyPoints { .. } => (1, text),
            Self::Execution(_) => (2, text),
            Self::TooManySamples { limit, asked } => (3, format!("{limit} {asked}")),
            Self::TooMuchMemory { limit, asked } => (4, format!("{limit} {asked}")),
            Self::Timeout(at) => (5, at.clone()),
            Self::Canceled(at) => (6, at.clone()),
            Self::NodeMemory { budget, asked } => (8, format!("{budget} {asked}")),
            Self::AnswerTooLong { limit, asked } => (9, format!("{limit} {asked}")),
            Self::Source(error) => {
                let at = SOURCE_KINDS.iter().position(|kind| *kind == error.kind);
                (at.map_or(INTERNAL, |at| FIRST_SOURCE_KIND + at as u32), text)
            }
            Self::Protocol(_) => (INTERNAL, text),
        }
    }

    /// The other way of [`Self::to_wire`].
    pub fn from_wire(kind: u32, text: String) -> Self {
        let (limit, asked) = text.split_once(' ').unwrap_or((&text, ""));
        let (limit, asked) = (limit.parse().unwrap_or(0), asked.parse().unwrap_or(0));
        match kind {
            1 => Self::BadParameter(text),
            2 => Self::Execution(text),
            3 => Self::TooManySamples { limit, asked },
            4 => Self::TooMuchMemory { limit, asked },
            5 => Self::Timeout(text),
            6 => Self::Canceled(text),
            8 => Self::NodeMemory { budget: limit, asked },
            9 => Self::AnswerTooLong { limit, asked },
            _ => {
                let at = kind.checked_sub(FIRST_SOURCE_KIND).and_then(|at| SOURCE_KINDS.get(at as usize));
                Self::Source(SourceError::new(at.copied().unwrap_or(ErrorKind::Internal), text))
            }
        }
    }
}

/// A fault of the shard's own, of no kind that travels.
const INTERNAL: u32 = 7;

/// The number of the first of [`SOURCE_KINDS`] in fragment answers; the others follow.
const FIRST_SOURCE_KIND: u32 = 16;

/// Kinds of a failure below the engine, in the order of their numbers. New ones go to the end.
const SOURCE_KINDS: [ErrorKind; 11] = [
    ErrorKind::InvalidInput,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::PermissionDenied,
    ErrorKind::LimitExceeded,
    ErrorKind::ResourceExhausted,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Canceled,
    ErrorKind::Corruption,
    ErrorKind::Internal,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_wire() {
        let there_and_back = |error: QueryError| {
            let (kind, text) = error.to_wire();
            (error.kind(), QueryError::from_wire(kind, text).kind())
        };
        for kind in SOURCE_KINDS {
            let (sent, came) = there_and_back(SourceError::new(kind, "it failed").into());
            assert_eq!(sent, came);
        }
        for error in [
            QueryError::BadParameter("x".into()),
            QueryError::Execution("x".into()),
            QueryError::TooManySamples { limit: 1, asked: 2 },
            QueryError::TooMuchMemory { limit: 1, asked: 2 },
            QueryError::AnswerTooLong { limit: 1, asked: 2 },
            QueryError::NodeMemory { budget: 1, asked: 2 },
            QueryError::TooManyPoints { points: 2, limit: 1 },
            QueryError::Timeout("x".into()),
            QueryError::Canceled("x".into()),
            QueryError::Protocol("x".into()),
        ] {
            let (sent, came) = there_and_back(error);
            assert_eq!(sent, came);
        }
        let (kind, text) = QueryError::TooMuchMemory { limit: 5, asked: 6 }.to_wire();
        let came = QueryError::from_wire(kind, text);
        assert!(matches!(came, QueryError::TooMuchMemory { limit: 5, asked: 6 }), "{came}");
        // What a newer node may send.
        assert_eq!(QueryError::from_wire(999, String::new()).kind(), ErrorKind::Internal);
    }
}
