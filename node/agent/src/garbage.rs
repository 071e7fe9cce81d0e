//! Addresses and devices of pods that the runtime has forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xebec_client::chain;
use xebec_cri::RuntimeClient;
use xebec_podnet::PodNetwork;

/// Longer than a sandbox takes to be made: containerd lists one only when its network is there.
const PERIOD: Duration = Duration::from_secs(60);

/// Looks at once and then every period, for ever.
pub async fn collect(runtime: RuntimeClient, network: Arc<PodNetwork>) {
    let mut suspects = Suspects::default();
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let listed_at = Instant::now();
        let listed = match runtime.list_pod_sandbox(HashMap::new()).await {
            Ok(sandboxes) => sandboxes.into_iter().map(|sandbox| sandbox.id).collect(),
            Err(error) => {
                tracing::warn!(error = error.message(), "list sandboxes for the collection of addresses");
                continue;
            }
        };
        let known = network.records().into_iter().map(|record| record.container).collect();
        match network.collect_garbage(&suspects.living(known, &listed), listed_at).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "networks of pods that are gone removed"),
            Err(error) => tracing::warn!(error = chain(&error), "collect addresses"),
        }
    }
}

/// What was missing in the last list: only what is missing twice is gone. A sandbox that is being made has an address
/// before it is listed, and so it is after a restart of this process in between.
#[derive(Default)]
struct Suspects(HashSet<String>);

impl Suspects {
    fn living(&mut self, known: HashSet<String>, listed: &HashSet<String>) -> HashSet<String> {
        let missing: HashSet<_> = known.difference(listed).cloned().collect();
        let before = std::mem::replace(&mut self.0, missing);
        known.into_iter().filter(|container| !(before.contains(container) && self.0.contains(container))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> HashSet<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_pod_is_gone_when_two_lists_in_a_row_lack_it() {
        let mut suspects = Suspects::default();
        let mut check = |known: &str, listed: &str, living: &str| {
            assert_eq!(suspects.living(set(known), &set(listed)), set(living), "{known} of which {listed} are listed");
        };
        check("a starting gone", "a", "a starting gone");
        check("a starting gone", "a starting", "a starting");
        check("a starting", "a", "a starting");
        check("a starting", "a starting", "a starting");
        check("a starting", "", "a starting");
        check("a starting", "", "");
    }
}
