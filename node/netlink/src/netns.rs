//! Network namespaces: made by a thread that unshares, pinned by a bind mount, entered by threads.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result, cookie};

/// Where `ip netns` looks for names.
pub const NETNS_DIR: &str = "/run/netns";

/// A calling thread's namespace. `/proc/self` would name the main thread's.
const THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// An open network namespace: it lives at least as long as this value.
#[derive(Clone, Debug)]
pub struct Netns {
    path: PathBuf,
    file: Arc<File>,
}

impl Netns {
    /// A new namespace pinned at `/run/netns/NAME`; everything in it, `lo` too, is down. `EEXIST` if the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        let path = Path::new(NETNS_DIR).join(name);
        share_names().map_err(|source| Error::Netns {
            operation: "share the folder of",
            path: path.clone(),
            source,
        })?;
        Self::create_at(&path)
    }

    /// As [`Netns::create`], pinned at any path whose folder exists or can be made.
    pub fn create_at(path: &Path) -> Result<Self> {
        let at = |operation| move |source| Error::Netns { operation, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(at("create the folder of"))?;
        }
        OpenOptions::new().write(true).create_new(true).open(path).map_err(at("create"))?;
        on_thread("netns-create", || pin_new(path)).and_then(|done| done).map_err(|source| {
            let _ = fs::remove_file(path);
            at("create")(source)
        })?;
        Self::open(path)
    }

    /// The namespace pinned at `/run/netns/NAME`, made if there is none. A leftover file without a namespace behind it
    /// (a crash between the two steps of creation) is replaced.
    pub fn ensure(name: &str) -> Result<Self> {
        let path = Path::new(NETNS_DIR).join(name);
        if is_pinned(&path) {
            return Self::open(&path);
        }
        if path.exists() {
            fs::remove_file(&path).map_err(|source| Error::Netns {
                operation: "remove the leftover file of",
                path: path.clone(),
                source,
            })?;
        }
        Self::create(name)
    }

    /// `path` is a file under `/run/netns`, `/proc/PID/ns/net`, or what containerd passes in `CNI_NETNS`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = |source| Error::Netns { operation: "open", path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        if !is_nsfs(&file) {
            return Err(open(io::Error::other("the file is not a namespace")));
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file) })
    }

    /// By name under `/run/netns`.
    pub fn named(name: &str) -> Result<Self> {
        Self::open(Path::new(NETNS_DIR).join(name))
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(THIS_THREAD)
    }

    /// Unpins the namespace; it dies when its last process, socket and open file are gone. Absent is success.
    pub fn delete(name: &str) -> Result<()> {
        Self::delete_at(&Path::new(NETNS_DIR).join(name))
    }

    pub fn delete_at(path: &Path) -> Result<()> {
        let at = |operation| move |source| Error::Netns { operation, path: path.to_owned(), source };
        match nix::mount::umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: the file is there, but nothing is mounted on it.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(errno) => return Err(at("unmount")(errno.into())),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove")(error)),
            _ => Ok(()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The inode of the namespace: equal if and only if two values name the same namespace.
    pub fn inode(&self) -> Result<u64> {
        self.file.metadata().map(|meta| meta.ino()).map_err(self.failed("stat"))
    }

    /// The number by which BPF programs know this namespace; `None` where the kernel does not tell it (before 5.14).
    pub fn cookie(&self) -> Result<Option<u64>> {
        self.run(cookie::of_this_thread)?.map_err(self.failed("read the cookie of"))
    }

    /// Runs `f` inside the namespace, on a thread of its own. A panic in `f` continues in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread("netns", || self.enter().map(|()| f())).and_then(|done| done).map_err(self.failed("enter"))
    }

    /// Runs a future inside the namespace, on a thread with a runtime of its own: sockets that it opens belong to the
    /// namespace. Dropping the returned future cancels it.
    pub async fn run_async<T, F>(&self, f: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let (mut done, result) = tokio::sync::oneshot::channel();
        let thread = self.spawn("netns-async", move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                tokio::select! {
                    value = async { f().await } => { let _ = done.send(value); }
                    () = done.closed() => {}
                }
            });
            Ok(())
        })?;
        match result.await {
            Ok(value) => Ok(value),
            // The thread is at its end: it panicked or could not build a runtime.
            Err(_) => match thread.join() {
                Ok(outcome) => {
                    let source = outcome.err().unwrap_or_else(|| io::Error::other("the future did not finish"));
                    Err(self.failed("start a runtime in")(source))
                }
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }

    /// A named thread that has entered the namespace before it runs `f`. Threads that it makes are born there too,
    /// so a multi-threaded runtime built inside `f` lives wholly in the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>> {
        let (entered, wait) = std::sync::mpsc::sync_channel(1);
        let netns = self.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = netns.enter();
            let inside = outcome.is_ok();
            let _ = entered.send(outcome);
            if !inside {
                // Ends the thread without a message: `spawn` returns the error.
                std::panic::resume_unwind(Box::new("not in the namespace"));
            }
            f()
        });
        let thread = thread.map_err(self.failed("start a thread in"))?;
        match wait.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(source)) => Err(self.failed("enter")(source)),
            Err(_) => Err(self.failed("enter")(io::Error::other("the thread ended"))),
        }
    }

    /// Moves the calling thread; for threads that the caller made for this purpose.
    pub fn enter(&self) -> io::Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Netns { operation, path, source }
    }
}

/// Makes `/run/netns` a shared mount, under iproute2's lock, as iproute2 does before its own first namespace
/// (`netns_add` in ip/ipnetns.c). Were it done later, by an `ip netns add`, the new mount would cover the names that are
/// there, and none of them could be removed again: EBUSY.
fn share_names() -> io::Result<()> {
    fs::create_dir_all(NETNS_DIR)?;
    let _lock = Flock::lock(File::open(NETNS_DIR)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let mount = |source: Option<&str>, flags| nix::mount::mount(source, NETNS_DIR, None::<&str>, flags, None::<&str>);
    let share = || mount(None, MsFlags::MS_SHARED | MsFlags::MS_REC);
    match share() {
        // Not a mount of its own yet.
        Err(Errno::EINVAL) => {
            mount(Some(NETNS_DIR), MsFlags::MS_BIND | MsFlags::MS_REC)?;
            Ok(share()?)
        }
        done => Ok(done?),
    }
}

fn pin_new(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    nix::mount::mount(Some(THIS_THREAD), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Runs `f` on a thread that dies afterwards, so that what it does to its own namespaces dies with it.
fn on_thread<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, f)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn is_pinned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| is_nsfs(&file))
}

fn is_nsfs(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}
