//! Programs and map entries that others took away or changed are put back.

use std::fmt;

use crate::{
    Datapath, Result,
    hook::{Hook, interface},
    link, lock, xdp,
};

/// Something that was not as this process had left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drift {
    pub kind: DriftKind,
    /// The program with its place, the map with its entry.
    pub object: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DriftKind {
    /// It was not attached, or another one was in its link.
    Program,
    MapEntry,
    /// A map's file in the bpf filesystem, without which the next agent would start empty.
    Pin,
}

impl DriftKind {
    /// For metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::MapEntry => "map_entry",
            Self::Pin => "pin",
        }
    }
}

impl Drift {
    pub(crate) fn new(kind: DriftKind, object: impl fmt::Display) -> Self {
        Self { kind, object: object.to_string() }
    }
}

impl Datapath {
    /// Brings programs, pins and what pods and load balancers have in the maps back in line; returns what was not.
    ///
    /// Services' frontends and backends, the pods of other nodes and announced addresses are compared by those who know
    /// what they should be: [`Datapath::frontends`], [`Datapath::remotes`], [`Datapath::announced`]. Call it in the
    /// node's network namespace.
    pub fn repair(&self) -> Result<Vec<Drift>> {
        let _turn = lock(&self.attaching);
        let mut found = self.programs().repair_pins(&self.directory)?;
        {
            // Held throughout: a pod that is being detached is not a pod that lost its programs.
            let pods = lock(&self.pods);
            found.extend(pods.repair()?);
            for ifindex in pods.devices() {
                found.extend(self.repair_device(Hook::POD, ifindex)?);
            }
        }
        if let Some(ifindex) = self.config.tunnel() {
            found.extend(self.repair_device(Hook::OVERLAY, ifindex)?);
        }
        for ifindex in &self.config.uplinks {
            found.extend(self.repair_device(Hook::NETDEV, *ifindex)?);
        }
        found.extend(self.repair_cgroups()?);
        found.extend(xdp::repair(&mut lock(&self.xdp), self.programs().xdp(), &self.directory.join(link::DIRECTORY)));
        found.extend(lock(&self.services).repair()?);
        Ok(found)
    }

    /// A device that is gone is for its owner to bring back.
    fn repair_device(&self, hooks: [Hook; 4], ifindex: u32) -> Result<Vec<Drift>> {
        let mut found = Vec::new();
        for hook in self.wanted(hooks) {
            let Ok(name) = interface(ifindex) else { break };
            match self.attach_device(hook, ifindex) {
                Ok(true) => found.push(detached(hook, &name)),
                Ok(false) => {}
                Err(_) if interface(ifindex).is_err() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn repair_cgroups(&self) -> Result<Vec<Drift>> {
        let mut found = Vec::new();
        for (name, path) in crate::hook::cgroups(&self.config) {
            for hook in Hook::SOCKET {
                if self.attach_cgroup(hook, name, path)? {
                    found.push(detached(hook, &path.display()));
                }
            }
        }
        Ok(found)
    }
}

fn detached(hook: Hook, place: &dyn fmt::Display) -> Drift {
    Drift::new(DriftKind::Program, format_args!("{} at {place}", hook.program()))
}
