//! Who owns whom, by uid.
//!
//! An owner that is named but was never seen is a virtual node: it is asked for before anything is
//! concluded from its absence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use xebec_types::{ObjectMeta, OwnerReference, finalizer, object};

pub type Uid = Arc<str>;

/// Where an object lives. `kind` is `apiVersion/Kind`, without the version, so that a reference by
/// another version of the group is the same.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    pub group: Arc<str>,
    pub kind: Arc<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Uid,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub identity: Identity,
    pub blocks: bool,
}

#[derive(Debug)]
pub struct Node {
    pub identity: Identity,
    pub owners: Vec<Owner>,
    pub dependents: HashSet<Uid>,
    /// Being deleted.
    pub deleting: bool,
    /// Being deleted in the foreground: dependents go first.
    pub deleting_dependents: bool,
    /// Known from references alone.
    pub is_virtual: bool,
}

/// What has to be looked at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    Delete(Uid),
    Orphan(Uid),
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }

    /// An object as it is.
    pub fn observe(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let uid = Arc::clone(&identity.uid);
        let owners = owners(&identity, meta);
        let deleting = object::is_being_deleted(meta);
        let foreground = deleting && object::has_finalizer(meta, finalizer::FOREGROUND_DELETION);
        let orphans = deleting && object::has_finalizer(meta, finalizer::ORPHAN);
        let mut work = Vec::new();
        let (before, was_foreground) = match self.nodes.get_mut(&uid) {
            Some(node) => {
                node.is_virtual = false;
                node.identity = identity;
                node.deleting = deleting;
                let was = std::mem::replace(&mut node.deleting_dependents, foreground);
                (std::mem::replace(&mut node.owners, owners.clone()), was)
            }
            None => {
                let node = Node {
                    identity,
                    owners: owners.clone(),
                    dependents: HashSet::new(),
                    deleting,
                    deleting_dependents: foreground,
                    is_virtual: false,
                };
                self.nodes.insert(Arc::clone(&uid), node);
                (Vec::new(), false)
            }
        };
        self.relink(&uid, &before, &owners, &mut work);
        if orphans {
            work.push(Work::Orphan(Arc::clone(&uid)));
        }
        if foreground && !was_foreground {
            let dependents = self.nodes.get(&uid).map(|n| n.dependents.clone());
            work.extend(dependents.into_iter().flatten().map(Work::Delete));
            work.push(Work::Delete(uid));
        }
        work
    }

    /// An object that is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        for owner in &node.owners {
            self.unlink(uid, &owner.identity.uid, &mut work);
        }
        if !node.dependents.is_empty() {
            // Its dependents still name it; they find out that it is absent.
            let absent =
                Node { owners: Vec::new(), deleting: true, deleting_dependents: false, is_virtual: true, ..node };
            self.nodes.insert(Arc::clone(&absent.identity.uid), absent);
        }
        work
    }

    /// The dependents of owners of this kind that are known from references alone: they look whether the owner is there.
    pub fn unseen(&self, group: &str, kind: &str) -> Vec<Work> {
        let of_kind = |node: &&Node| node.is_virtual && &*node.identity.group == group && &*node.identity.kind == kind;
        let dependents = self.nodes.values().filter(of_kind).flat_map(|node| &node.dependents);
        dependents.cloned().map(Work::Delete).collect()
    }

    fn relink(&mut self, uid: &Uid, before: &[Owner], after: &[Owner], work: &mut Vec<Work>) {
        for owner in after {
            let owner_uid = &owner.identity.uid;
            let known = self.nodes.contains_key(owner_uid);
            let node = self.nodes.entry(Arc::clone(owner_uid)).or_insert_with(|| Node {
                identity: owner.identity.clone(),
                owners: Vec::new(),
                dependents: HashSet::new(),
                deleting: false,
                deleting_dependents: false,
                is_virtual: true,
            });
            let is_new = node.dependents.insert(Arc::clone(uid));
            // An absent owner, or one that takes its dependents along, concerns a new dependent.
            if is_new && (!known || node.is_virtual || node.deleting_dependents) {
                work.push(Work::Delete(Arc::clone(uid)));
            }
        }
        for owner in before {
            let owner_uid = &owner.identity.uid;
            let now = after.iter().find(|o| o.identity.uid == *owner_uid);
            match now {
                None => self.unlink(uid, owner_uid, work),
                Some(now) if owner.blocks && !now.blocks => self.wake(owner_uid, work),
                Some(_) => {}
            }
        }
    }

    fn unlink(&mut self, uid: &str, owner: &Uid, work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(uid);
        if node.is_virtual && node.dependents.is_empty() {
            self.nodes.remove(owner);
            return;
        }
        self.wake(owner, work);
    }

    /// An owner that waits for its dependents looks again.
    fn wake(&self, owner: &Uid, work: &mut Vec<Work>) {
        if self.nodes.get(owner).is_some_and(|n| n.deleting_dependents) {
            work.push(Work::Delete(Arc::clone(owner)));
        }
    }
}

impl Node {
    /// Whether this object keeps `owner` from going before it.
    pub fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|o| &*o.identity.uid == owner && o.blocks)
    }
}

fn owners(dependent: &Identity, meta: &ObjectMeta) -> Vec<Owner> {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    references.iter().map(|reference| owner(dependent, reference)).collect()
}

pub fn owner(dependent: &Identity, reference: &OwnerReference) -> Owner {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    Owner {
        identity: Identity {
            group: group.into(),
            kind: reference.kind.as_str().into(),
            // Whoever looks the owner up drops this if its kind has no namespace.
            namespace: dependent.namespace.clone(),
            name: reference.name.as_str().into(),
            uid: reference.uid.as_str().into(),
        },
        blocks: reference.block_owner_deletion == Some(true),
    }
}

#[cfg(test)]
mod tests;
