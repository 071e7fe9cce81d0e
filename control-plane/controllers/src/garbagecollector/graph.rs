//! Who owns whom, by uid.
//!
//! An owner that is named but was never seen is a virtual node: it is asked for before anything is
//! concluded from its absence.
//!
//! Every object of the cluster is here and few own anything, so an object without dependents is small.

mod nodes;
mod uid;

use nodes::Nodes;
use std::collections::BTreeSet;
use std::sync::Arc;
pub use uid::Uid;
use xebec_types::{ObjectMeta, OwnerReference, finalizer, object};

/// `apiVersion/Kind`, without the version, so that a reference by another version of the group is the same.
#[derive(PartialEq, Eq, Debug)]
pub struct Kind {
    pub group: Box<str>,
    pub name: Box<str>,
}

/// Which object, and where it lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub kind: Arc<Kind>,
    pub uid: Uid,
    /// `namespace/name`, in one allocation.
    path: Box<str>,
}

impl Identity {
    pub fn new(kind: Arc<Kind>, uid: Uid, namespace: &str, name: &str) -> Self {
        Self { kind, uid, path: format!("{namespace}/{name}").into() }
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.path.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.path.split_once('/').map_or("", |(_, name)| name)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub identity: Identity,
    pub blocks: bool,
}

#[derive(Debug)]
pub struct Node {
    pub identity: Identity,
    pub owners: Box<[Owner]>,
    pub dependents: BTreeSet<Uid>,
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
    nodes: Nodes,
}

impl Graph {
    pub fn get(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// What was observed of a kind.
    pub fn of_kind(&self, kind: &Kind) -> impl Iterator<Item = &Uid> {
        let nodes = self.nodes.iter().filter(move |node| !node.is_virtual && *node.identity.kind == *kind);
        nodes.map(|node| &node.identity.uid)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.iter().count()
    }

    /// An object as it is.
    pub fn observe(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let uid = identity.uid.clone();
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
                self.nodes.get_or_insert(Node {
                    identity,
                    owners: owners.clone(),
                    dependents: BTreeSet::new(),
                    deleting,
                    deleting_dependents: foreground,
                    is_virtual: false,
                });
                (Box::default(), false)
            }
        };
        self.relink(&uid, &before, &owners, &mut work);
        if orphans {
            work.push(Work::Orphan(uid.clone()));
        }
        if foreground && !was_foreground {
            let dependents = self.nodes.get(&uid).map(|n| n.dependents.clone());
            work.extend(dependents.into_iter().flatten().map(Work::Delete));
            work.push(Work::Delete(uid));
        }
        work
    }

    /// An object that is gone.
    pub fn remove(&mut self, uid: &Uid) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        for owner in &node.owners {
            self.unlink(uid, &owner.identity.uid, &mut work);
        }
        if !node.dependents.is_empty() {
            // Its dependents still name it; they find out that it is absent.
            let absent =
                Node { owners: Box::default(), deleting: true, deleting_dependents: false, is_virtual: true, ..*node };
            self.nodes.get_or_insert(absent);
        }
        work
    }

    /// The dependents of owners of this kind that are known from references alone: they look whether the owner is there.
    pub fn unseen(&self, kind: &Kind) -> Vec<Work> {
        let unseen = self.nodes.iter().filter(|node| node.is_virtual && *node.identity.kind == *kind);
        let dependents = unseen.flat_map(|node| &node.dependents);
        dependents.cloned().map(Work::Delete).collect()
    }

    fn relink(&mut self, uid: &Uid, before: &[Owner], after: &[Owner], work: &mut Vec<Work>) {
        for owner in after {
            let node = self.nodes.get_or_insert(Node {
                identity: owner.identity.clone(),
                owners: Box::default(),
                dependents: BTreeSet::new(),
                deleting: false,
                deleting_dependents: false,
                is_virtual: true,
            });
            let is_new = node.dependents.insert(uid.clone());
            // An absent owner, or one that takes its dependents along, concerns a new dependent.
            if is_new && (node.is_virtual || node.deleting_dependents) {
                work.push(Work::Delete(uid.clone()));
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

    fn unlink(&mut self, uid: &Uid, owner: &Uid, work: &mut Vec<Work>) {
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
            work.push(Work::Delete(owner.clone()));
        }
    }
}

impl Node {
    /// Whether this object keeps `owner` from going before it.
    pub fn blocks(&self, owner: &Uid) -> bool {
        self.owners.iter().any(|o| o.identity.uid == *owner && o.blocks)
    }
}

fn owners(dependent: &Identity, meta: &ObjectMeta) -> Box<[Owner]> {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    references.iter().map(|reference| owner(dependent, reference)).collect()
}

pub fn owner(dependent: &Identity, reference: &OwnerReference) -> Owner {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = Arc::new(Kind { group: group.into(), name: reference.kind.as_str().into() });
    // Whoever looks the owner up drops the namespace if the owner's kind has none.
    let identity = Identity::new(kind, reference.uid.as_str().into(), dependent.namespace(), &reference.name);
    Owner { identity, blocks: reference.block_owner_deletion == Some(true) }
}

#[cfg(test)]
mod tests;
