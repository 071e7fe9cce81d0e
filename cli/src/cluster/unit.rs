//! One program of a cluster: where it runs, and how it is started.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::process::Child;

use super::cgroup;
use super::layout::Layout;

/// The descriptor at which a program finds its first passed socket (sd_listen_fds(3)).
pub const LISTEN_FD: i32 = 3;

pub struct Unit {
    /// Also the name of its log and pid files.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub netns: String,
    pub mount_namespace: Option<PathBuf>,
    /// Relative to the root of every hierarchy.
    pub cgroup: String,
    /// A listening socket that outlives the program: clients wait in its queue during a restart.
    pub listener: Option<Arc<OwnedFd>>,
    /// Files that must be there before the first start.
    pub needs: Vec<PathBuf>,
}

impl Unit {
    pub fn pid_file(&self, layout: &Layout) -> PathBuf {
        layout.run().join(format!("{}.pid", self.name))
    }

    /// Starts the program in its namespaces and cgroup, in a session of its own, output to its log.
    ///
    /// # Errors
    /// Names what could not be opened, or the program that could not be started.
    pub fn start(&self, layout: &Layout) -> Result<Child> {
        let log = log_file(&layout.logs().join(format!("{}.log", self.name)))?;
        let netns = open(Path::new("/run/netns").join(&self.netns))?;
        let mount_namespace = self.mount_namespace.as_deref().map(open).transpose()?;
        let procs = self.cgroup_procs()?;
        let listener = self.listener.clone();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        if listener.is_some() {
            command.env("LISTEN_FDS", "1");
        }
        let enter = move || -> io::Result<()> {
            nix::unistd::write(&procs, b"0")?;
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            if let Some(namespace) = &mount_namespace {
                setns(namespace, CloneFlags::CLONE_NEWNS)?;
            }
            if let Some(listener) = &listener {
                pass(listener.as_fd())?;
            }
            nix::unistd::setsid()?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only, on descriptors opened
        // before the fork; it neither allocates nor takes locks.
        unsafe { command.pre_exec(enter) };
        let mut command = tokio::process::Command::from(command);
        command.spawn().with_context(|| format!("start {} ({})", self.name, self.program.display()))
    }

    fn cgroup_procs(&self) -> Result<File> {
        let root = cgroup::unified().context("cgroup2 is not mounted")?;
        let directory = root.join(&self.cgroup);
        fs::create_dir_all(&directory).with_context(|| format!("create cgroup {}", directory.display()))?;
        let path = directory.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).with_context(|| format!("open {}", path.display()))
    }
}

/// Duplicates `fd` to [`LISTEN_FD`], without close-on-exec.
fn pass(fd: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: dup2 on two descriptor numbers; the one that it replaces is close-on-exec here, in the
    // child, and nothing between here and exec uses it.
    match unsafe { nix::libc::dup2(fd.as_raw_fd(), LISTEN_FD) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn log_file(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))
}
