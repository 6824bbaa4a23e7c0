//! The calls that the standard library does not offer: free space of a disk, reservation of space, giving memory back to
//! the system, and what a thread has computed.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fs::Space;

/// Free (for this user) and total bytes of the disk that holds `path`.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a NUL-terminated string that lives over the call, and `stat` is writable memory of the size
    // that the call expects.
    let status = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, hence it filled the whole struct.
    let stat = unsafe { stat.assume_init() };
    // The fields' widths differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    let (unit, free, total) = (stat.f_frsize as u64, stat.f_bavail as u64, stat.f_blocks as u64);
    Ok(Space { free_bytes: free.saturating_mul(unit), total_bytes: total.saturating_mul(unit) })
}

/// Reserves the first `len` bytes of a file and extends it to that length. `false` where the disk can not reserve.
#[cfg(target_os = "linux")]
pub(crate) fn reserve(file: &File, len: u64) -> io::Result<bool> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: the descriptor is open for the whole call, as `file` is borrowed; the call touches no memory of ours.
        let status = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
        if status == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// Reserves the first `len` bytes of a file. `false` where the disk can not reserve.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reserve(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// Has the allocator give the system what it keeps of freed memory, where it is one that can be asked.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes no pointer and may be made from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// CPU time that the calling thread has used, where the system counts it. For accounts of who used how much: nothing in
/// this crate decides by it.
#[cfg(target_os = "linux")]
pub fn thread_cpu_time() -> Option<std::time::Duration> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is writable memory of the size that the call expects.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call succeeded, hence it filled the whole struct.
    let time = unsafe { time.assume_init() };
    Some(std::time::Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// CPU time that the calling thread has used, where the system counts it.
#[cfg(not(target_os = "linux"))]
pub fn thread_cpu_time() -> Option<std::time::Duration> {
    None
}
