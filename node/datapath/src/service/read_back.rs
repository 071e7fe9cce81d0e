//! What is programmed, read from the kernel.

use std::{collections::HashMap, time::Duration};

use xebec_abi::{Backend as Value, BackendKey, FrontendKey as Key, FrontendValue, lb::backend_flag};

use super::{
    Backend, Frontend, FrontendKey, Programmed, closed,
    store::{Store, slots},
};
use crate::{Result, family::Family};

impl<A: Family> Store<A> {
    pub fn read_back(&self) -> Result<Vec<Programmed>> {
        let backends: HashMap<_, _> = self.backends.entries()?.into_iter().collect();
        let frontends = self.frontends.entries()?;
        let served = frontends.iter().filter(|(key, _)| !closed::is_address(key));
        Ok(served.map(|(key, value)| self.programmed(key, value, &backends)).collect())
    }

    fn programmed(&self, key: &Key<A>, value: &FrontendValue, backends: &HashMap<BackendKey, Value<A>>) -> Programmed {
        let backend = |backend: &Value<A>| Backend {
            addr: backend.addr.ip(),
            port: backend.port.get(),
            local: backend.flags & backend_flag::LOCAL != 0,
            terminating: backend.flags & backend_flag::TERMINATING != 0,
        };
        Programmed {
            frontend: Frontend {
                key: FrontendKey { addr: key.addr.ip(), port: key.port.get(), proto: key.proto, scope: key.scope },
                flags: value.flags,
            },
            service: value.service,
            affinity: (value.affinity_s != 0).then(|| Duration::from_secs(u64::from(value.affinity_s))),
            source_ranges: self.ranges.of(value.service),
            backends: slots(value).filter_map(|slot| backends.get(&slot)).map(backend).collect(),
        }
    }
}
