//! A session: messages in, answers out, one after the other.
//!
//! ```text
//! Query                               each statement of the text, to the first that fails; ready
//! Parse ─► statement  Bind ─► portal  Describe starts a portal's query, Execute takes rows of it
//!   an error: everything up to the next Sync is skipped; Sync: ready
//! ```
//!
//! Transactions are agreed to and mean nothing for what is read, each statement sees what is there when it begins; only
//! that nothing is answered in a failed one is as clients know it.
//!
//! Invariant: the names and texts of statements and portals are bounded in number and in bytes together; a query runs
//! for a portal only until it is finished, closed, or its transaction ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use protocol::postgres::{Column, Failure, Message, Named, PostgresError, Severity, Writer};
use query::CancelFlag;
use sql::postgres::{Command, command, oid, parameter, sample, split};
use sql::{Parameters, SqlEngine, SqlError, SqlQuery, statement};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::running::{Ended, Running, failure, outer_failure};
use super::settings::Settings;
use super::{Received, Slot, fatal, violation};
use crate::api::App;
use crate::api::active::Asked;
use crate::auth::AuthContext;

/// Answers are sent when so much waits.
const SEND_BYTES: usize = 64 << 10;
/// Statements and portals that a session may have, and bytes of their texts and values.
const MAX_NAMES: usize = 1024;
const MAX_HELD_BYTES: usize = 8 << 20;
/// Type of texts.
const TEXT: u32 = 25;

/// Why a message is not answered.
enum Halt {
    /// The client is told, and the session goes on.
    Failed(Failure),
    /// The client has gone.
    Gone,
    /// The client can not be written to.
    Io(std::io::Error),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn refused(state: &'static str, message: impl Into<String>) -> Halt {
    Halt::Failed(Failure { severity: Severity::Error, ..fatal(state, message) })
}

/// Waits for something that the client may stop or leave. Errors are about `text` from byte `begins` on.
async fn stoppable<T>(
    gone: &CancellationToken,
    token: &CancellationToken,
    work: impl Future<Output = Result<T, Ended>>,
    (text, begins): (&str, usize),
) -> Result<T, Halt> {
    let told = |ended| match ended {
        Ended::Statement(error) => failure(&error, text, begins),
        Ended::Around(error) => outer_failure(&error),
    };
    tokio::select! {
        biased;
        () = gone.cancelled() => Err(Halt::Gone),
        () = token.cancelled() => Err(refused("57014", "the statement was canceled by its client")),
        outcome = work => outcome.map_err(|ended| Halt::Failed(told(ended))),
    }
}

/// Asks the engine something about a statement.
async fn ask<T: Send + 'static>(
    app: &App,
    query: SqlQuery,
    ask: impl for<'a> FnOnce(&'a SqlEngine, &'a SqlQuery) -> BoxFuture<'a, Result<T, SqlError>> + Send + 'static,
) -> Result<T, Ended> {
    let backend = app.backend().map_err(Ended::Around)?;
    let engine = backend.sql.clone();
    let listed = Asked::list(&query.tenant, "sql", query.text.clone());
    let cancel = query.cancel.clone();
    let asked = move |_, _| async move { Ok::<_, SqlError>(ask(&engine, &query).await) };
    match backend.queries.run_any(listed, cancel, asked).await {
        Ok(answer) => answer.map_err(Ended::Statement),
        Err(error) => Err(Ended::Around(error)),
    }
}

/// A prepared statement.
#[derive(Clone)]
struct Prepared {
    text: Arc<str>,
    command: Option<Command>,
    /// Types of its parameters; 0 where neither the client nor the statement has told yet.
    types: Vec<u32>,
    /// Which of them the statement has.
    used: Vec<bool>,
}

/// A statement with its values.
struct Portal {
    text: Arc<str>,
    command: Option<Command>,
    parameters: Parameters,
    formats: Vec<i16>,
    /// Bytes of what it holds.
    bytes: usize,
    running: Option<Running>,
    is_done: bool,
}

/// A session and the way to its client.
pub(super) struct Session<W> {
    app: Arc<App>,
    auth: AuthContext,
    settings: Settings,
    slot: Arc<Slot>,
    gone: CancellationToken,
    out: W,
    writer: Writer,
    /// `I`, `T` or `E`, as [`Writer::ready`] has it.
    transaction: u8,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    held_bytes: usize,
    /// After an error, until the group of messages is over.
    skipping: bool,
}

