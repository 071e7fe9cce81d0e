//! Which process a pid file means: a pid alone is reused, a pid with its start time is not.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

/// A process has this long to end that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Locks the file, and writes this process into it, for [`Process::load`]. `None` while another process has it; it is free
/// again when the value is dropped, or the process has ended, however that came.
///
/// # Errors
/// When the file cannot be opened or written.
pub fn lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::Error::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    let own = Process::find(std::process::id().cast_signed()).ok_or_else(|| Error::from(ErrorKind::NotFound))?;
    own.save(path)?;
    Ok(Some(lock))
}

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
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGTERM and, after `grace`, SIGKILL; returns once the process has ended.
    ///
    /// # Errors
    /// When it does not end within [`KILLED_WITHIN`].
    pub async fn stop(self, grace: Duration) -> Result<()> {
        self.end()?;
        if let Ok(ended) = tokio::time::timeout(grace, self.ended()).await {
            return ended;
        }
        self.signal(Signal::SIGKILL)?;
        let ended = tokio::time::timeout(KILLED_WITHIN, self.ended()).await;
        ended.unwrap_or_else(|_| Err(Error::other(format!("process {} does not end", self.pid))))
    }

    fn signal(self, signal: Signal) -> Result<()> {
        match kill(Pid::from_raw(self.pid), signal) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_file_is_locked_once_and_names_who_has_it() {
        let path = std::env::temp_dir().join(format!("xebec-lock-{}", std::process::id()));
        let held = lock(&path).unwrap();
        assert!(held.is_some() && lock(&path).unwrap().is_none());
        assert_eq!(Process::load(&path).unwrap().pid, std::process::id().cast_signed());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
        fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn who_does_not_end_is_killed() {
        let stubborn = "trap '' TERM; echo; while :; do sleep 1; done";
        for (script, grace, signal) in [("echo; exec sleep 100", 60_000, 15), (stubborn, 100, 9)] {
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            let process = Process::find(child.id().cast_signed()).unwrap();
            process.stop(Duration::from_millis(grace)).await.unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal));
            // Gone: twice is once.
            process.stop(Duration::from_millis(grace)).await.unwrap();
        }
    }
}
