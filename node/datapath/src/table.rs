//! A pinned map with the types of its keys and values.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    slice,
};

use aya::Pod;
use xebec_abi::{
    Addr4, Addr6, RangeKey,
    layout::{Layout, number, plain},
};

use crate::{
    error::{Error, Result},
    sys,
};

/// Of include/uapi/linux/bpf.h.
const HASH: u32 = 1;
const NO_PREALLOC: u32 = 1;

/// Entries per batch call: large enough that the syscall is free, small enough for a buffer.
const BATCH: usize = 4096;

/// A hash map (or array) whose layout was compared with `K` and `V` when it was opened.
#[derive(Debug)]
pub struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    limit: u32,
    entry: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub fn open(directory: &Path, name: &'static str) -> Result<Self> {
        Self::open_at(&directory.join(name), name)
    }

    /// From a pin of another name.
    pub fn open_at(path: &Path, name: &'static str) -> Result<Self> {
        let failed = |source| Error::Map { operation: "open", map: name, source };
        let fd = sys::open_pin(path).map_err(failed)?;
        let info = sys::map_info(fd.as_fd()).map_err(failed)?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(Error::Layout {
                map: name,
                key: info.key_size,
                value: info.value_size,
                expected_key: size_of::<K>(),
                expected_value: size_of::<V>(),
            });
        }
        Ok(Self { fd, name, limit: info.max_entries, entry: PhantomData })
    }

    /// A map like this one, of another size and without entries. It is nowhere pinned.
    pub fn empty(&self, size: u32) -> Result<Self> {
        let failed = |source| Error::Map { operation: "make a larger or smaller", map: self.name, source };
        let info = sys::map_info(self.fd.as_fd()).map_err(failed)?;
        let fd = sys::map_create(self.name, &sys::MapInfo { max_entries: size, ..info }).map_err(failed)?;
        Ok(Self { fd, name: self.name, limit: size, entry: PhantomData })
    }

    /// A hash map of these types, nowhere pinned, whose memory grows with its entries.
    pub fn create(name: &'static str, size: u32) -> Result<Self> {
        let failed = |source| Error::Map { operation: "create", map: name, source };
        let info = sys::MapInfo {
            kind: HASH,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries: size,
            map_flags: NO_PREALLOC,
            id: 0,
        };
        let fd = sys::map_create(name, &info).map_err(failed)?;
        Ok(Self { fd, name, limit: size, entry: PhantomData })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn pin(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::Pin { operation: "pin", path: path.to_owned(), source };
        sys::pin(self.fd.as_fd(), path).map_err(failed)
    }

    /// Puts this map in the place of the one that is pinned by its name. Who opens the pin finds one or the other.
    pub fn replace_pin(&self, directory: &Path) -> Result<()> {
        // bpffs reserves dots in names.
        let (path, staged) = (directory.join(self.name), directory.join(format!("{}_new", self.name)));
        self.pin(&staged)?;
        fs::rename(&staged, &path).map_err(|source| Error::Pin { operation: "replace", path, source })
    }

    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut value = sys::zeroed::<V>();
        let found =
            sys::lookup(self.fd.as_fd(), sys::bytes(slice::from_ref(key)), sys::bytes_mut(slice::from_mut(&mut value)))
                .map_err(|source| self.failed("look up in", source))?;
        Ok(found.then_some(value))
    }

    /// Adds or replaces; a replaced value is read whole, before or after, never mixed.
    pub fn put(&self, key: &K, value: &V) -> Result<()> {
        sys::update(self.fd.as_fd(), sys::bytes(slice::from_ref(key)), sys::bytes(slice::from_ref(value)))
            .map_err(|source| self.failed("write", source))
    }

    /// False if there was no such key.
    pub fn remove(&self, key: &K) -> Result<bool> {
        sys::delete(self.fd.as_fd(), sys::bytes(slice::from_ref(key)))
            .map_err(|source| self.failed("delete from", source))
    }

    /// Adds or replaces many entries, with one call for thousands.
    pub fn put_all(&self, keys: &[K], values: &[V]) -> Result<()> {
        assert_eq!(keys.len(), values.len(), "a value for every key");
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            let count = keys.len() as u32;
            match sys::update_batch(self.fd.as_fd(), sys::bytes(keys), sys::bytes(values), count) {
                Ok(()) => {}
                // Kernels before 5.6 have no batches, and LPM tries none before 5.16.
                Err((_, error)) if unsupported(&error) => {
                    for (key, value) in keys.iter().zip(values) {
                        self.put(key, value)?;
                    }
                }
                Err((_, source)) => return Err(self.failed("write", source)),
            }
        }
        Ok(())
    }

    /// Deletes many keys; those that are not there are passed over.
    pub fn remove_all(&self, keys: &[K]) -> Result<()> {
        for chunk in keys.chunks(BATCH) {
            let mut rest = chunk;
            while !rest.is_empty() {
                match sys::delete_batch(self.fd.as_fd(), sys::bytes(rest), rest.len() as u32) {
                    Ok(()) => break,
                    Err((done, error)) if error.raw_os_error() == Some(libc::ENOENT) => {
                        rest = &rest[(done as usize + 1).min(rest.len())..];
                    }
                    Err((_, error)) if unsupported(&error) => {
                        for key in rest {
                            self.remove(key)?;
                        }
                        break;
                    }
                    Err((_, source)) => return Err(self.failed("delete from", source)),
                }
            }
        }
        Ok(())
    }

    /// Every entry. Entries that come and go meanwhile may or may not be among them.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        match self.entries_by_batch(BATCH) {
            Err(Error::Map { source, .. }) if unsupported(&source) => self.entries_by_key(),
            entries => entries,
        }
    }

    /// Makes the map hold exactly `desired`; returns the keys that were missing, different or too much.
    pub fn restore(&self, desired: &HashMap<K, V>) -> Result<Vec<K>>
    where
        K: Eq + Hash,
        V: PartialEq,
    {
        let actual: HashMap<K, V> = self.entries()?.into_iter().collect();
        let wrong: HashMap<K, V> =
            desired.iter().filter(|(k, v)| actual.get(k) != Some(v)).map(|(k, v)| (*k, *v)).collect();
        let extra: Vec<K> = actual.into_keys().filter(|key| !desired.contains_key(key)).collect();
        for (key, value) in &wrong {
            self.put(key, value)?;
        }
        self.remove_all(&extra)?;
        Ok(wrong.into_keys().chain(extra).collect())
    }

    /// How many entries fit.
    pub fn limit(&self) -> u64 {
        u64::from(self.limit)
    }

    /// How many entries there are, and how many fit.
    pub fn fill(&self) -> Result<(u64, u64)> {
        Ok((self.entries()?.len() as u64, u64::from(self.limit)))
    }

    fn entries_by_batch(&self, mut size: usize) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut cursor = None;
        loop {
            let mut keys = vec![sys::zeroed::<K>(); size];
            let mut values = vec![sys::zeroed::<V>(); size];
            let before = cursor;
            match sys::lookup_batch(
                self.fd.as_fd(),
                &mut cursor,
                sys::bytes_mut(&mut keys),
                sys::bytes_mut(&mut values),
                size as u32,
            ) {
                Ok((count, more)) => {
                    entries.extend(keys.into_iter().zip(values).take(count as usize));
                    if !more {
                        return Ok(entries);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    cursor = before;
                    size *= 2;
                }
                Err(source) => return Err(self.failed("read", source)),
            }
        }
    }

    fn entries_by_key(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        for key in self.keys()? {
            entries.extend(self.get(&key)?.map(|value| (key, value)));
        }
        Ok(entries)
    }

    fn keys(&self) -> Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        loop {
            let mut next = sys::zeroed::<K>();
            let previous = keys.last().map(|key| sys::bytes(slice::from_ref(key)));
            let found = sys::next_key(self.fd.as_fd(), previous, sys::bytes_mut(slice::from_mut(&mut next)))
                .map_err(|source| self.failed("read", source))?;
            if !found {
                return Ok(keys);
            }
            keys.push(next);
        }
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        // A hash map that is full says E2BIG (kernel/bpf/hashtab.c), an LPM trie ENOSPC.
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) if operation == "write" => {
                Error::Full { map: self.name, limit: self.limit }
            }
            _ => Error::Map { operation, map: self.name, source },
        }
    }
}