impl<W: AsyncWrite + Unpin> Session<W> {
    pub fn new(
        app: Arc<App>,
        auth: AuthContext,
        settings: Settings,
        slot: Arc<Slot>,
        gone: CancellationToken,
        out: W,
    ) -> Self {
        Self {
            app,
            auth,
            settings,
            slot,
            gone,
            out,
            writer: Writer::default(),
            transaction: b'I',
            statements: HashMap::new(),
            portals: HashMap::new(),
            held_bytes: 0,
            skipping: false,
        }
    }

    /// Answers until the client goes, is silent for too long, breaks the protocol, or the node stops.
    pub async fn serve(
        mut self,
        mut messages: mpsc::Receiver<Result<Received, PostgresError>>,
        stop: &CancellationToken,
        idle_timeout: Duration,
    ) -> std::io::Result<()> {
        loop {
            let received = tokio::select! {
                biased;
                received = messages.recv() => received,
                () = stop.cancelled() => return self.end(&fatal("57P01", "the node is stopping")).await,
                () = tokio::time::sleep(idle_timeout) => {
                    let message = format!("nothing was asked for {idle_timeout:?} (postgres.idle_timeout)");
                    return self.end(&fatal("57P05", message)).await;
                }
            };
            let received = match received {
                None => return Ok(()),
                Some(Err(error)) => return self.end(&violation(&error)).await,
                Some(Ok(received)) => received,
            };
            if received.message == Message::Terminate {
                return Ok(());
            }
            let is_query = matches!(received.message, Message::Query(_));
            match self.handle(received.message).await {
                Ok(()) => {}
                Err(Halt::Gone) => return Ok(()),
                Err(Halt::Io(error)) => return Err(error),
                Err(Halt::Failed(failure)) => {
                    self.writer.failure(&failure);
                    if self.transaction == b'T' {
                        self.transaction = b'E';
                    }
                    if is_query {
                        self.ready();
                    } else {
                        self.skipping = true;
                    }
                    self.send().await?;
                }
            }
            // A client that reads nothing until it has sent all may wait for its answers here, never the other way round.
            if self.writer.bytes().len() >= SEND_BYTES {
                self.send().await?;
            }
        }
    }

    async fn end(&mut self, why: &Failure) -> std::io::Result<()> {
        self.writer.failure(why);
        self.send().await
    }

    async fn send(&mut self) -> std::io::Result<()> {
        self.out.write_all(self.writer.bytes()).await?;
        self.writer.clear();
        self.out.flush().await
    }

    fn ready(&mut self) {
        if self.transaction == b'I' {
            self.drop_portals();
        }
        self.writer.ready(self.transaction);
    }

    async fn handle(&mut self, message: Message) -> Result<(), Halt> {
        match message {
            Message::Sync => {
                self.skipping = false;
                self.ready();
                self.send().await?;
            }
            _ if self.skipping => {}
            Message::Query(text) => {
                self.simple(&text).await?;
                self.ready();
                self.send().await?;
            }
            Message::Parse { statement, text, types } => self.parse(statement, &text, types).await?,
            Message::Bind { portal, statement, formats, values, answer_formats } => {
                self.bind(portal, &statement, &formats, &values, answer_formats).await?;
            }
            Message::Describe(Named::Statement(name)) => self.describe_statement(&name).await?,
            Message::Describe(Named::Portal(name)) => self.describe_portal(&name).await?,
            Message::Execute { portal, max_rows } => self.execute(&portal, max_rows).await?,
            Message::Close(named) => {
                match named {
                    Named::Statement(name) => self.forget_statement(&name),
                    Named::Portal(name) => self.forget_portal(&name),
                }
                self.writer.closed();
            }
            Message::Flush => self.send().await?,
            Message::Foreign(kind) => {
                return Err(refused("08P01", format!("a message of the kind {kind:?} is not expected here")));
            }
            // The session ends before it comes here.
            Message::Terminate => {}
        }
        Ok(())
    }

    fn query(&self, text: &str, parameters: Parameters) -> SqlQuery {
        SqlQuery {
            parameters,
            consistency: self.settings.consistency(),
            timeout: self.settings.statement_timeout(),
            cancel: CancelFlag::default(),
            ..SqlQuery::new(self.auth.tenant.clone(), text)
        }
    }

    async fn simple(&mut self, text: &str) -> Result<(), Halt> {
        let statements = split(text);
        if statements.is_empty() {
            self.writer.empty();
        }
        for (begins, statement) in statements {
            match command(statement) {
                Command::Query(tag) => {
                    self.check_transaction()?;
                    let token = self.slot.begin();
                    let query = self.query(statement, Parameters::new());
                    let app = Arc::clone(&self.app);
                    let begun = Running::begin(&app, query, Vec::new());
                    let mut running = stoppable(&self.gone, &token, begun, (text, begins)).await?;
                    self.writer.columns(&running.columns);
                    let count = self.take(&mut running, usize::MAX, &token, (text, begins)).await?;
                    self.complete(tag, count);
                }
                command => {
                    self.say_columns(&command)?;
                    self.obey(&command)?;
                }
            }
        }
        Ok(())
    }

