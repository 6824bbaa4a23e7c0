#![doc = include_str!("block.md")]

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Among, Block};
pub use encode::{Encoded, encode};

const TIMES: usize = 0;
const ORIGINS: usize = 1;
const OBSERVED: usize = 2;
const BODIES: usize = 3;
const BODY_TEXT: usize = 4;
const TRACES: usize = 5;
const SPANS: usize = 6;
const STREAMS: usize = 7;
const SEVERITIES: usize = 8;
const FLAGS: usize = 9;
const EVENTS: usize = 10;
const KEY_SETS: usize = 11;
const SECTIONS: usize = 12;

/// Heads of slots of numbers: no leading zeros, as many digits in all rows, or each its own.
const PLAIN: u8 = 0;
const FIXED: u8 = 1;
const EACH: u8 = 2;

/// Largest exponent of ten by which floats are moved to be whole, and what stands for their bits.
const MAX_EXPONENT: u8 = 6;
const BITS: u8 = 255;

/// How a block lies in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Section after section, without checksums of their own: what is always read whole.
    Plain,
    /// A head with the lengths and checksums of sections, and columns of grouped order in parts: who reads some of it need
    /// not look at the rest.
    Checked,
}

impl Layout {
    /// That of segments which are written in an epoch.
    pub fn of_epoch(epoch: u16) -> Self {
        if epoch >= crate::epoch::CHECKED_SECTIONS { Self::Checked } else { Self::Plain }
    }
}

/// Bounds of what is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a block.
    pub rows: usize,
    /// Values of all columns together.
    pub values: usize,
    /// Bytes of texts that are kept as they are.
    pub bytes: usize,
}

/// Which columns are decoded. Times always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The collector's times.
    pub observed: bool,
    /// Bodies.
    pub body: Bodies,
    /// Streams.
    pub streams: bool,
    /// Severities.
    pub severities: bool,
    /// Trace flags.
    pub flags: bool,
    /// Events.
    pub events: bool,
    /// Trace ids.
    pub traces: bool,
    /// Span ids.
    pub spans: bool,
    /// Attributes.
    pub attributes: Attributes,
}

/// Which bodies are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// None.
    #[default]
    None,
    /// None, but which template each has is known.
    Templates,
    /// Those of these templates, ascending, and those that have no template. Of the others it is known which template they
    /// have, and no more.
    Of(Vec<u32>),
    /// All.
    All,
}

impl Bodies {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, some) | (some, Self::None) => some,
            (Self::Templates, some) | (some, Self::Templates) => some,
            (Self::Of(a), Self::Of(b)) => Self::Of(united(a, b)),
            _ => Self::All,
        }
    }
}

/// Numbers of either list, ascending.
fn united(mut a: Vec<u32>, b: Vec<u32>) -> Vec<u32> {
    a.extend(b);
    a.sort_unstable();
    a.dedup();
    a
}

/// Which attributes are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attributes {
    /// None.
    #[default]
    None,
    /// Columns of the dictionary.
    Some(Vec<u32>),
    /// All.
    All,
}

impl Want {
    /// Everything.
    pub const ALL: Self = Self {
        observed: true,
        body: Bodies::All,
        streams: true,
        severities: true,
        flags: true,
        events: true,
        traces: true,
        spans: true,
        attributes: Attributes::All,
    };

    /// Whether all that is wanted is kept by groups of bodies, rather than in the order of times.
    pub fn is_grouped(&self) -> bool {
        !self.observed && !self.traces && !self.spans
    }

    /// What either wants.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let attributes = match (self.attributes, other.attributes) {
            (Attributes::None, some) | (some, Attributes::None) => some,
            (Attributes::Some(a), Attributes::Some(b)) => Attributes::Some(united(a, b)),
            _ => Attributes::All,
        };
        Self {
            observed: self.observed || other.observed,
            body: self.body.and(other.body),
            streams: self.streams || other.streams,
            severities: self.severities || other.severities,
            flags: self.flags || other.flags,
            events: self.events || other.events,
            traces: self.traces || other.traces,
            spans: self.spans || other.spans,
            attributes,
        }
    }
}

/// How many bodies of a block have a template; `None`: those kept as they are, values that are no text among them.
pub type BodyCount = (Option<u32>, u32);

fn digits(value: u64) -> i64 {
    value.checked_ilog10().map_or(1, |log| i64::from(log) + 1)
}
