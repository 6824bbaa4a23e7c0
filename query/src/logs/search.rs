//! The search language: `service.name:checkout level>=warn "connection refused" -debug status:[500 TO 599] /re.*x/`.
//!
//! ```text
//! text ─parse─► Search ─Display─► text       (round trip)
//!                 └─filter─► LogFilter       (what shards evaluate)
//! ```
//!
//! ```text
//! query   = [ or ]                              nothing, or *: every record
//! or      = and { "OR" and }
//! and     = unary { [ "AND" ] unary }
//! unary   = ( "-" | "NOT" ) unary | "(" or ")" | term
//! term    = [ field ":" ] value | field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) word
//! value   = word | "phrase" | prefix* | *part* | * | /regex/[i] | i(text) | ~word | ~"phrase" | =word
//!         | [a TO b] | {a TO b} | <n | <=n | >n | >=n | ( or )
//! ```
//!
//! Without a field, a value is looked for in the body, as whole words. On a field, a word or a quoted text is the whole
//! value, but on the body and on `*`, where it is a part of whole words again; `~` makes it one everywhere. Words and
//! quoted texts take `\` before a character that would otherwise end or mean something. Errors name line and column.

mod compile;
mod parser;
mod printer;
#[cfg(test)]
mod tests;

pub use compile::named_field;
pub use parser::{SearchError, parse};

/// A query of the search language.
#[derive(Clone, Debug, PartialEq)]
pub enum Search {
    /// Every record.
    All,
    /// All parts; at least two.
    And(Vec<Search>),
    /// Any part; at least two.
    Or(Vec<Search>),
    /// Not the part.
    Not(Box<Search>),
    /// A test of a field.
    Term(Term),
}

/// A test of a field.
#[derive(Clone, Debug)]
pub struct Term {
    /// The field as it was named; none: the body.
    pub field: Option<String>,
    /// What is asked of it.
    pub test: TermTest,
    /// Byte at which it begins in the query.
    pub at: usize,
}

impl PartialEq for Term {
    /// Where a term stands does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field && self.test == other.test
    }
}

/// What is asked of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum TermTest {
    /// `*`: it has a value.
    Exists,
    /// `word` or `"text"`: the whole value, or whole words of the body.
    Text(String),
    /// `=word`: the whole value, of the body as well.
    Equals(String),
    /// `~word`: whole words of the value.
    Words(String),
    /// `i(text)`: whole words of the value, whatever their case.
    IgnoreCase(String),
    /// `word*`: the value, or a word of the body, begins with this.
    Prefix(String),
    /// `*part*`: the value has this somewhere.
    Part(String),
    /// `/expression/`.
    Regex(String),
    /// A range of numbers or levels, each end as written.
    Range(Option<End>, Option<End>),
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// As written.
    pub text: String,
    /// Whether it belongs to the range.
    pub inclusive: bool,
}
