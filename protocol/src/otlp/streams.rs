//! What requests of logs and of traces have in common: resources, scopes in them, and in these the entries.
//!
//! ```text
//! Export*ServiceRequest  1 Resource*  {1 resource {1 attribute*}, 2 Scope*}
//! Scope*                 {1 scope {1 name, 2 version, 3 attribute*}, 2 entry*}
//! ```
//!
//! A resource with a scope is a stream. One that has no entries is not named.

use super::logs::flatten;
use super::value::{MAX_VALUES, check_key_value, read_key_value};
use crate::logs::{Attribute, LogStream};
use crate::remote_write::Fault;
use crate::remote_write::wire::Reader;

/// Names of messages, for errors.
pub(super) struct Messages {
    pub request: &'static str,
    pub resource: &'static str,
    pub entry: &'static str,
}

/// Takes streams and entries as they are found.
pub(super) trait Walk {
    /// What the messages are called.
    const MESSAGES: Messages;

    /// The entries that follow belong to this stream.
    fn stream(&mut self, stream: &LogStream<'_>);

    /// One entry.
    fn entry(&mut self, entry: Reader<'_>) -> Result<(), Fault>;
}

/// Walks a request.
pub(super) fn walk<W: Walk>(walker: &mut W, mut request: Reader<'_>) -> Result<(), Fault> {
    let named = |error: Fault| error.within(|| W::MESSAGES.request.into());
    while !request.is_empty() {
        let (field, wire) = request.tag().map_err(named)?;
        match field {
            1 => {
                let resource = request.message(wire).map_err(named)?;
                walk_resource(walker, resource)
                    .map_err(|error| error.within(|| W::MESSAGES.resource.into()))?;
            }
            _ => request.skip(wire).map_err(named)?,
        }
    }
    Ok(())
}

fn walk_resource<W: Walk>(walker: &mut W, message: Reader<'_>) -> Result<(), Fault> {
    let mut resource = Reader::new(&[]);
    let mut fields = message;
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => resource = fields.message(wire)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    let resource = read_attributes(resource, 1)?;
    let mut fields = message;
    while !fields.is_empty() {
        match fields.tag()? {
            (2, wire) => walk_scope(walker, fields.message(wire)?, &resource)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

fn walk_scope<W: Walk>(walker: &mut W, message: Reader<'_>, resource: &[Attribute<'_>]) -> Result<(), Fault> {
    let mut scope = Reader::new(&[]);
    let mut has_entries = false;
    let mut fields = message;
    while !fields.is_empty() {
        let (field, wire) = fields.tag()?;
        match field {
            1 => scope = fields.message(wire)?,
            2 => {
                fields.message(wire)?;
                has_entries = true;
            }
            _ => fields.skip(wire)?,
        }
    }
    if !has_entries {
        return Ok(());
    }
    let mut stream = LogStream {
        resource: resource.to_vec(),
        scope_attributes: read_attributes(scope, 3)?,
        ..LogStream::default()
    };
    while !scope.is_empty() {
        let (field, wire) = scope.tag()?;
        match field {
            1 => stream.scope_name = String::from_utf8_lossy(scope.bytes(wire)?),
            2 => stream.scope_version = String::from_utf8_lossy(scope.bytes(wire)?),
            _ => scope.skip(wire)?,
        }
    }
    walker.stream(&stream);
    let mut fields = message;
    while !fields.is_empty() {
        match fields.tag()? {
            (2, wire) => {
                let entry = fields.message(wire)?;
                walker.entry(entry).map_err(|error| error.within(|| W::MESSAGES.entry.into()))?;
            }
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

/// An id; one of a wrong length counts as absent.
pub(super) fn id<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// Checks an attribute and adds it, flattened.
pub(super) fn read_attribute<'a>(
    message: Reader<'a>,
    left: &mut usize,
    out: &mut Vec<Attribute<'a>>,
) -> Result<(), Fault> {
    check_key_value(message, left)?;
    let (key, value) = read_key_value(message)?;
    flatten(String::from_utf8_lossy(key), value, out);
    Ok(())
}

/// The attributes of a resource or a scope, flattened.
fn read_attributes(mut message: Reader<'_>, field: u32) -> Result<Vec<Attribute<'_>>, Fault> {
    let mut attributes = Vec::new();
    let mut left = MAX_VALUES;
    while !message.is_empty() {
        let (found, wire) = message.tag()?;
        if found != field {
            message.skip(wire)?;
            continue;
        }
        read_attribute(message.message(wire)?, &mut left, &mut attributes)?;
    }
    Ok(attributes)
}
