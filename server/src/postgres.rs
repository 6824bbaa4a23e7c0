//! The listener for PostgreSQL's clients: SQL over their own protocol.
//!
//! ```text
//! accept ─► greeting (10 s; TLS where there is a certificate; requests to cancel end here) ─► tenant ─► session
//!   reader: bytes ─► messages, as far as they may be ahead ─► session: answers, one message after the other
//! ```
//!
//! The database that a client names is its tenant, as `X-Scope-OrgID` is over HTTP; there are no passwords, as there.
//! Above `postgres.max_connections` a client is told so and goes. A client that leaves, or asks for it by another
//! connection, stops its statement, and with it what the shards do for it. A stop of the node lets statements end.
//!
//! Invariant: what a connection holds is bounded whatever it sends: a message by `MAX_MESSAGE_BYTES`, messages that wait
//! by [`AHEAD_BYTES`], prepared statements and portals by the session.

mod running;
mod session;
mod settings;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::postgres::{
    Failure, Greeting, MAX_MESSAGE_BYTES, Message, PostgresError, Severity, Writer, greeting_body,
    message_body,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::App;
use crate::api::progress::WithProgress;
use crate::auth::{self, Permission};
use crate::tls::{ServerTls, Stream};
use session::Session;

/// How long a client may take to say what it wants.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to hear that there is no place.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Greetings that are answered before a session has to begin: two offers of encryption and what follows.
const MAX_GREETINGS: usize = 4;
/// Bytes of messages that may wait for the session of a connection.
const AHEAD_BYTES: usize = MAX_MESSAGE_BYTES;
/// How many messages may.
const AHEAD_MESSAGES: usize = 64;

/// Limits of the listener.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// What clients that ask for encryption are shown; without, they are told that there is none.
    pub tls: Option<ServerTls>,
    /// Connections at once.
    pub max_connections: usize,
    /// How long a client may be silent.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
}

/// A running listener.
#[derive(Debug)]
pub struct PostgresServer {
    /// The address that is listened on.
    pub addr: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl PostgresServer {
    /// Binds and serves from now on.
    pub async fn start(addr: SocketAddr, app: Arc<App>, options: PostgresOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared { app, options, stop: stop.clone(), sessions: Sessions::default() });
        tokio::spawn(accept(listener, shared, connections.clone()));
        Ok(Self { addr, stop, connections })
    }

    /// Accepts no more, lets statements in work end, and returns when they have or the time is over.
    pub async fn stop(&self, limit: Duration) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(limit, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "statements were cut off by the stop");
        }
    }
}

/// What all connections share.
struct Shared {
    app: Arc<App>,
    options: PostgresOptions,
    stop: CancellationToken,
    sessions: Sessions,
}

/// What a session is doing, so that another connection can stop it.
#[derive(Debug)]
pub(crate) struct Slot {
    secret: u32,
    current: Mutex<CancellationToken>,
}

impl Slot {
    /// A token for the statement that begins.
    fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }
}

/// The sessions, by the number that their clients know.
#[derive(Debug, Default)]
struct Sessions {
    last: AtomicU32,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
}

impl Sessions {
    fn add(&self) -> (u32, Arc<Slot>) {
        let slot = Arc::new(Slot { secret: rand::random(), current: Mutex::default() });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if number != 0 && !slots.contains_key(&number) {
                slots.insert(number, Arc::clone(&slot));
                return (number, slot);
            }
        }
    }

    fn remove(&self, number: u32) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Stops what a session is doing; nothing where the secret is not its own, for nobody is told.
    fn cancel(&self, number: u32, secret: u32) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&number).filter(|slot| slot.secret == secret) {
            slot.current.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        }
    }
}

pub(crate) fn fatal(state: &'static str, message: impl Into<String>) -> Failure {
    Failure { severity: Severity::Fatal, state, message: message.into(), hint: None, position: None }
}

