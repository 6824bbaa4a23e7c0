//! The disk behind [`super::MemFs`]: inodes with a live and a durable state, and what lies between them.
//!
//! Every change goes to the live state and onto the inode's list of pending operations, numbered in one sequence for
//! the whole disk. A sync moves the pending operations of one inode to its durable state. A crash decides for every
//! pending operation whether it reached the disk, applies those that did, and forgets the live state.
//!
//! Invariant: without a failed sync, live = durable + pending, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::CrashMode;
use super::pages::Pages;
use crate::fs::{DirEntry, OpenMode};

/// Disks write sectors whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

pub(super) type Ino = u64;
const ROOT: Ino = 0;

/// SplitMix64: small, and the same on every platform and release for ever, which seeds in bug reports rely on.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

#[derive(Clone, Debug)]
enum FileOp {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
struct FileNode {
    live: Pages,
    durable: Pages,
    pending: Vec<(u64, FileOp)>,
    /// A sync failed, hence live holds bytes that no later sync will bring to the disk.
    diverged: bool,
    handles: u64,
}

#[derive(Clone, Debug)]
struct DirEdit {
    name: String,
    target: Option<Ino>,
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    pending: Vec<(u64, DirEdit)>,
}

#[derive(Clone, Debug)]
enum Inode {
    File(FileNode),
    Dir(DirNode),
}

/// Which operation an armed fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOp {
    /// The next write: a part of it may reach the file.
    Write,
    /// The next sync of a file: a part of what was unsynced reaches the disk, the rest never will.
    Sync,
    /// The next read.
    Read,
}

#[derive(Clone, Debug)]
pub(super) struct Armed {
    pub(super) op: FaultOp,
    pub(super) path_part: String,
}

/// State of a disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) incarnation: u64,
    pub(super) random: Random,
    pub(super) quota_bytes: Option<u64>,
    pub(super) armed: Vec<Armed>,
    pub(super) power_off_at: Option<u64>,
    pub(super) powered_off: bool,
    pub(super) op_count: u64,
    sequence: u64,
    next_ino: Ino,
    inodes: BTreeMap<Ino, Inode>,
    unlinked: u64,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Goes,
    /// It is carried out, but the power fails before anyone learns of it.
    PowerFails,
}

fn error(kind: io::ErrorKind, what: &str) -> io::Error {
    io::Error::new(kind, what.to_owned())
}

pub(super) fn power_failed() -> io::Error {
    error(io::ErrorKind::Other, "the power failed")
}

fn no_space() -> io::Error {
    error(io::ErrorKind::StorageFull, "no space left on the simulated disk")
}

pub(super) fn bad_sector() -> io::Error {
    error(io::ErrorKind::Other, "simulated input/output error")
}

