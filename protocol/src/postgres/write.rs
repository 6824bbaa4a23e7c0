//! What a server says.

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Number of its type in `pg_type`.
    pub oid: u32,
    /// Bytes of its values; -1 where they differ.
    pub size: i16,
    /// Whether values come in binary form.
    pub binary: bool,
}

/// What becomes of the session after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It goes on.
    Error,
    /// It ends.
    Fatal,
    /// Nothing failed, this is for people.
    Notice,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
        }
    }
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What becomes of the session.
    pub severity: Severity,
    /// SQLSTATE, five letters.
    pub state: &'static str,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
    /// Where in the text, in characters from 1.
    pub position: Option<usize>,
}

/// Writes messages one after the other.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

/// A length that fits: what is longer is never written, for a row is bounded by the memory of a statement.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

impl Writer {
    /// What is written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Takes what is written.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Forgets what is written, and keeps the room.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    /// Adds messages that another writer made.
    pub fn append(&mut self, messages: &[u8]) {
        self.out.extend_from_slice(messages);
    }

    fn message(&mut self, kind: u8, body: impl FnOnce(&mut Self)) {
        self.out.push(kind);
        self.sized(true, body);
    }

    /// Something with its length before it.
    fn sized(&mut self, counts_itself: bool, body: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        body(self);
        let bytes = self.out.len() - at - if counts_itself { 0 } else { 4 };
        self.out[at..at + 4].copy_from_slice(&length(bytes));
    }

    /// A text; a zero byte inside would end it.
    fn text(&mut self, text: &str) {
        self.out.extend(text.bytes().filter(|byte| *byte != 0));
        self.out.push(0);
    }

    fn count(&mut self, count: usize) {
        self.out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// No TLS and the like: the byte that answers a request for it.
    pub fn refuse_encryption(&mut self) {
        self.out.push(b'N');
    }

    /// TLS: the byte after which it begins.
    pub fn agree_to_encryption(&mut self) {
        self.out.push(b'S');
    }

    /// The client is who it says.
    pub fn authenticated(&mut self) {
        self.message(b'R', |w| w.out.extend_from_slice(&[0; 4]));
    }

    /// Version 3.0 is spoken, and these settings of the protocol are not known.
    pub fn negotiate(&mut self, unknown: &[&str]) {
        self.message(b'v', |w| {
            w.out.extend_from_slice(&[0; 4]);
            w.out.extend_from_slice(&length(unknown.len()));
            unknown.iter().for_each(|name| w.text(name));
        });
    }

    /// A setting of the session.
    pub fn setting(&mut self, name: &str, value: &str) {
        self.message(b'S', |w| {
            w.text(name);
            w.text(value);
        });
    }

    /// By what this session's statements can be stopped.
    pub fn cancel_key(&mut self, process: u32, secret: u32) {
        self.message(b'K', |w| {
            w.out.extend_from_slice(&process.to_be_bytes());
            w.out.extend_from_slice(&secret.to_be_bytes());
        });
    }

    /// The next group of messages may come. `transaction` is `I` outside, `T` inside of one, `E` inside of a failed one.
    pub fn ready(&mut self, transaction: u8) {
        self.message(b'Z', |w| w.out.push(transaction));
    }

    /// A statement is prepared.
    pub fn parsed(&mut self) {
        self.message(b'1', |_| {});
    }

    /// A portal is made.
    pub fn bound(&mut self) {
        self.message(b'2', |_| {});
    }

    /// A statement or portal is no more.
    pub fn closed(&mut self) {
        self.message(b'3', |_| {});
    }

    /// A portal has more rows than were asked for.
    pub fn suspended(&mut self) {
        self.message(b's', |_| {});
    }

    /// There was no statement in the text.
    pub fn empty(&mut self) {
        self.message(b'I', |_| {});
    }

    /// A statement without rows.
    pub fn no_rows(&mut self) {
        self.message(b'n', |_| {});
    }

    /// A statement is done.
    pub fn complete(&mut self, tag: &str) {
        self.message(b'C', |w| w.text(tag));
    }

    /// Types of a statement's parameters.
    pub fn parameters(&mut self, oids: &[u32]) {
        self.message(b't', |w| {
            w.count(oids.len());
            oids.iter().for_each(|oid| w.out.extend_from_slice(&oid.to_be_bytes()));
        });
    }

    /// Columns of the rows that follow.
    pub fn columns(&mut self, columns: &[Column]) {
        self.message(b'T', |w| {
            w.count(columns.len());
            for column in columns {
                w.text(&column.name);
                // No table's column: table, position.
                w.out.extend_from_slice(&[0; 6]);
                w.out.extend_from_slice(&column.oid.to_be_bytes());
                w.out.extend_from_slice(&column.size.to_be_bytes());
                w.out.extend_from_slice(&(-1_i32).to_be_bytes());
                w.out.extend_from_slice(&i16::from(column.binary).to_be_bytes());
            }
        });
    }

    /// A row. `value` writes the value of a column, or says that it is null.
    pub fn row<E>(
        &mut self,
        columns: usize,
        mut value: impl FnMut(usize, &mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        self.message(b'D', |w| {
            w.count(columns);
            for column in 0..columns {
                let at = w.out.len();
                let mut is_there = false;
                w.sized(false, |w| match value(column, &mut w.out) {
                    Ok(there) => is_there = there,
                    Err(error) => outcome = Err(error),
                });
                if outcome.is_err() {
                    return;
                }
                if !is_there {
                    w.out.truncate(at);
                    w.out.extend_from_slice(&(-1_i32).to_be_bytes());
                }
            }
        });
        outcome
    }

    /// A failure, or a notice.
    pub fn failure(&mut self, failure: &Failure) {
        let kind = if failure.severity == Severity::Notice { b'N' } else { b'E' };
        self.message(kind, |w| {
            let mut field = |name: u8, text: &str| {
                w.out.push(name);
                w.text(text);
            };
            field(b'S', failure.severity.word());
            field(b'V', failure.severity.word());
            field(b'C', failure.state);
            field(b'M', &failure.message);
            if let Some(hint) = &failure.hint {
                field(b'H', hint);
            }
            if let Some(position) = failure.position {
                field(b'P', &position.to_string());
            }
            w.out.push(0);
        });
    }
}
