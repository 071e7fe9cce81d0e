//! A pod leaves load balancing before it is told to stop.

use std::net::IpAddr;
use std::time::Duration;

use xebec_client::Informers;
use xebec_kubelet::{PodRef, Withdraw};
use xebec_types::discovery::EndpointSlice;

/// For the slice's change to reach the other nodes' maps. They do not acknowledge it yet.
const SPREAD: Duration = Duration::from_millis(100);

/// Waits until no EndpointSlice offers the pod's addresses as ready.
pub struct WithdrawFromServices(pub Informers);

#[async_trait::async_trait]
impl Withdraw for WithdrawFromServices {
    async fn withdraw(&self, _pod: &PodRef, ips: &[IpAddr]) {
        let slices = self.0.informer::<EndpointSlice>();
        let ips: Vec<_> = ips.iter().map(ToString::to_string).collect();
        let mut changes = slices.subscribe();
        if !slices.read().iter().any(|slice| mentions(slice, &ips)) {
            return;
        }
        while slices.read().iter().any(|slice| offers(slice, &ips)) {
            changes.changed().await;
        }
        tokio::time::sleep(SPREAD).await;
    }
}

fn mentions(slice: &EndpointSlice, ips: &[String]) -> bool {
    slice.endpoints.iter().flatten().any(|endpoint| endpoint.addresses.iter().any(|address| ips.contains(address)))
}

fn offers(slice: &EndpointSlice, ips: &[String]) -> bool {
    let ready = |endpoint: &&xebec_types::discovery::Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    };
    let endpoints = slice.endpoints.iter().flatten().filter(ready);
    endpoints.flat_map(|endpoint| &endpoint.addresses).any(|address| ips.contains(address))
}
