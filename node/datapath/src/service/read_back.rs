//! What is programmed, read from the kernel.

use std::{collections::HashMap, time::Duration};

use xebec_abi::{
    Backend as Value, BackendKey, FrontendEntry, FrontendKey as Key, FrontendValue,
    lb::{backend_flag, frontend_flag},
    maglev,
};

use super::{
    Backend, Frontend, FrontendKey, Programmed, closed,
    store::{Store, slots},
};
use crate::{
    Result,
    family::Family,
    maglev::{Algorithm, TableSize, block_values, table},
};

impl<A: Family> Store<A> {
    pub fn read_back(&self) -> Result<Vec<Programmed>> {
        let backends: HashMap<_, _> = self.backends.entries()?.into_iter().collect();
        let frontends = self.frontends.entries()?;
        let mut whole = HashMap::new();
        let mut programmed = Vec::with_capacity(frontends.len());
        for (key, entry) in frontends.iter().filter(|(key, _)| !closed::is_address(key)) {
            let value = &entry.value;
            let mut frontend = self.programmed(key, entry, &backends);
            if let Algorithm::Maglev(size) = frontend.algorithm {
                // A service's frontends share a table.
                let table = (value.service, value.generation);
                let whole = match whole.get(&table) {
                    Some(whole) => *whole,
                    None => *whole.entry(table).or_insert(self.has_table(value, &frontend.backends, size)?),
                };
                if !whole {
                    frontend.algorithm = Algorithm::Random;
                }
            }
            programmed.push(frontend);
        }
        Ok(programmed)
    }

    /// Is the service's table what its backends make it? One that others took away or changed, or that was computed in
    /// another way, is none.
    fn has_table(&self, value: &FrontendValue, backends: &[Backend], size: TableSize) -> Result<bool> {
        for (key, block) in block_values(value.service, value.generation, &table(backends, size)) {
            if self.maglev.get(&key)? != Some(block) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn programmed(
        &self,
        key: &Key<A>,
        FrontendEntry { value, first }: &FrontendEntry<A>,
        backends: &HashMap<BackendKey, Value<A>>,
    ) -> Programmed {
        // One that the frontend's entry has otherwise is none.
        let has_first = value.flags & frontend_flag::FIRST != 0;
        let is_as_first = |(slot, backend): &(BackendKey, &Value<A>)| {
            !has_first || first.get(usize::from(slot.slot)).is_none_or(|first| first == *backend)
        };
        let backend = |backend: &Value<A>| Backend {
            addr: backend.addr.ip(),
            port: backend.port.get(),
            local: backend.flags & backend_flag::LOCAL != 0,
            terminating: backend.flags & backend_flag::TERMINATING != 0,
            weight: backend.weight,
        };
        Programmed {
            frontend: Frontend {
                key: FrontendKey { addr: key.addr.ip(), port: key.port.get(), proto: key.proto, scope: key.scope },
                flags: value.flags & !maglev::FLAGS & !frontend_flag::FIRST,
            },
            service: value.service,
            affinity: (value.affinity_s != 0).then(|| Duration::from_secs(u64::from(value.affinity_s))),
            source_ranges: self.ranges.of(value.service),
            algorithm: match maglev::size(value.flags).and_then(TableSize::new) {
                Some(size) => Algorithm::Maglev(size),
                None => Algorithm::Random,
            },
            backends: slots(value)
                .filter_map(|slot| Some((slot, backends.get(&slot)?)))
                .filter(is_as_first)
                .map(|(_, found)| backend(found))
                .collect(),
        }
    }
}
