//! Which process a pid file means: a pid alone is reused, a pid with its start time is not.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use tokio::io::unix::AsyncFd;

/// A process that was alive when it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat (proc_pid_stat(5)).
    start_time: u64,
}

impl Process {
    /// The process `pid`, if it lives.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces and brackets: fields count from the last bracket.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, start_time })
    }

    /// The process that wrote `path`, if it is still the same one.
    pub fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start_time) = text.trim().split_once(' ')?;
        Self::find(pid.parse().ok()?).filter(|process| process.start_time.to_string() == start_time)
    }

    /// Clock ticks after boot: with the pid it names one process for good.
    pub fn start_time(self) -> u64 {
        self.start_time
    }

    pub fn save(self, path: &Path) -> Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.start_time))
    }

    /// Sends SIGTERM; a process that has ended already is fine.
    ///
    /// # Errors
    /// When the signal is not permitted.
    pub fn end(self) -> Result<()> {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGTERM) {
            Err(nix::Error::ESRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended; it need not be a child.
    pub async fn ended(self) -> Result<()> {
        let Some(fd) = self.pidfd()? else { return Ok(()) };
        // SAFETY: an `OwnedFd` stays open, and the same file, until the `AsyncFd` that owns it is dropped.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(Error::from)?;
        fd.readable().await.map(drop)
    }

    /// A copy of the process's file descriptor `fd` (pidfd_getfd(2), Linux 5.6).
    pub fn take_fd(self, fd: i32) -> Result<OwnedFd> {
        let process = self.pidfd()?.ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        // SAFETY: pidfd_getfd takes three integers and touches no memory of ours.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
        owned(copy)
    }

    /// `None` when the process is gone.
    fn pidfd(self) -> Result<Option<OwnedFd>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        match owned(fd) {
            Ok(fd) => Ok(Self::find(self.pid).filter(|found| *found == self).map(|_| fd)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last_os_error()),
    }
}