/// For bytes that are no message of the protocol.
fn violation(error: &PostgresError) -> Failure {
    fatal("08P01", error.to_string())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: TaskTracker) {
    let slots = Arc::new(Semaphore::new(shared.options.max_connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client of PostgreSQL's protocol");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let limit = shared.options.max_connections;
            let message = format!("there are {limit} connections already (postgres.max_connections)");
            connections.spawn(async move {
                // A client that does not listen learns less.
                let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream, &fatal("53300", message))).await;
            });
            continue;
        };
        // A connection without it works, only slower.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if let Err(error) = connection(stream, &shared).await {
                tracing::debug!(%error, "a connection of PostgreSQL's protocol ended early");
            }
            drop(slot);
        });
    }
}

/// Tells a client why it has to go. What it has said itself is read first, for a connection that is closed with something
/// unread takes back what was sent.
async fn refuse(mut stream: TcpStream, why: &Failure) -> std::io::Result<()> {
    let mut writer = Writer::default();
    writer.failure(why);
    stream.write_all(writer.bytes()).await?;
    stream.shutdown().await?;
    let mut said = [0; 512];
    while stream.read(&mut said).await? > 0 {}
    Ok(())
}

/// A greeting that begins a session.
struct Start {
    minor: u16,
    parameters: Vec<(String, String)>,
}

async fn connection(tcp: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let greeted = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return Ok(()),
        greeted = tokio::time::timeout(GREETING_TIMEOUT, greet(tcp, shared)) => greeted,
    };
    let Ok(greeted) = greeted else { return Ok(()) };
    let Some((mut stream, asked)) = greeted? else { return Ok(()) };
    let mut writer = Writer::default();
    let start = match asked {
        Ok(start) => start,
        Err(failure) => {
            writer.failure(&failure);
            stream.write_all(writer.bytes()).await?;
            return stream.shutdown().await;
        }
    };
    let given =
        |name: &str| start.parameters.iter().rfind(|(known, _)| known == name).map(|(_, v)| v.as_str());
    let (user, database) = (given("user"), given("database"));
    let auth = match auth::authorize_tenant(Permission::Read, database) {
        Ok(auth) => auth,
        Err(error) => {
            writer.failure(&fatal("3D000", format!("the database names the tenant: {error}")));
            stream.write_all(writer.bytes()).await?;
            return stream.shutdown().await;
        }
    };
    let unknown: Vec<&str> = start
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if start.minor > 0 || !unknown.is_empty() {
        writer.negotiate(&unknown);
    }
    let settings = match settings::Settings::begin(user.unwrap_or_default(), &start.parameters) {
        Ok(settings) => settings,
        Err(failure) => {
            writer.failure(&Failure { severity: Severity::Fatal, ..failure });
            stream.write_all(writer.bytes()).await?;
            return stream.shutdown().await;
        }
    };
    writer.authenticated();
    settings.reported().for_each(|(name, value)| writer.setting(name, value));
    let (number, slot) = shared.sessions.add();
    writer.cancel_key(number, slot.secret);
    if database.is_some() && database == user && auth.tenant != protocol::ids::TenantId::default() {
        // Clients take the user's name where nobody named a database.
        let message = format!(
            "the database names the tenant: this is {:?}; the usual one is {:?}",
            auth.tenant.as_str(),
            protocol::ids::TenantId::default().as_str()
        );
        let severity = Severity::Notice;
        writer.failure(&Failure { severity, ..fatal("00000", message) });
    }
    writer.ready(b'I');
    let (reader, mut out) = {
        let (reader, out) = tokio::io::split(stream);
        (reader, WithProgress::new(out, shared.options.write_timeout))
    };
    let said = async {
        out.write_all(writer.bytes()).await?;
        out.flush().await
    };
    let outcome = match said.await {
        Ok(()) => {
            let (messages, received) = mpsc::channel(AHEAD_MESSAGES);
            let gone = CancellationToken::new();
            // It ends with its connection: when the client goes, or when nobody takes its messages any more.
            let read = tokio::spawn(read(reader, messages, gone.clone()));
            let session = Session::new(Arc::clone(&shared.app), auth, settings, slot, gone, out);
            let outcome = session.serve(received, &shared.stop, shared.options.idle_timeout).await;
            read.abort();
            outcome
        }
        Err(error) => Err(error),
    };
    shared.sessions.remove(number);
    outcome
}