    /// Sends up to `max` rows.
    async fn take(
        &mut self,
        running: &mut Running,
        max: usize,
        token: &CancellationToken,
        place: (&str, usize),
    ) -> Result<usize, Halt> {
        let mut count = 0;
        while count < max {
            let mut rows = Writer::default();
            let more = stoppable(&self.gone, token, running.rows(max - count, &mut rows), place).await?;
            if more == 0 {
                break;
            }
            count += more;
            self.writer.append(rows.bytes());
            if self.writer.bytes().len() >= SEND_BYTES {
                self.send().await?;
            }
        }
        Ok(count)
    }

    fn complete(&mut self, tag: &str, count: usize) {
        match tag {
            "SELECT" => self.writer.complete(&format!("SELECT {count}")),
            tag => self.writer.complete(tag),
        }
    }

    fn check_transaction(&self) -> Result<(), Halt> {
        match self.transaction {
            b'E' => Err(refused(
                "25P02",
                "the transaction has failed: nothing is answered until it is rolled back",
            )),
            _ => Ok(()),
        }
    }

    /// The columns of a command about the session, of which `SHOW` alone has some.
    fn say_columns(&mut self, command: &Command) -> Result<bool, Halt> {
        let Command::Show(name) = command else { return Ok(false) };
        let (name, _) = self.settings.show(name)?;
        let column = Column { name: name.to_owned(), oid: TEXT, size: -1, binary: false };
        self.writer.columns(&[column]);
        Ok(true)
    }

    /// Does what a command about the session asks for.
    fn obey(&mut self, command: &Command) -> Result<(), Halt> {
        match command {
            Command::Query(_) => {}
            Command::Begin => {
                self.check_transaction()?;
                self.transaction = b'T';
                self.writer.complete("BEGIN");
            }
            Command::Commit => {
                // A failed transaction can only be given up, and its client is told so.
                self.writer.complete(if self.transaction == b'E' { "ROLLBACK" } else { "COMMIT" });
                self.transaction = b'I';
            }
            Command::Rollback { to_savepoint } => {
                self.transaction = match (to_savepoint, self.transaction) {
                    (true, b'I') => return Err(refused("25P01", "there is no transaction with savepoints")),
                    (true, _) => b'T',
                    (false, _) => b'I',
                };
                self.writer.complete("ROLLBACK");
            }
            Command::Nothing(tag) => {
                self.check_transaction()?;
                self.writer.complete(tag);
            }
            Command::Set { name, value } => {
                self.check_transaction()?;
                if let Some((name, value)) = self.settings.set(name, value.as_deref())? {
                    self.writer.setting(name, &value);
                }
                self.writer.complete(if value.is_some() { "SET" } else { "RESET" });
            }
            Command::Reset { all } => {
                self.check_transaction()?;
                self.settings.reset();
                if *all {
                    self.statements.clear();
                    self.drop_portals();
                    self.count_held();
                }
                self.writer.complete(if *all { "DISCARD ALL" } else { "RESET" });
            }
            Command::Show(name) => {
                self.check_transaction()?;
                let (_, value) = self.settings.show(name)?;
                let written: Result<(), std::convert::Infallible> = self.writer.row(1, |_, out| {
                    out.extend_from_slice(value.as_bytes());
                    Ok(true)
                });
                let Ok(()) = written;
                self.writer.complete("SHOW");
            }
            Command::Deallocate(name) => {
                self.check_transaction()?;
                match name {
                    Some(name) => self.forget_statement(name),
                    None => {
                        self.statements.clear();
                        self.count_held();
                    }
                }
                self.writer.complete("DEALLOCATE");
            }
        }
        Ok(())
    }

    fn count_held(&mut self) {
        let statements = self.statements.iter().map(|(name, prepared)| name.len() + prepared.text.len());
        let portals = self.portals.values().map(|portal| portal.bytes);
        self.held_bytes = statements.chain(portals).sum();
    }

    fn forget_statement(&mut self, name: &str) {
        if let Some(old) = self.statements.remove(name) {
            self.held_bytes = self.held_bytes.saturating_sub(name.len() + old.text.len());
        }
    }

    fn forget_portal(&mut self, name: &str) {
        if let Some(old) = self.portals.remove(name) {
            self.held_bytes = self.held_bytes.saturating_sub(old.bytes);
        }
    }

