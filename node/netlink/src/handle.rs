use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::{Error, Netns, Result, cookie};

/// A netlink socket of one namespace, for use from any thread of the runtime it was made in.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) rt: rtnetlink::Handle,
    netns: Netns,
    dump: Arc<Mutex<()>>,
    /// Reads and writes the socket; ends with the last clone of the handle.
    _connection: Arc<JoinSet<()>>,
}

impl Handle {
    /// Of the calling thread's namespace. Needs a tokio runtime.
    pub fn current() -> Result<Self> {
        let netns = Netns::current()?;
        let socket = rtnetlink::new_connection();
        Self::new(netns, socket)
    }

    /// Of `netns`, whatever namespace the caller is in. Needs a tokio runtime.
    pub fn in_netns(netns: &Netns) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let socket = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        })?;
        Self::new(netns.clone(), socket)
    }

    /// As [`Handle::in_netns`] and [`Netns::cookie`], at the price of one thread.
    pub fn in_netns_with_cookie(netns: &Netns) -> Result<(Self, Option<u64>)> {
        let runtime = tokio::runtime::Handle::current();
        let (socket, cookie) = netns.run(|| {
            let _guard = runtime.enter();
            (rtnetlink::new_connection(), cookie::of_this_thread())
        })?;
        let cookie = cookie.map_err(|source| Error::Netns {
            operation: "read the cookie of",
            path: netns.path().to_owned(),
            source,
        })?;
        Ok((Self::new(netns.clone(), socket)?, cookie))
    }

    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A path below `/proc/sys/net`, in this handle's namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.netns.sysctl(name, value)
    }

    fn new<F, M>(netns: Netns, socket: std::io::Result<(F, rtnetlink::Handle, M)>) -> Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (connection, rt, _) =
            socket.map_err(|source| Error::Open { netns: netns.path().display().to_string(), source })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { rt, netns, dump: Arc::default(), _connection: Arc::new(tasks) })
    }

    /// Held while a list is read: a socket has one dump at a time, a second one gets EBUSY
    /// (`__netlink_dump_start` in net/netlink/af_netlink.c).
    pub(crate) async fn dump(&self) -> MutexGuard<'_, ()> {
        self.dump.lock().await
    }
}
