//! Pods that podnet connects become known to the datapath, before their containers start.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use xebec_datapath::{Datapath, PodEndpoint};
use xebec_podnet::{EndpointInfo, Endpoints};

pub struct DatapathEndpoints(pub Arc<Datapath>);

#[async_trait::async_trait]
impl Endpoints for DatapathEndpoints {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), Box<dyn Error + Send + Sync>> {
        for ip in &endpoint.ips {
            self.0.attach_pod(&PodEndpoint {
                ip: *ip,
                host_ifindex: endpoint.host_ifindex,
                pod_mac: endpoint.pod_mac.0,
                host_mac: endpoint.host_mac.0,
                netns_cookie: endpoint.netns_cookie,
            })?;
        }
        Ok(())
    }

    async fn detach(&self, ip: IpAddr) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.detach_pod(ip)?;
        Ok(())
    }
}
