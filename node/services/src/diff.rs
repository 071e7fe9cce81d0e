//! From what is programmed to what should be.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Change, FrontendKey, Programmed, ServicePort};

/// The changes that turn `actual` into `desired`; nothing when they agree.
///
/// Where two service ports claim one frontend, the first in `desired` has it.
pub fn diff(actual: &BTreeMap<FrontendKey, Programmed>, desired: &[ServicePort]) -> Vec<Change> {
    let mut claimed = BTreeSet::new();
    let mut changes = Vec::new();
    for port in desired {
        let mut port = port.clone();
        port.frontends.retain(|frontend| claimed.insert(frontend.key));
        let differs = port.programmed().any(|(key, wanted)| actual.get(&key) != Some(&wanted));
        if differs {
            changes.push(Change::Put(port));
        }
    }
    changes.extend(actual.keys().filter(|key| !claimed.contains(key)).map(|key| Change::Remove(*key)));
    changes
}
