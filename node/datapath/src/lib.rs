//! The eBPF datapath of one node, from user space: loads and attaches the programs, and owns every
//! write to their maps.
//!
//! Maps and links are pinned under `<bpffs>/xebec/<node>/v<schema>/`, so services, pods and
//! masqueraded flows go on while no agent runs. [`Datapath::open`] adopts what is pinned: it
//! opens the maps, rebuilds its id allocator from them, loads the programs against them, tests them,
//! and replaces each attached program atomically through its link. It never deletes a service or a
//! pod; the caller reads back what is programmed ([`Datapath::frontends`], [`Datapath::pods`],
//! [`Datapath::remotes`]) and reconciles after its first full sync.
//!
//! All calls but [`Datapath::open`], [`Datapath::reload`], [`Datapath::put_services_growing`] and [`Datapath::maintain`] are
//! system calls of microseconds; they may be made from asynchronous code.
#![allow(unsafe_code)] // bpf(2) for what aya does not have, in `sys` alone.

mod announce;
mod arp;
mod canary;
mod capacity;
mod clock;
mod clsact;
mod config;
pub mod cost;
mod drift;
mod error;
mod family;
mod feature;
mod garbage;
mod hook;
pub mod latency;
mod layout;
mod link;
mod maglev;
mod memlock;
mod metrics;
mod migrate;
mod ndp;
mod object;
mod pod;
mod record;
mod remote;
mod remove;
mod reserved;
mod service;
mod stats;
mod sys;
mod table;
#[doc(hidden)]
pub mod testing;
mod xdp;

pub use canary::{CANARY, CANARY6};
pub use capacity::{Capacity, InvalidCapacity};
pub use config::{Config, Dsr, LoadBalancer, Network, Network4, Network6, Routing};
pub use drift::{Drift, DriftKind};
pub use error::{Error, Result};
pub use feature::Feature;
pub use garbage::{Collected, HalfOpen};
pub use hook::Hook;
pub use layout::MapLayout;
pub use link::programs;
pub use maglev::{Algorithm, InvalidTableSize, TableSize};
pub use metrics::MapUsage;
pub use migrate::Migrated;
pub use pod::PodEndpoint;
pub use remove::{Removed, nodes};
pub use service::{Backend, Frontend, FrontendKey, Programmed, Service};
pub use stats::{Drops, MapErrors};
pub use xdp::pass as xdp_pass;
pub use xdp::{InvalidXdpMode, XdpDevice, XdpMode};
pub use xebec_abi::limits::SERVICE_BACKENDS_MAX;
pub use xebec_abi::{Counter, DropReason, ServiceId, Traffic};

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use crate::{
    announce::Announcements,
    latency::Latencies,
    layout::Records,
    migrate::Migration,
    object::Programs,
    pod::Pods,
    remote::Remotes,
    service::Services,
    stats::Statistics,
    testing::{Done, Observer},
};

/// The datapath of one node.
#[derive(Debug)]
pub struct Datapath {
    config: Config,
    directory: PathBuf,
    programs: RwLock<Programs>,
    services: Mutex<Services>,
    pods: Mutex<Pods>,
    remotes: Remotes,
    statistics: Statistics,
    announcements: Announcements,
    garbage: garbage::Flows,
    latencies: Latencies,
    migrated: Vec<Migrated>,
    observer: Observer,
    /// Held while programs are compared or replaced: a reload is no drift.
    attaching: Mutex<()>,
    xdp: Mutex<Vec<XdpDevice>>,
}

impl Datapath {
    /// Loads the datapath, or takes over the one that is running.
    ///
    /// Call it in the node's network namespace and in the mount namespace of its bpffs.
    pub fn open(config: Config) -> Result<Self> {
        Self::open_with(config, object::TcAttach::Probe, Observer::default())
    }

    /// For tests of every state on the way.
    #[doc(hidden)]
    pub fn open_observed(config: Config, observer: Observer) -> Result<Self> {
        Self::open_with(config, object::TcAttach::Probe, observer)
    }

