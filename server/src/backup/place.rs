//! Where a backup lies, as copying sees it, and how a file gets there.
//!
//! ```text
//! Pieces (a node, another place) ─► transfer ─► Arriving ─► Place (a directory, a store of objects)
//! ```

use std::collections::BTreeMap;

use protocol::ids::ShardId;
use storage::manifest::FileRef;

use super::{BackupError, List, file_name};

/// What is there of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    Absent,
    /// All of it, as it was written.
    Whole,
    /// Something else under its name, which a new copy replaces.
    Damaged,
}

/// A place of a backup. Names are those of the layout, with `/` between their parts.
pub trait Place {
    /// How messages call something in the place; `""` is the place itself.
    fn shown(&self, name: &str) -> String;
    /// The list that is there. [`Place::publish`] replaces exactly this one.
    fn list(&mut self) -> Result<Option<List>, BackupError>;
    /// Looks for a file.
    fn holding(&mut self, name: &str, file: &FileRef) -> Result<Holding, BackupError>;
    /// Makes a short document durable, whose name follows from its content.
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError>;
    /// Begins to take a file, or goes on with one of which a part is there.
    fn receive<'a>(&'a mut self, name: &str, file: &FileRef) -> Result<Box<dyn Arriving + 'a>, BackupError>;
    /// What is there beside the list, with lengths.
    fn names(&mut self) -> Result<BTreeMap<String, u64>, BackupError>;
    /// Makes the list the durable one.
    fn publish(&mut self, list: &List) -> Result<(), BackupError>;
    /// Removes files.
    fn remove(&mut self, names: Vec<String>) -> Result<(), BackupError>;
}

/// A file on its way. It is not to be seen until [`Arriving::finish`]; one that is dropped before never will be.
pub trait Arriving {
    /// Bytes that have arrived: where the next piece begins.
    fn arrived(&self) -> u64;
    /// Takes the next piece.
    fn append(&mut self, piece: &[u8]) -> Result<(), BackupError>;
    /// All bytes are there: makes the file visible and durable. `false` if they are not those of its name; then nothing of
    /// it stays.
    fn finish(self: Box<Self>) -> Result<bool, BackupError>;
}

/// Where pieces of files come from.
pub trait Pieces {
    /// Why there is none.
    type Error: From<BackupError>;

    /// A piece of a file from `offset` on, of any length that is in it; `None` if nobody has the file any more.
    fn piece(&mut self, shard: ShardId, file: &FileRef, offset: u64) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It was there before.
    There,
    /// It is there now.
    Sent,
    /// It is there now, in place of something damaged.
    Replaced,
    /// Nobody has it any more.
    Gone,
    /// What arrives, twice, is not what its name says.
    Damaged,
}

/// Copies a file, if it is not there. Pieces are added to `sent_bytes` as they go.
pub fn transfer<P: Pieces>(
    from: &mut P,
    to: &mut dyn Place,
    shard: ShardId,
    file: &FileRef,
    sent_bytes: &mut u64,
) -> Result<Moved, P::Error> {
    let name = file_name(shard, file);
    let moved = match to.holding(&name, file)? {
        Holding::Whole => return Ok(Moved::There),
        Holding::Damaged => Moved::Replaced,
        Holding::Absent => Moved::Sent,
    };
    // What arrived before is checked with the rest; if it is bad, once more from the beginning.
    for _ in 0..2 {
        let mut arriving = to.receive(&name, file)?;
        loop {
            let offset = arriving.arrived();
            if offset == file.len_bytes {
                break;
            }
            let Some(piece) = from.piece(shard, file, offset)? else { return Ok(Moved::Gone) };
            if piece.is_empty() || piece.len() as u64 > file.len_bytes - offset {
                let reason = format!("a piece of {} bytes arrives at {offset}", piece.len());
                return Err(BackupError::Damaged { file: name, reason }.into());
            }
            arriving.append(&piece)?;
            *sent_bytes += piece.len() as u64;
        }
        if arriving.finish()? {
            return Ok(moved);
        }
    }
    Ok(Moved::Damaged)
}
