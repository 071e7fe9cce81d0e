//! Ids of services: of both families, so that what is counted by id is counted once.

use std::collections::HashSet;

use xebec_abi::ServiceId;

#[derive(Debug)]
pub struct Ids {
    next: u32,
    used: HashSet<ServiceId>,
}

impl Default for Ids {
    fn default() -> Self {
        Self { next: 1, used: HashSet::new() }
    }
}

impl Ids {
    pub fn allocate(&mut self) -> ServiceId {
        loop {
            let id = ServiceId(self.next);
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !self.used.contains(&id) {
                return id;
            }
        }
    }

    /// An id that is in the maps.
    pub fn adopt(&mut self, id: ServiceId) {
        self.used.insert(id);
        self.next = self.next.max(id.0.checked_add(1).unwrap_or(1));
    }

    pub fn note(&mut self, id: ServiceId) {
        self.used.insert(id);
    }

    pub fn knows(&self, id: ServiceId) -> bool {
        self.used.contains(&id)
    }

    pub fn release(&mut self, id: ServiceId) {
        self.used.remove(&id);
    }
}
