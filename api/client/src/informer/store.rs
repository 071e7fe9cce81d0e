//! The objects of one kind by namespace and name, and by index.

use super::{Change, Handler, Key, Object};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use xebec_types::object;

pub(crate) struct Store<K> {
    namespaces: BTreeMap<Box<str>, BTreeMap<Box<str>, Arc<K>>>,
    indexes: Vec<Index<K>>,
    len: usize,
    pub(crate) handlers: Vec<Arc<Handler<K>>>,
}

type Values<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    name: &'static str,
    values: Values<K>,
    keys: HashMap<Box<str>, BTreeSet<Key>>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { namespaces: BTreeMap::new(), indexes: Vec::new(), len: 0, handlers: Vec::new() }
    }
}

impl<K: Object> Store<K> {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.namespaces.get(namespace)?.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn by_index(&self, name: &str, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let index = self.indexes.iter().find(|i| i.name == name);
        debug_assert!(index.is_some(), "no index {name}");
        let keys = index.and_then(|i| i.keys.get(value)).into_iter().flatten();
        keys.filter_map(|key| self.get(&key.namespace, &key.name))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn add_index(&mut self, name: &'static str, values: Values<K>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, values, keys: HashMap::new() };
        self.iter().for_each(|object| index.insert(object));
        self.indexes.push(index);
    }

    pub(crate) fn insert(&mut self, new: K) -> Change<K> {
        let new = Arc::new(new);
        let meta = new.meta();
        let objects = match self.namespaces.get_mut(object::namespace(meta)) {
            Some(objects) => objects,
            None => self.namespaces.entry(object::namespace(meta).into()).or_default(),
        };
        let old = objects.insert(object::name(meta).into(), Arc::clone(&new));
        self.len += usize::from(old.is_none());
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(old);
            }
            index.insert(&new);
        }
        Change { old, new: Some(new) }
    }

    pub(crate) fn remove(&mut self, gone: &K) -> Option<Change<K>> {
        self.remove_key(&Key::of(gone.meta()))
    }

    /// Makes `objects` the whole content; the changes are what differs.
    pub(crate) fn replace(&mut self, objects: Vec<K>) -> Vec<Change<K>> {
        let kept: BTreeSet<Key> = objects.iter().map(|o| Key::of(o.meta())).collect();
        let present = self.iter().map(|o| Key::of(o.meta()));
        let gone: Vec<Key> = present.filter(|key| !kept.contains(key)).collect();
        let mut changes: Vec<_> = gone.iter().filter_map(|key| self.remove_key(key)).collect();
        for object in objects {
            let meta = object.meta();
            let known = self.get(object::namespace(meta), object::name(meta));
            if known.is_none_or(|k| k.meta().resource_version != meta.resource_version) {
                changes.push(self.insert(object));
            }
        }
        changes
    }

    fn remove_key(&mut self, key: &Key) -> Option<Change<K>> {
        let objects = self.namespaces.get_mut(&*key.namespace)?;
        let old = objects.remove(&*key.name)?;
        if objects.is_empty() {
            self.namespaces.remove(&*key.namespace);
        }
        self.len -= 1;
        for index in &mut self.indexes {
            index.remove(&old);
        }
        Some(Change { old: Some(old), new: None })
    }
}

impl<K: Object> Index<K> {
    fn insert(&mut self, object: &K) {
        for value in (self.values)(object) {
            self.keys.entry(value.into()).or_default().insert(Key::of(object.meta()));
        }
    }

    fn remove(&mut self, object: &K) {
        let key = Key::of(object.meta());
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(value.as_str()) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.keys.remove(value.as_str());
                }
            }
        }
    }
}
