//! Connected UDP sockets leave backends that are gone.
//!
//! A socket that was connected through a Service stays on its backend for life: nothing tells it that the backend
//! has ended. Once no EndpointSlice names an address any more, sockets of this node's pods and of the node itself
//! that are connected to it are closed, so that their clients connect again, to a backend that lives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use xebec_client::{Informers, Key, chain};
use xebec_netlink::Netns;
use xebec_podnet::PodNetwork;
use xebec_services::SliceVersion;
use xebec_types::discovery::EndpointSlice;

/// The longest wait for the datapath to have dropped the backend: a client must not be sent to it again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Follows the EndpointSlices for ever.
pub async fn follow(informers: Informers, network: Arc<PodNetwork>, mut applied: watch::Receiver<u64>) {
    let slices = informers.informer::<EndpointSlice>();
    let mut changes = slices.subscribe();
    let seen = SliceVersion::follow(&slices);
    let mut backends = Backends::default();
    loop {
        let keys = changes.changed().await;
        let version = seen.get();
        let dead = {
            let slices = slices.read();
            backends.update(keys.into_iter().map(|key| {
                let addresses = slices.get(&key.namespace, &key.name).map(|slice| udp_addresses(slice));
                (key, addresses.unwrap_or_default())
            }))
        };
        if dead.is_empty() {
            continue;
        }
        // Late is better than never, as it is for a datapath that is behind.
        let _ = tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= version)).await;
        let network = Arc::clone(&network);
        // Namespaces are entered by threads.
        let closed = tokio::task::spawn_blocking(move || close(&network, &dead)).await;
        match closed {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "UDP sockets closed whose backends are gone"),
            Err(error) => tracing::warn!(%error, "close UDP sockets"),
        }
    }
}

fn close(network: &PodNetwork, dead: &BTreeSet<SocketAddr>) -> usize {
    let pods = network.records().into_iter().map(|record| Netns::open(&record.netns));
    let mut count = 0;
    for netns in pods.chain([Netns::current()]) {
        // A namespace that cannot be opened is a pod that has just gone, and its sockets with it.
        let Ok(netns) = netns else { continue };
        match netns.destroy_udp(dead) {
            Ok(closed) => count += closed,
            Err(error) => tracing::warn!(error = chain(&error), "close UDP sockets"),
        }
    }
    count
}

/// Every UDP address that slices name.
#[derive(Default)]
struct Backends(BTreeMap<Key, BTreeSet<SocketAddr>>);

impl Backends {
    /// Notes what slices name now; the addresses that none names any more.
    fn update(&mut self, slices: impl Iterator<Item = (Key, BTreeSet<SocketAddr>)>) -> BTreeSet<SocketAddr> {
        let mut gone = BTreeSet::new();
        for (key, addresses) in slices {
            let before = self.0.remove(&key).unwrap_or_default();
            gone.extend(before.difference(&addresses));
            if !addresses.is_empty() {
                self.0.insert(key, addresses);
            }
        }
        gone.retain(|address| !self.0.values().any(|known| known.contains(address)));
        gone
    }
}

fn udp_addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter(|port| port.protocol.as_deref() == Some("UDP"));
    let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port.port?).ok()).collect();
    let ips = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let ips = ips.filter_map(|ip| ip.parse::<IpAddr>().ok());
    ips.flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn an_address_is_gone_when_no_slice_names_it() {
        let mut backends = Backends::default();
        let mut check = |slice: &str, named: &[&str], gone: &[&str]| {
            let update = [(Key::new("ns", slice), set(named))];
            assert_eq!(backends.update(update.into_iter()), set(gone), "{slice} names {named:?}");
        };
        check("a", &["10.0.0.1:53", "10.0.0.2:53"], &[]);
        check("b", &["10.0.0.1:53"], &[]);
        check("a", &["10.0.0.3:53"], &["10.0.0.2:53"]);
        check("b", &[], &["10.0.0.1:53"]);
        check("a", &["10.0.0.3:53"], &[]);
        check("never", &[], &[]);
    }

    #[test]
    fn only_udp_ports_count() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}],
        }))
        .expect("a slice");
        assert_eq!(udp_addresses(&slice), set(&["10.0.0.1:53", "10.0.0.2:53"]));
    }
}
