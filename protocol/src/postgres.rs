//! PostgreSQL's protocol between client and server, version 3, as bytes: what clients send is read by [`Greeting`] and
//! [`Message`], what they are told is written by [`Writer`].
//!
//! ```text
//! greeting  u32 length, u32 code, ...     the first thing on a connection; the length counts itself
//! message   u8 kind, u32 length, ...      all that follows, in both directions; the length counts itself, not the kind
//! ```
//!
//! Numbers are big-endian, texts end with a zero byte. Who reads asks [`greeting_body`] or [`message_body`] for the length
//! of what follows the head before a byte of it is read or held; both refuse what is longer than a client may send.
//!
//! Invariant: a body is read to its end and no further; one that ends early or late is an error, as are negative counts.
//! Nothing is reserved for a count that the bytes which are there can not hold.

mod write;

pub use write::{Column, Failure, Severity, Writer};

/// Longest body of a greeting; PostgreSQL has the same bound.
pub const MAX_GREETING_BYTES: usize = 10_000;
/// Longest body of a message: a statement with its parameters.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const MAJOR: u32 = 3;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostgresError {
    /// It says that it is longer than it may be.
    #[error("a message of {bytes} bytes, more than {limit}")]
    TooLong {
        /// As it says.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// Its length does not even cover the length.
    #[error("a message whose length is {length}")]
    Length {
        /// As it says.
        length: u32,
    },
    /// It ends before what it says is in it.
    #[error("a message ({kind:?}) that ends inside of {part}")]
    Truncated {
        /// Its kind, as a letter.
        kind: char,
        /// What is cut.
        part: &'static str,
    },
    /// It goes on after its end.
    #[error("a message ({kind:?}) with {bytes} bytes behind its end")]
    Trailing {
        /// Its kind.
        kind: char,
        /// How many.
        bytes: usize,
    },
    /// A text is not UTF-8, which is the encoding here.
    #[error("a message ({kind:?}) whose {part} is not UTF-8")]
    NotUtf8 {
        /// Its kind.
        kind: char,
        /// What is not.
        part: &'static str,
    },
    /// No such kind.
    #[error("a message of the unknown kind {kind:#04x}")]
    Kind {
        /// Its first byte.
        kind: u8,
    },
    /// A greeting of another protocol.
    #[error("a greeting of version {}.{}, where 3.0 is spoken", code >> 16, code & 0xffff)]
    Version {
        /// Its code.
        code: u32,
    },
}

/// The first thing on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Asks for TLS; one byte is the answer, and another greeting follows.
    Tls,
    /// Asks for encryption by GSSAPI; the same.
    Gss,
    /// Asks to stop what another connection is doing; nothing follows.
    Cancel {
        /// As that connection was told.
        process: u32,
        /// As well.
        secret: u32,
    },
    /// Begins a session.
    Start {
        /// Minor version that is asked for.
        minor: u16,
        /// Names and values: `user`, `database`, settings.
        parameters: Vec<(String, String)>,
    },
}

/// What a client sends in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Statements to answer, parameters in none of them.
    Query(String),
    /// Prepares a statement.
    Parse {
        /// Name of the statement; empty for the one without.
        statement: String,
        /// Its text.
        text: String,
        /// Types of its parameters as far as the client says, 0 for those that it leaves open.
        types: Vec<u32>,
    },
    /// Makes a portal of a statement: puts values in for its parameters.
    Bind {
        /// Name of the portal; empty for the one without.
        portal: String,
        /// Name of the statement.
        statement: String,
        /// Forms of the values: none for text, one for all, or one each.
        formats: Vec<i16>,
        /// Values; none for nulls.
        values: Vec<Option<Vec<u8>>>,
        /// Forms of the columns of the answer, in the same way.
        answer_formats: Vec<i16>,
    },
    /// Asks what a statement or portal takes and answers.
    Describe(Named),
    /// Ends a statement or portal.
    Close(Named),
    /// Asks for rows of a portal.
    Execute {
        /// Its name.
        portal: String,
        /// How many at most; 0 for all.
        max_rows: u32,
    },
    /// Asks for what is answered so far.
    Flush,
    /// Ends a group of messages.
    Sync,
    /// Says goodbye.
    Terminate,
    /// What belongs to dialogues that are never begun here: passwords, copying, calls of functions by number.
    Foreign(char),
}

/// A statement or a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A statement.
    Statement(String),
    /// A portal.
    Portal(String),
}

fn body_len(head: [u8; 4], limit: usize) -> Result<usize, PostgresError> {
    let length = u32::from_be_bytes(head);
    let bytes = length.checked_sub(4).ok_or(PostgresError::Length { length })? as usize;
    if bytes > limit { Err(PostgresError::TooLong { bytes, limit }) } else { Ok(bytes) }
}