/// What a client wants: a session, or why it gets none; nothing if that was all. From an answer of `S` on it is encrypted:
/// what a client says before is read no further than its question, so that nobody can put words before its first ones.
async fn greet(tcp: TcpStream, shared: &Shared) -> std::io::Result<Option<(Stream, Result<Start, Failure>)>> {
    let mut stream = Stream::Plain(tcp);
    for _ in 0..MAX_GREETINGS {
        let mut head = [0; 4];
        if stream.read_exact(&mut head).await.is_err() {
            // It only looked whether somebody is here.
            return Ok(None);
        }
        let length = match greeting_body(head) {
            Ok(length) => length,
            Err(error) => return Ok(Some((stream, Err(violation(&error))))),
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match Greeting::decode(&body) {
            Ok(Greeting::Tls) => {
                stream = match (stream, &shared.options.tls) {
                    (Stream::Plain(mut tcp), Some(tls)) => {
                        let mut writer = Writer::default();
                        writer.agree_to_encryption();
                        tcp.write_all(writer.bytes()).await?;
                        tls.accept(tcp).await?
                    }
                    (mut other, _) => {
                        refuse_encryption(&mut other).await?;
                        other
                    }
                };
            }
            Ok(Greeting::Gss) => refuse_encryption(&mut stream).await?,
            Ok(Greeting::Cancel { process, secret }) => {
                shared.sessions.cancel(process, secret);
                return Ok(None);
            }
            Ok(Greeting::Start { minor, parameters }) => {
                return Ok(Some((stream, Ok(Start { minor, parameters }))));
            }
            Err(error) => return Ok(Some((stream, Err(violation(&error))))),
        }
    }
    Ok(Some((stream, Err(fatal("08P01", "a session has to begin at last")))))
}

async fn refuse_encryption(stream: &mut Stream) -> std::io::Result<()> {
    let mut writer = Writer::default();
    writer.refuse_encryption();
    stream.write_all(writer.bytes()).await?;
    stream.flush().await
}

/// A message on its way to the session, and its share of what may wait.
pub(crate) struct Received {
    message: Message,
    _share: OwnedSemaphorePermit,
}

/// Reads messages until the client goes, which `gone` tells, or something is no message.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    messages: mpsc::Sender<Result<Received, PostgresError>>,
    gone: CancellationToken,
) {
    let ahead = Arc::new(Semaphore::new(AHEAD_BYTES));
    loop {
        match read_one(&mut stream, &ahead).await {
            Ok(Ok(received)) => {
                if messages.send(Ok(received)).await.is_err() {
                    return;
                }
            }
            Ok(Err(violation)) => {
                // The session tells the client why, unless it has gone itself.
                let _ = messages.send(Err(violation)).await;
                return;
            }
            Err(_) => {
                gone.cancel();
                return;
            }
        }
    }
}

async fn read_one(
    stream: &mut (impl AsyncRead + Unpin),
    ahead: &Arc<Semaphore>,
) -> std::io::Result<Result<Received, PostgresError>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let (kind, length) = match message_body(head) {
        Ok(read) => read,
        Err(error) => return Ok(Err(error)),
    };
    // The share is taken before there is room for the message. The semaphore is never closed.
    let share = Arc::clone(ahead).acquire_many_owned(length as u32).await.map_err(std::io::Error::other)?;
    let mut body = Vec::new();
    // Room comes with the bytes, not with the promise of them.
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Message::decode(kind, &body).map(|message| Received { message, _share: share }))
}

#[cfg(test)]
mod tests;