fn not_found(path: &Path) -> io::Error {
    error(io::ErrorKind::NotFound, &format!("{} does not exist", path.display()))
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            incarnation: 1,
            random: Random::new(seed),
            quota_bytes: None,
            armed: Vec::new(),
            power_off_at: None,
            powered_off: false,
            op_count: 0,
            sequence: 0,
            next_ino: ROOT + 1,
            inodes: BTreeMap::from([(ROOT, Inode::Dir(DirNode::default()))]),
            unlinked: 0,
        }
    }

    /// Counts an operation that changes something, and lets the power fail where the plan says so.
    pub(super) fn begin_op(&mut self) -> io::Result<Fate> {
        if self.powered_off {
            return Err(power_failed());
        }
        self.op_count += 1;
        if self.power_off_at == Some(self.op_count) {
            self.powered_off = true;
            return Ok(Fate::PowerFails);
        }
        Ok(Fate::Goes)
    }

    pub(super) fn take_fault(&mut self, op: FaultOp, path: &Path) -> bool {
        let path = path.to_string_lossy();
        match self.armed.iter().position(|armed| armed.op == op && path.contains(&armed.path_part)) {
            Some(at) => {
                self.armed.remove(at);
                true
            }
            None => false,
        }
    }

    fn dir(&self, ino: Ino) -> io::Result<&DirNode> {
        match self.inodes.get(&ino) {
            Some(Inode::Dir(dir)) => Ok(dir),
            _ => Err(error(io::ErrorKind::NotADirectory, "not a directory")),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> io::Result<&mut DirNode> {
        match self.inodes.get_mut(&ino) {
            Some(Inode::Dir(dir)) => Ok(dir),
            _ => Err(error(io::ErrorKind::NotADirectory, "not a directory")),
        }
    }

    fn file(&self, ino: Ino) -> io::Result<&FileNode> {
        match self.inodes.get(&ino) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(error(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.inodes.get_mut(&ino) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(error(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.dir(at)?.live.get(&name).ok_or_else(|| not_found(path))?;
        }
        Ok(at)
    }

    fn resolve_parent(&self, path: &Path) -> io::Result<(Ino, String)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or_else(|| error(io::ErrorKind::InvalidInput, "the root has no name"))?;
        let mut at = ROOT;
        for part in names {
            at = *self.dir(at)?.live.get(&part).ok_or_else(|| not_found(path))?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn edit(&mut self, dir: Ino, sequence: u64, name: String, target: Option<Ino>) -> io::Result<()> {
        let dir = self.dir_mut(dir)?;
        match target {
            Some(ino) => dir.live.insert(name.clone(), ino),
            None => dir.live.remove(&name),
        };
        dir.pending.push((sequence, DirEdit { name, target }));
        Ok(())
    }

    fn new_inode(&mut self, inode: Inode) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(ino, inode);
        ino
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<(Ino, Fate)> {
        let mut fate = Fate::Goes;
        let ino = if mode == OpenMode::CreateNew {
            let (parent, name) = self.resolve_parent(path)?;
            if self.dir(parent)?.live.contains_key(&name) {
                return Err(error(io::ErrorKind::AlreadyExists, &format!("{} exists", path.display())));
            }
            fate = self.begin_op()?;
            let ino = self.new_inode(Inode::File(FileNode::default()));
            let sequence = self.next_sequence();
            self.edit(parent, sequence, name, Some(ino))?;
            ino
        } else {
            self.resolve(path)?
        };
        self.file_mut(ino)?.handles += 1;
        Ok((ino, fate))
    }

    pub(super) fn close(&mut self, ino: Ino) {
        if let Ok(file) = self.file_mut(ino) {
            file.handles = file.handles.saturating_sub(1);
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<Fate> {
        let mut fate = Fate::Goes;
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.live.get(&name) {
                Some(&next) => next,
                None => {
                    fate = self.begin_op()?;
                    let next = self.new_inode(Inode::Dir(DirNode::default()));
                    let sequence = self.next_sequence();
                    self.edit(at, sequence, name, Some(next))?;
                    if fate == Fate::PowerFails {
                        return Ok(fate);
                    }
                    next
                }
            };
            self.dir(at)?;
        }
        Ok(fate)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Fate> {
        let (from_dir, from_name) = self.resolve_parent(from)?;
        let (to_dir, to_name) = self.resolve_parent(to)?;
        let ino = *self.dir(from_dir)?.live.get(&from_name).ok_or_else(|| not_found(from))?;
        if let Some(&over) = self.dir(to_dir)?.live.get(&to_name)
            && self.file(ino).is_ok() != self.file(over).is_ok()
        {
            return Err(error(
                io::ErrorKind::AlreadyExists,
                "a file and a directory do not replace each other",
            ));
        }
        let fate = self.begin_op()?;
        let sequence = self.next_sequence();
        self.edit(from_dir, sequence, from_name, None)?;
        self.edit(to_dir, sequence, to_name, Some(ino))?;
        self.unlinked += 1;
        Ok(fate)
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<Fate> {
        let ino = self.resolve(from)?;
        self.file(ino)?;
        let (dir, name) = self.resolve_parent(to)?;
        if self.dir(dir)?.live.contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, &format!("{} exists", to.display())));
        }
        let fate = self.begin_op()?;
        let sequence = self.next_sequence();
        self.edit(dir, sequence, name, Some(ino))?;
        Ok(fate)
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<Fate> {
        let (dir, name) = self.resolve_parent(path)?;
        let ino = *self.dir(dir)?.live.get(&name).ok_or_else(|| not_found(path))?;
        self.file(ino)?;
        let fate = self.begin_op()?;
        let sequence = self.next_sequence();
        self.edit(dir, sequence, name, None)?;
        self.unlinked += 1;
        Ok(fate)
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<Fate> {
        let (dir, name) = match self.resolve_parent(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Fate::Goes),
            other => other?,
        };
        let Some(&ino) = self.dir(dir)?.live.get(&name) else { return Ok(Fate::Goes) };
        self.remove_tree(dir, name, ino)
    }

    /// Children first, each removal an operation of its own: a crash may leave any of them behind.
    fn remove_tree(&mut self, dir: Ino, name: String, ino: Ino) -> io::Result<Fate> {
        if let Some(Inode::Dir(node)) = self.inodes.get(&ino) {
            for (child, child_ino) in node.live.clone() {
                if self.remove_tree(ino, child, child_ino)? == Fate::PowerFails {
                    return Ok(Fate::PowerFails);
                }
            }
        }
        let fate = self.begin_op()?;
        let sequence = self.next_sequence();
        self.edit(dir, sequence, name, None)?;
        self.unlinked += 1;
        Ok(fate)
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<Fate> {
        let ino = self.resolve(path)?;
        self.dir(ino)?;
        if self.begin_op()? == Fate::PowerFails {
            return Ok(Fate::PowerFails);
        }
        // A rename between two directories is one operation: where it is flushed on one side, it is on the other.
        let mut work = vec![ino];
        while let Some(ino) = work.pop() {
            let dir = self.dir_mut(ino)?;
            let flushed = std::mem::take(&mut dir.pending);
            let sequences: BTreeSet<u64> = flushed.iter().map(|(sequence, _)| *sequence).collect();
            for (_, edit) in flushed {
                apply_edit(&mut dir.durable, edit);
            }
            for (&other, inode) in &self.inodes {
                if let Inode::Dir(dir) = inode
                    && dir.pending.iter().any(|(sequence, _)| sequences.contains(sequence))
                {
                    work.push(other);
                }
            }
        }
        if self.unlinked > 32 {
            self.collect();
        }
        Ok(Fate::Goes)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.resolve(path)?)?;
        Ok(dir
            .live
            .iter()
            .map(|(name, ino)| {
                let len_bytes = self.file(*ino).map_or(0, |file| file.live.len());
                DirEntry { name: name.clone(), len_bytes, is_dir: self.dir(*ino).is_ok() }
            })
            .collect())
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.resolve(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(self.resolve(path)?)?.live.to_vec())
    }

    /// Bytes in files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut named = BTreeSet::new();
        for inode in self.inodes.values() {
            if let Inode::Dir(dir) = inode {
                named.extend(dir.live.values().copied());
            }
        }
        named.iter().filter_map(|ino| self.file(*ino).ok()).map(|file| file.live.len()).sum()
    }

    /// How far a file may grow.
    fn room(&self, ino: Ino) -> io::Result<u64> {
        let len = self.file(ino)?.live.len();
        Ok(match self.quota_bytes {
            None => u64::MAX,
            Some(quota) => len + quota.saturating_sub(self.used_bytes()),
        })
    }

    pub(super) fn write(&mut self, ino: Ino, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<Fate> {
        let fate = self.begin_op()?;
        let mut count = bytes.len() as u64;
        let mut failure = None;
        if self.take_fault(FaultOp::Write, path) {
            count = self.random.below(count + 1);
            failure = Some(bad_sector());
        }
        let end = offset
            .checked_add(count)
            .ok_or_else(|| error(io::ErrorKind::FileTooLarge, "offset overflows"))?;
        let len = self.file(ino)?.live.len();
        if end > len {
            let room = self.room(ino)?;
            if end > room {
                count = room.saturating_sub(offset).min(count);
                failure = failure.or_else(|| Some(no_space()));
            }
        }
        let bytes = &bytes[..count as usize];
        let sequence = self.next_sequence();
        let file = self.file_mut(ino)?;
        if !bytes.is_empty() {
            file.live.write(offset, bytes);
            file.pending.push((sequence, FileOp::Write { offset, bytes: bytes.to_vec() }));
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(fate),
        }
    }

    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<Fate> {
        let fate = self.begin_op()?;
        if len > self.file(ino)?.live.len() && len > self.room(ino)? {
            return Err(no_space());
        }
        let sequence = self.next_sequence();
        let file = self.file_mut(ino)?;
        file.live.set_len(len);
        file.pending.push((sequence, FileOp::SetLen(len)));
        Ok(fate)
    }

    pub(super) fn sync_file(&mut self, ino: Ino, path: &Path) -> io::Result<Fate> {
        if self.begin_op()? == Fate::PowerFails {
            return Ok(Fate::PowerFails);
        }
        let fails = self.take_fault(FaultOp::Sync, path);
        let mut random = self.random.clone();
        let file = self.file_mut(ino)?;
        let pending = std::mem::take(&mut file.pending);
        if fails {
            // The kernel reports the error once, then counts the pages as clean.
            file.diverged = true;
            for (_, op) in pending {
                if random.coin() {
                    apply_op(&mut file.durable, &op);
                }
            }
            self.random = random;
            return Err(bad_sector());
        }
        for (_, op) in pending {
            match op {
                FileOp::Write { offset, ref bytes } if !file.diverged => {
                    let count = bytes.len().min(file.live.len().saturating_sub(offset) as usize);
                    file.durable.share(&file.live, offset, count);
                }
                op => apply_op(&mut file.durable, &op),
            }
        }
        if !file.diverged {
            file.durable.set_len(file.live.len());
        }
        Ok(Fate::Goes)
    }

    pub(super) fn read(&self, ino: Ino, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.file(ino)?.live.read(offset, bytes) {
            true => Ok(()),
            false => Err(error(io::ErrorKind::UnexpectedEof, "the file ends before")),
        }
    }

    pub(super) fn file_len(&self, ino: Ino) -> io::Result<u64> {
        Ok(self.file(ino)?.live.len())
    }

    /// Changes the bytes of a file behind everyone's back, durably.
    pub(super) fn damage(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let ino = self.resolve(path)?;
        let file = self.file_mut(ino)?;
        let mut bytes = file.live.to_vec();
        change(&mut bytes);
        let mut pages = Pages::default();
        pages.write(0, &bytes);
        pages.set_len(bytes.len() as u64);
        file.durable = pages.clone();
        file.live = pages;
        file.pending.clear();
        Ok(())
    }

    pub(super) fn flip_bit(&mut self, path: &Path, byte: u64, bit: u8) -> io::Result<()> {
        let ino = self.resolve(path)?;
        let file = self.file_mut(ino)?;
        for pages in [&mut file.live, &mut file.durable] {
            let mut one = [0];
            if pages.read(byte, &mut one) {
                pages.write(byte, &[one[0] ^ (1 << (bit % 8))]);
            }
        }
        Ok(())
    }

    pub(super) fn zero_from(&mut self, path: &Path, byte: u64) -> io::Result<()> {
        let ino = self.resolve(path)?;
        let file = self.file_mut(ino)?;
        for pages in [&mut file.live, &mut file.durable] {
            let len = pages.len();
            pages.set_len(byte.min(len));
            pages.set_len(len);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.resolve_parent(path)?;
        let dir = self.dir_mut(dir)?;
        dir.live.remove(&name).ok_or_else(|| not_found(path))?;
        dir.durable.remove(&name);
        dir.pending.retain(|(_, edit)| edit.name != name);
        Ok(())
    }

    /// Ends the current incarnation and leaves what the crash left.
    pub(super) fn crash(&mut self, mode: CrashMode) {
        self.incarnation += 1;
        self.powered_off = false;
        self.power_off_at = None;
        self.armed.clear();
        for inode in self.inodes.values_mut() {
            if let Inode::File(file) = inode {
                file.handles = 0;
            }
        }
        if mode == CrashMode::Process {
            return;
        }
        let mut sequences = BTreeSet::new();
        for inode in self.inodes.values() {
            match inode {
                Inode::File(file) => sequences.extend(file.pending.iter().map(|(sequence, _)| *sequence)),
                Inode::Dir(dir) => sequences.extend(dir.pending.iter().map(|(sequence, _)| *sequence)),
            }
        }
        let kept = Verdict::choose(mode, &sequences, &mut self.random);
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => {
                    for (sequence, op) in std::mem::take(&mut file.pending) {
                        match kept.of(sequence) {
                            Kept::Whole => apply_op(&mut file.durable, &op),
                            Kept::Not => {}
                            Kept::Torn(from_front) => {
                                tear(&mut file.durable, &op, from_front, &mut self.random)
                            }
                        }
                    }
                    file.live = file.durable.clone();
                    file.diverged = false;
                }
                Inode::Dir(dir) => {
                    for (sequence, edit) in std::mem::take(&mut dir.pending) {
                        if kept.of(sequence) != Kept::Not {
                            apply_edit(&mut dir.durable, edit);
                        }
                    }
                    dir.live = dir.durable.clone();
                }
            }
        }
        self.collect();
    }

    /// Forgets inodes that nothing can reach.
    fn collect(&mut self) {
        self.unlinked = 0;
        let mut reached = BTreeSet::from([ROOT]);
        let mut work = vec![ROOT];
        while let Some(ino) = work.pop() {
            if let Some(Inode::Dir(dir)) = self.inodes.get(&ino) {
                let pending = dir.pending.iter().filter_map(|(_, edit)| edit.target);
                for next in dir.live.values().chain(dir.durable.values()).copied().chain(pending) {
                    if reached.insert(next) {
                        work.push(next);
                    }
                }
            }
        }
        self.inodes.retain(|ino, inode| {
            reached.contains(ino) || matches!(inode, Inode::File(FileNode { handles: 1.., .. }))
        });
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name.to_owned()),
                None => return Err(error(io::ErrorKind::InvalidInput, "a name is not UTF-8")),
            },
            _ => return Err(error(io::ErrorKind::InvalidInput, "paths must not go up")),
        }
    }
    Ok(names)
}

fn apply_edit(entries: &mut BTreeMap<String, Ino>, edit: DirEdit) {
    match edit.target {
        Some(ino) => entries.insert(edit.name, ino),
        None => entries.remove(&edit.name),
    };
}

fn apply_op(pages: &mut Pages, op: &FileOp) {
    match op {
        FileOp::Write { offset, bytes } => pages.write(*offset, bytes),
        FileOp::SetLen(len) => pages.set_len(*len),
    }
}

/// Applies a part of a write: its first sectors, or any of them.
fn tear(pages: &mut Pages, op: &FileOp, from_front: bool, random: &mut Random) {
    let FileOp::Write { offset, bytes } = op else { return apply_op(pages, op) };
    let (first, last) = (offset / SECTOR_BYTES, (offset + bytes.len() as u64 - 1) / SECTOR_BYTES);
    let front = first + random.below(last - first + 2);
    for sector in first..=last {
        let kept = if from_front { sector < front } else { random.coin() };
        if kept {
            let start = (sector * SECTOR_BYTES).max(*offset);
            let end = ((sector + 1) * SECTOR_BYTES).min(offset + bytes.len() as u64);
            pages.write(start, &bytes[(start - offset) as usize..(end - offset) as usize]);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Whole,
    Not,
    /// Only a part of a write: the front if true.
    Torn(bool),
}

/// What a crash keeps of the pending operations.
struct Verdict(BTreeMap<u64, Kept>);

impl Verdict {
    fn choose(mode: CrashMode, sequences: &BTreeSet<u64>, random: &mut Random) -> Self {
        let count = sequences.len() as u64;
        let kept = match mode {
            CrashMode::DropUnsynced => sequences.iter().map(|&s| (s, Kept::Not)).collect(),
            CrashMode::KeepAll | CrashMode::Process => sequences.iter().map(|&s| (s, Kept::Whole)).collect(),
            CrashMode::Prefix => {
                let whole = random.below(count + 1);
                let at = |i: u64| match i.cmp(&whole) {
                    std::cmp::Ordering::Less => Kept::Whole,
                    std::cmp::Ordering::Equal => Kept::Torn(true),
                    std::cmp::Ordering::Greater => Kept::Not,
                };
                sequences.iter().zip(0..).map(|(&s, i)| (s, at(i))).collect()
            }
            CrashMode::Subset => {
                sequences.iter().map(|&s| (s, if random.coin() { Kept::Whole } else { Kept::Not })).collect()
            }
            CrashMode::Torn => sequences
                .iter()
                .map(|&s| {
                    let kept = match random.below(4) {
                        0 => Kept::Not,
                        1 => Kept::Whole,
                        _ => Kept::Torn(false),
                    };
                    (s, kept)
                })
                .collect(),
        };
        Self(kept)
    }

    fn of(&self, sequence: u64) -> Kept {
        self.0.get(&sequence).copied().unwrap_or(Kept::Not)
    }
}