/// A per-CPU array.
#[derive(Debug)]
pub struct PerCpu<V> {
    table: Table<u32, V>,
    cpus: usize,
}

impl<V: Pod> PerCpu<V> {
    pub fn open(directory: &Path, name: &'static str) -> Result<Self> {
        let table = Table::open(directory, name)?;
        let cpus =
            aya::util::nr_cpus().map_err(|(_, source)| Error::Map { operation: "count CPUs of", map: name, source })?;
        assert_eq!(size_of::<V>() % 8, 0, "per-CPU values are spaced by eight bytes");
        Ok(Self { table, cpus })
    }

    /// The value of every possible CPU.
    pub fn get(&self, index: u32) -> Result<Vec<V>> {
        let mut values = vec![sys::zeroed::<V>(); self.cpus];
        let key = sys::bytes(slice::from_ref(&index));
        let found = sys::lookup(self.table.fd.as_fd(), key, sys::bytes_mut(&mut values))
            .map_err(|source| self.table.failed("look up in", source))?;
        Ok(if found { values } else { Vec::new() })
    }
}

/// The entries of any map that can be listed, as bytes: keys and values, one after the other.
pub fn bytes_of(map: BorrowedFd<'_>, info: &sys::MapInfo) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (key, value) = (info.key_size as usize, info.value_size as usize);
    let (mut keys, mut values, mut cursor, mut size) = (Vec::new(), Vec::new(), None, BATCH);
    loop {
        let (mut some_keys, mut some_values) = (vec![0; key * size], vec![0; value * size]);
        let before = cursor;
        match sys::lookup_batch(map, &mut cursor, &mut some_keys, &mut some_values, size as u32) {
            Ok((count, more)) => {
                keys.extend_from_slice(&some_keys[..key * count as usize]);
                values.extend_from_slice(&some_values[..value * count as usize]);
                if !more {
                    return Ok((keys, values));
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                cursor = before;
                size *= 2;
            }
            Err(error) if unsupported(&error) => return bytes_by_key(map, key, value),
            Err(error) => return Err(error),
        }
    }
}

fn bytes_by_key(map: BorrowedFd<'_>, key: usize, value: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut listed: Vec<u8> = Vec::new();
    loop {
        let mut next = vec![0; key];
        let previous = listed.len().checked_sub(key).map(|last| &listed[last..]);
        if !sys::next_key(map, previous, &mut next)? {
            break;
        }
        listed.extend(next);
    }
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for one in listed.chunks_exact(key) {
        let mut found = vec![0; value];
        if sys::lookup(map, one, &mut found)? {
            keys.extend_from_slice(one);
            values.extend(found);
        }
    }
    Ok((keys, values))
}

/// EINVAL is what kernels without a command answer, ENOTSUPP (524) what maps without it do.
fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | 524))
}

/// Key of an LPM trie (`struct bpf_lpm_trie_key`): the length in host order, then bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct TrieKey<K> {
    pub prefix_len: u32,
    pub data: K,
}

// SAFETY: keys are bytes without padding; of those, whole words keep the alignment of the length, which is asserted.
unsafe impl<K: Pod> Pod for TrieKey<K> {}
impl<K: Layout> Layout for TrieKey<K> {
    const FINGERPRINT: u64 = number(plain("trie", size_of::<Self>()), K::FINGERPRINT);
}
const _: () =
    assert!(size_of::<TrieKey<RangeKey<Addr6>>>() == 4 + 20 && size_of::<TrieKey<RangeKey<Addr4>>>() == 4 + 8);
const _: () = assert!(size_of::<TrieKey<Addr6>>() == 4 + 16 && size_of::<TrieKey<Addr4>>() == 4 + 4);
