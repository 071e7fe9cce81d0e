//! Pods that podnet connects become known to the datapath, before their containers start.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use xebec_datapath::{Datapath, PodEndpoint};
use xebec_podnet::{EndpointInfo, Endpoints};

pub struct DatapathEndpoints {
    pub datapath: Arc<Datapath>,
    /// Told of each sandbox that is attached.
    pub attached: mpsc::UnboundedSender<String>,
}

#[async_trait::async_trait]
impl Endpoints for DatapathEndpoints {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), Box<dyn Error + Send + Sync>> {
        for ip in &endpoint.ips {
            self.datapath.attach_pod(&PodEndpoint {
                ip: *ip,
                host_ifindex: endpoint.host_ifindex,
                pod_mac: endpoint.pod_mac.0,
                host_mac: endpoint.host_mac.0,
                netns_cookie: endpoint.netns_cookie,
            })?;
        }
        // Whoever listened has ended, and the agent with it.
        let _ = self.attached.send(endpoint.container.clone());
        Ok(())
    }

    async fn detach(&self, ip: IpAddr) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.datapath.detach_pod(ip)?;
        Ok(())
    }
}
