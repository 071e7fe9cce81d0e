//! Kernels before 6.6 have no TCX: programs attach as filters of the clsact qdisc, which stay when the agent goes, and
//! are replaced in place.

use std::{collections::BTreeSet, path::Path};

use aya::{
    Ebpf,
    programs::{
        Link, Program, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
    },
};

use crate::{
    error::{Error, Result},
    hook::Hook,
    record::Record,
    sys::AttachType,
};

/// Ours among the filters of a device: "xb", and the next for IPv6.
const PRIORITY: u16 = 0x7862;
const HANDLE: TcHandle = TcHandle::new(0, 1);
/// The uplinks (by index) that have the qdisc because of this node: the qdisc does not tell, and the node's own devices
/// take it with them.
const RECORD: &str = "xb_clsact";

/// What attaches.
#[derive(Debug)]
pub struct Clsact {
    pub ebpf: Ebpf,
    made: Record,
}

impl Clsact {
    /// `directory` is the node's own in the bpf filesystem.
    pub fn new(ebpf: Ebpf, directory: &Path) -> Result<Self> {
        Ok(Self { ebpf, made: Record::ensure(directory, RECORD)? })
    }
}

/// Puts the hook's program on a device, in place of the one that an earlier agent put there; false if there was one.
pub fn attach(clsact: &mut Clsact, hook: Hook, device: &str, ifindex: u32) -> Result<bool> {
    let program = hook.program();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Link {
        operation: "attach",
        program,
        target: device.to_owned(),
        source: std::io::Error::other(source),
    };
    // An error: it is there from an earlier attachment, or its absence makes the next step fail.
    if qdisc_add_clsact(device).is_ok() && Hook::NETDEV.contains(&hook) {
        clsact.made.add(ifindex)?;
    }
    let Some(Program::SchedClassifier(classifier)) = clsact.ebpf.program_mut(program) else {
        return Err(Error::NoProgram { program });
    };
    if replace(classifier, hook, device) {
        return Ok(false);
    }
    let options = NlOptions { priority: priority(hook), handle: HANDLE, classid: None };
    let id = classifier
        .attach_with_options(device, direction(hook), TcAttachOptions::Netlink(options))
        .map_err(|source| failed(Box::new(source)))?;
    // A link that is dropped detaches; this one must outlive us.
    std::mem::forget(classifier.take_link(id).map_err(|source| failed(Box::new(source)))?);
    Ok(true)
}

/// False if there is no filter of ours.
fn replace(classifier: &mut SchedClassifier, hook: Hook, device: &str) -> bool {
    let Ok(link) = existing(hook, device) else { return false };
    let Ok(id) = classifier.attach_to_link(link) else { return false };
    if let Ok(link) = classifier.take_link(id) {
        std::mem::forget(link);
    }
    true
}

/// Takes the hook's filter off a device. False if there was none.
pub fn detach(hook: Hook, device: &str) -> bool {
    existing(hook, device).is_ok_and(|link| link.detach().is_ok())
}

fn existing(hook: Hook, device: &str) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, direction(hook), priority(hook), HANDLE, None)
}

fn priority(hook: Hook) -> u16 {
    PRIORITY + u16::from(hook.is_device6())
}

fn direction(hook: Hook) -> TcAttachType {
    match hook.attach_type() {
        AttachType::TcxEgress => TcAttachType::Egress,
        _ => TcAttachType::Ingress,
    }
}

/// Takes our filters off every device of this network namespace, and says which those were.
pub fn detach_all() -> Vec<String> {
    let mut detached = Vec::new();
    for interface in nix::net::if_::if_nameindex().iter().flatten() {
        let device = interface.name().to_string_lossy();
        // Those of one kind of device: filters are found by direction and priority.
        for hook in Hook::POD.into_iter().filter(|hook| detach(*hook, &device)) {
            let direction = if direction(hook) == TcAttachType::Egress { "egress" } else { "ingress" };
            detached.push(format!("{device} {direction}{}", if hook.is_device6() { " (IPv6)" } else { "" }));
        }
    }
    detached
}

/// The uplinks that have the qdisc because of a node.
pub fn made(directory: &Path) -> Result<Vec<u32>> {
    let record = Record::open(directory, RECORD)?;
    let members = record.map_or_else(|| Ok(BTreeSet::new()), |record| record.members())?;
    Ok(members.into_iter().collect())
}