/// Length of a greeting's body, by its first four bytes.
pub fn greeting_body(head: [u8; 4]) -> Result<usize, PostgresError> {
    body_len(head, MAX_GREETING_BYTES)
}

/// Kind of a message and length of its body, by its first five bytes.
pub fn message_body(head: [u8; 5]) -> Result<(u8, usize), PostgresError> {
    let [kind, a, b, c, d] = head;
    Ok((kind, body_len([a, b, c, d], MAX_MESSAGE_BYTES)?))
}

struct Body<'a> {
    kind: char,
    left: &'a [u8],
}

impl<'a> Body<'a> {
    fn take(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], PostgresError> {
        let (taken, left) =
            self.left.split_at_checked(count).ok_or(PostgresError::Truncated { kind: self.kind, part })?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], PostgresError> {
        let (taken, left) =
            self.left.split_first_chunk().ok_or(PostgresError::Truncated { kind: self.kind, part })?;
        self.left = left;
        Ok(*taken)
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, PostgresError> {
        Ok(u32::from_be_bytes(self.array(part)?))
    }

    fn text(&mut self, part: &'static str) -> Result<String, PostgresError> {
        let end = self.left.iter().position(|byte| *byte == 0);
        let bytes = self.take(end.ok_or(PostgresError::Truncated { kind: self.kind, part })?, part)?;
        self.take(1, part)?;
        let text =
            std::str::from_utf8(bytes).map_err(|_| PostgresError::NotUtf8 { kind: self.kind, part })?;
        Ok(text.to_owned())
    }

    /// A count and as many of something of at least `size` bytes.
    fn list<T>(
        &mut self,
        size: usize,
        part: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, PostgresError>,
    ) -> Result<Vec<T>, PostgresError> {
        let count = usize::from(u16::from_be_bytes(self.array(part)?));
        if count * size > self.left.len() {
            return Err(PostgresError::Truncated { kind: self.kind, part });
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn formats(&mut self, part: &'static str) -> Result<Vec<i16>, PostgresError> {
        self.list(2, part, |body| Ok(i16::from_be_bytes(body.array(part)?)))
    }

    fn named(&mut self) -> Result<Named, PostgresError> {
        let [kind] = self.array("the kind of what is named")?;
        let name = self.text("name")?;
        match kind {
            b'S' => Ok(Named::Statement(name)),
            b'P' => Ok(Named::Portal(name)),
            kind => Err(PostgresError::Kind { kind }),
        }
    }

    fn end<T>(self, read: T) -> Result<T, PostgresError> {
        match self.left.len() {
            0 => Ok(read),
            bytes => Err(PostgresError::Trailing { kind: self.kind, bytes }),
        }
    }
}

impl Greeting {
    /// Reads a body.
    pub fn decode(body: &[u8]) -> Result<Self, PostgresError> {
        let mut body = Body { kind: '^', left: body };
        let code = body.u32("the version")?;
        match code {
            TLS => body.end(Self::Tls),
            GSS => body.end(Self::Gss),
            CANCEL => {
                let (process, secret) = (body.u32("the process")?, body.u32("the secret")?);
                body.end(Self::Cancel { process, secret })
            }
            code if code >> 16 == MAJOR => {
                let mut parameters = Vec::new();
                loop {
                    let name = body.text("parameter")?;
                    if name.is_empty() {
                        return body.end(Self::Start { minor: code as u16, parameters });
                    }
                    parameters.push((name, body.text("parameter")?));
                }
            }
            code => Err(PostgresError::Version { code }),
        }
    }
}

impl Message {
    /// Reads the body of a message of a kind.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, PostgresError> {
        let mut body = Body { kind: char::from(kind), left: body };
        let read = match kind {
            b'Q' => Self::Query(body.text("statement")?),
            b'P' => Self::Parse {
                statement: body.text("name")?,
                text: body.text("statement")?,
                types: body.list(4, "the types", |body| body.u32("the types"))?,
            },
            b'B' => Self::Bind {
                portal: body.text("name")?,
                statement: body.text("name")?,
                formats: body.formats("the forms of values")?,
                values: body.list(4, "the values", |body| match body.u32("the length of a value")? {
                    u32::MAX => Ok(None),
                    length => Ok(Some(body.take(length as usize, "a value")?.to_vec())),
                })?,
                answer_formats: body.formats("the forms of columns")?,
            },
            b'D' => Self::Describe(body.named()?),
            b'C' => Self::Close(body.named()?),
            b'E' => Self::Execute { portal: body.text("name")?, max_rows: body.u32("the number of rows")? },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'p' | b'd' | b'c' | b'f' | b'F' => {
                body.left = &[];
                Self::Foreign(body.kind)
            }
            kind => return Err(PostgresError::Kind { kind }),
        };
        body.end(read)
    }
}

#[cfg(test)]
mod tests;
