use super::{Node, Uid};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;

/// Nodes by their uid, which is not held a second time as a key.
#[derive(Default)]
pub struct Nodes {
    // A table has up to twice the room that it needs.
    table: HashTable<Box<Node>>,
    hasher: RandomState,
}

impl Nodes {
    pub fn get(&self, uid: &Uid) -> Option<&Node> {
        self.table.find(self.hasher.hash_one(uid), is(uid)).map(|node| &**node)
    }

    pub fn get_mut(&mut self, uid: &Uid) -> Option<&mut Node> {
        self.table.find_mut(self.hasher.hash_one(uid), is(uid)).map(|node| &mut **node)
    }

    /// The node with the new one's uid, which is the new one if there was none.
    pub fn get_or_insert(&mut self, new: Node) -> &mut Node {
        let uid = &new.identity.uid;
        let hash = self.hasher.hash_one(uid);
        let entry = self.table.entry(hash, is(uid), |node| self.hasher.hash_one(&node.identity.uid));
        entry.or_insert_with(|| Box::new(new)).into_mut()
    }

    pub fn remove(&mut self, uid: &Uid) -> Option<Box<Node>> {
        Some(self.table.find_entry(self.hasher.hash_one(uid), is(uid)).ok()?.remove().0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.table.iter().map(|node| &**node)
    }
}

fn is<N: Deref<Target = Node>>(uid: &Uid) -> impl Fn(&N) -> bool {
    move |node| node.identity.uid == *uid
}