    fn drop_portals(&mut self) {
        if !self.portals.is_empty() {
            self.portals.clear();
            self.count_held();
        }
    }

    /// Makes sure that a session may hold more.
    fn hold(&mut self, bytes: usize) -> Result<(), Halt> {
        if self.statements.len() + self.portals.len() >= MAX_NAMES {
            return Err(refused(
                "54000",
                format!("a session has at most {MAX_NAMES} statements and portals"),
            ));
        }
        if self.held_bytes + bytes > MAX_HELD_BYTES {
            let message = format!("the statements of a session have at most {MAX_HELD_BYTES} bytes together");
            return Err(refused("54000", message));
        }
        self.held_bytes += bytes;
        Ok(())
    }

    async fn parse(&mut self, name: String, text: &str, types: Vec<u32>) -> Result<(), Halt> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(refused("42P05", format!("there is a prepared statement {name:?} already")));
        }
        // The one without a name goes, whatever becomes of the new one.
        self.forget_statement(&name);
        let mut pieces = split(text);
        let asks = match (pieces.len(), pieces.pop()) {
            (0, _) => None,
            (1, Some((_, only))) => Some(command(only)),
            (count, _) => {
                return Err(refused("42601", format!("there are {count} statements where one is prepared")));
            }
        };
        let mut types = types;
        let mut used = vec![false; types.len()];
        if let Some(Command::Query(_)) = asks {
            self.check_transaction()?;
            let parsed = text.to_owned();
            let work = move || Ok::<_, SqlError>(statement::parameters(&statement::parse_one(&parsed)?));
            let backend = self.app.backend().map_err(|error| outer_failure(&error))?;
            let names = backend.queries.on_own_thread(work).await.map_err(|error| outer_failure(&error))?;
            for name in names.map_err(|error| failure(&error, text, 0))? {
                let number = name.parse::<u16>().ok().filter(|number| *number > 0);
                let Some(number) = number.map(usize::from) else {
                    return Err(refused(
                        "42P02",
                        format!("the parameter ${name}: parameters are $1, $2, ... here"),
                    ));
                };
                if types.len() < number {
                    types.resize(number, 0);
                    used.resize(number, false);
                }
                used[number - 1] = true;
            }
        }
        self.hold(name.len() + text.len())?;
        self.statements.insert(name, Prepared { text: text.into(), command: asks, types, used });
        self.writer.parsed();
        Ok(())
    }

    fn prepared(&self, name: &str) -> Result<Prepared, Halt> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| refused("26000", format!("there is no prepared statement {name:?}")))
    }

    /// Finds out what types those parameters have that the client has left open.
    async fn resolve(&mut self, name: &str) -> Result<Prepared, Halt> {
        let mut prepared = self.prepared(name)?;
        let is_open = prepared.types.iter().zip(&prepared.used).any(|(oid, used)| *oid == 0 && *used);
        if !is_open {
            return Ok(prepared);
        }
        let token = self.slot.begin();
        let query = self.query(&prepared.text, Parameters::new());
        let asked = ask(&self.app, query, |engine, query| engine.parameter_types(query));
        let found = stoppable(&self.gone, &token, asked, (&prepared.text, 0)).await?;
        for (name, data_type) in found {
            let place =
                name.parse::<usize>().ok().and_then(|number| prepared.types.get_mut(number.checked_sub(1)?));
            if let Some(place) = place.filter(|oid| **oid == 0) {
                *place = data_type.map_or(TEXT, |data_type| oid(&data_type));
            }
        }
        if let Some(kept) = self.statements.get_mut(name) {
            kept.types.clone_from(&prepared.types);
        }
        Ok(prepared)
    }

    async fn bind(
        &mut self,
        name: String,
        statement: &str,
        formats: &[i16],
        values: &[Option<Vec<u8>>],
        answer_formats: Vec<i16>,
    ) -> Result<(), Halt> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(refused("42P03", format!("there is a portal {name:?} already")));
        }
        let prepared = self.resolve(statement).await?;
        if values.len() != prepared.types.len() {
            let message =
                format!("{} values for a statement of {} parameters", values.len(), prepared.types.len());
            return Err(refused("08P01", message));
        }
        if formats.len() > 1 && formats.len() != values.len() {
            return Err(refused("08P01", format!("{} forms for {} values", formats.len(), values.len())));
        }
        let mut parameters = Parameters::new();
        for (at, bytes) in values.iter().enumerate().filter(|(at, _)| prepared.used[*at]) {
            let format = if formats.len() == 1 { formats[0] } else { formats.get(at).copied().unwrap_or(0) };
            let value = parameter(at + 1, prepared.types[at], format, bytes.as_deref());
            parameters.insert((at + 1).to_string(), value.map_err(|error| failure(&error, "", 0))?);
        }
        self.forget_portal(&name);
        let bytes = name.len() + values.iter().flatten().map(Vec::len).sum::<usize>();
        self.hold(bytes)?;
        let Prepared { text, command, .. } = prepared;
        let portal = Portal {
            text,
            command,
            parameters,
            formats: answer_formats,
            bytes,
            running: None,
            is_done: false,
        };
        self.portals.insert(name, portal);
        self.writer.bound();
        Ok(())
    }

    async fn describe_statement(&mut self, name: &str) -> Result<(), Halt> {
        let prepared = self.resolve(name).await?;
        let columns = match &prepared.command {
            Some(Command::Query(_)) => {
                let used =
                    prepared.types.iter().zip(&prepared.used).enumerate().filter(|(_, (_, used))| **used);
                let samples = used.map(|(at, (oid, _))| ((at + 1).to_string(), sample(*oid)));
                let query = self.query(&prepared.text, samples.collect());
                let token = self.slot.begin();
                let asked = ask(&self.app, query, |engine, query| engine.describe(query));
                let schema = stoppable(&self.gone, &token, asked, (&prepared.text, 0)).await?;
                Some(sql::postgres::columns(&schema, &[]).map_err(|error| failure(&error, "", 0))?)
            }
            _ => None,
        };
        self.writer.parameters(&prepared.types);
        match (columns, &prepared.command) {
            (Some(columns), _) => self.writer.columns(&columns),
            (None, Some(command)) if self.say_columns(command)? => {}
            (None, _) => self.writer.no_rows(),
        }
        Ok(())
    }

    /// Takes a portal out, to be put back when it is whole again.
    fn portal(&mut self, name: &str) -> Result<Portal, Halt> {
        let portal = self.portals.remove(name);
        let portal = portal.ok_or_else(|| refused("34000", format!("there is no portal {name:?}")))?;
        self.held_bytes = self.held_bytes.saturating_sub(portal.bytes);
        Ok(portal)
    }

    fn put_back(&mut self, name: &str, portal: Portal) {
        self.held_bytes += portal.bytes;
        self.portals.insert(name.to_owned(), portal);
    }

    /// Starts the query of a portal that has none.
    async fn start(&mut self, portal: &mut Portal, token: &CancellationToken) -> Result<(), Halt> {
        if portal.running.is_none() && !portal.is_done {
            self.check_transaction()?;
            let query = self.query(&portal.text, portal.parameters.clone());
            let app = Arc::clone(&self.app);
            let begun = Running::begin(&app, query, portal.formats.clone());
            portal.running = Some(stoppable(&self.gone, token, begun, (&portal.text, 0)).await?);
        }
        Ok(())
    }

    async fn describe_portal(&mut self, name: &str) -> Result<(), Halt> {
        let mut portal = self.portal(name)?;
        match portal.command.clone() {
            Some(Command::Query(_)) => {
                let token = self.slot.begin();
                self.start(&mut portal, &token).await?;
                match &portal.running {
                    Some(running) => self.writer.columns(&running.columns),
                    None => self.writer.no_rows(),
                }
            }
            Some(command) if self.say_columns(&command)? => {}
            _ => self.writer.no_rows(),
        }
        self.put_back(name, portal);
        Ok(())
    }

    async fn execute(&mut self, name: &str, max_rows: u32) -> Result<(), Halt> {
        let mut portal = self.portal(name)?;
        let tag = match portal.command.clone() {
            None => {
                self.writer.empty();
                self.put_back(name, portal);
                return Ok(());
            }
            Some(Command::Query(tag)) => tag,
            Some(command) => {
                self.put_back(name, portal);
                return self.obey(&command);
            }
        };
        let token = self.slot.begin();
        self.start(&mut portal, &token).await?;
        let mut count = 0;
        let mut has_more = false;
        if let Some(running) = &mut portal.running {
            let max = if max_rows == 0 { usize::MAX } else { max_rows as usize };
            count = self.take(running, max, &token, (&portal.text, 0)).await?;
            has_more =
                count == max && stoppable(&self.gone, &token, running.has_rows(), (&portal.text, 0)).await?;
        }
        if has_more {
            self.writer.suspended();
        } else {
            portal.running = None;
            portal.is_done = true;
            self.complete(tag, count);
        }
        self.put_back(name, portal);
        Ok(())
    }
}