    /// As on a kernel before 6.6, for tests.
    #[doc(hidden)]
    pub fn open_with_clsact(config: Config) -> Result<Self> {
        Self::open_with(config, object::TcAttach::Clsact, Observer::default())
    }

    fn open_with(config: Config, tc: object::TcAttach, observer: Observer) -> Result<Self> {
        if config.ipv4.is_none() && config.ipv6.is_none() {
            return Err(Error::NoFamily { node: config.node_name });
        }
        config.check_vnis()?;
        let directory = config.directory();
        let links = directory.join(link::DIRECTORY);
        fs::create_dir_all(&links).map_err(|source| Error::Directory { path: links.clone(), source })?;
        object::require_bpffs(&config.bpffs)?;
        memlock::raise()?;
        let records = Records::open(&directory)?;
        object::forget_other_sizes(&config, &directory)?;
        let mut migration = Migration::prepare(&directory, config.map_layout, &records, &observer)?;
        config.capacity.resize(&directory, &records)?;
        let programs = Programs::load(&config, &directory, tc, &migration)?;
        records.note_new(&directory, &config, &migration)?;
        observer.see(Done::Loaded);
        let pins = migration.pins(&directory);
        let pin = |map| pins.get(map).cloned().unwrap_or_else(|| directory.join(map));
        let mut datapath = Self {
            services: Mutex::new(Services::open(&directory)?),
            pods: Mutex::new(Pods::open(&directory)?),
            remotes: Remotes::open(&directory, &config)?,
            statistics: Statistics::open(&directory)?,
            announcements: Announcements::open(&directory)?,
            garbage: garbage::Flows::open(pin, config.map_layout)?,
            latencies: Latencies::open(pin)?,
            migrated: Vec::new(),
            observer,
            config,
            directory: directory.clone(),
            programs: RwLock::new(programs),
            attaching: Mutex::default(),
            xdp: Mutex::default(),
        };
        datapath.attach_hooks()?;
        if migration.is_moving() {
            migration.carry(&directory, &datapath.observer)?;
            datapath.reload()?;
            migration.end(&directory)?;
            datapath.observer.see(Done::Ended);
        }
        records.settle(&directory)?;
        datapath.migrated = migration.done();
        let ports = [Config::NODE_PORTS, datapath.config.snat_ports.clone()];
        let own = config::node_directory(&datapath.config.bpffs, &datapath.config.node_name);
        if let Err(error) = reserved::reserve(&own, &ports) {
            let error = error::chain(&error);
            tracing::warn!(error, "NodePorts are not reserved: the node's own connections may take one");
        }
        Ok(datapath)
    }

    /// The devices that are to run `xdp_netdev`.
    pub fn xdp(&self) -> Vec<XdpDevice> {
        lock(&self.xdp).clone()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The pinned maps that had another layout when this was opened.
    pub fn migrated(&self) -> &[Migrated] {
        &self.migrated
    }

    /// The layout of the maps of a node's flows; `None` while they are being replaced, and of one that is not known.
    pub fn map_layout(bpffs: &Path, node: &str) -> Result<Option<MapLayout>> {
        let directory = config::version_directory(bpffs, node);
        Records::read(&directory)?.layout(&directory)
    }

    /// Loads the programs once more, tests them, and puts them in place of those that run, each by one atomic write.
    ///
    /// Call it as [`Datapath::open`].
    pub fn reload(&self) -> Result<()> {
        let _turn = lock(&self.attaching);
        self.replace(self.load()?)
    }

    fn load(&self) -> Result<Programs> {
        let tc = self.programs().tc();
        Programs::load(&self.config, &self.directory, tc, &Migration::default())
    }

    fn replace(&self, programs: Programs) -> Result<()> {
        *self.programs.write().unwrap_or_else(PoisonError::into_inner) = programs;
        self.attach_hooks()
    }
}

/// A poisoned lock means that another thread panicked between two writes to maps; each write left
/// the maps consistent, so the state behind the lock is too.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
