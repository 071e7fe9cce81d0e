//! What a certificate request needs next.

use super::request::Request;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use xebec_types::certificates::CertificateSigningRequest;
use xebec_types::signer;
use xebec_types::time::{self, Timestamp};

/// How long requests are kept; upstream's `csrcleaner`.
const KEEP_SETTLED: Duration = Duration::from_secs(3600);
const KEEP_PENDING: Duration = Duration::from_secs(24 * 3600);

const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Who may have which address.
#[derive(Debug)]
pub struct Nodes {
    pub addresses: HashMap<IpAddr, String>,
    pub service_cidrs: Vec<IpNet>,
}

#[derive(PartialEq, Debug)]
pub enum Action {
    None,
    /// Nothing but removal, later.
    Wait(Duration),
    Approve {
        message: &'static str,
    },
    Sign,
    Delete,
}

#[must_use]
pub fn step(csr: &CertificateSigningRequest, can_sign: bool, nodes: &Nodes, now: Timestamp) -> Action {
    let status = csr.status.as_ref();
    let has = |kind: &str| status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == kind);
    let is_issued = status.and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty());
    let is_settled = is_issued || has("Denied") || has("Failed");
    let keep = if is_settled { KEEP_SETTLED } else { KEEP_PENDING };
    let created = csr.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let wait = time::until(time::after(created, keep), now);
    if wait.is_zero() {
        return Action::Delete;
    }
    if is_settled {
        return Action::Wait(wait);
    }
    if has("Approved") {
        return if can_sign && is_signed_here(csr) { Action::Sign } else { Action::Wait(wait) };
    }
    approval(csr, nodes).map_or(Action::Wait(wait), |message| Action::Approve { message })
}

fn is_signed_here(csr: &CertificateSigningRequest) -> bool {
    let signers = [signer::KUBE_APISERVER_CLIENT, signer::KUBE_APISERVER_CLIENT_KUBELET, signer::KUBELET_SERVING];
    signers.contains(&csr.spec.signer_name.as_str())
}

/// Nodes are approved for certificates in their own name and for nothing else. A bootstrap token
/// gives a node its first client certificate; the certificate itself gives it the next ones.
fn approval(csr: &CertificateSigningRequest, nodes: &Nodes) -> Option<&'static str> {
    let request = Request::parse(&csr.spec.request.0)?;
    let node = request.common_name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    if request.organizations != [NODES] || request.other_names > 0 {
        return None;
    }
    let in_group = |group: &str| csr.spec.groups.iter().flatten().any(|g| g == group);
    let is_self = in_group(NODES) && csr.spec.username.as_deref() == Some(&request.common_name);
    match csr.spec.signer_name.as_str() {
        signer::KUBE_APISERVER_CLIENT_KUBELET => {
            let nameless = request.dns_names.is_empty() && request.addresses.is_empty();
            if !nameless || !has_usages(csr, "client auth") {
                return None;
            }
            if is_self {
                return Some("Auto approving self kubelet client certificate");
            }
            in_group(BOOTSTRAPPERS).then_some("Auto approving kubelet client certificate")
        }
        signer::KUBELET_SERVING if is_self && has_usages(csr, "server auth") => {
            let named = !request.addresses.is_empty() || !request.dns_names.is_empty();
            let own_names = request.dns_names.iter().all(|name| name == node);
            let own_addresses = request.addresses.iter().all(|a| nodes.may_have(node, *a));
            let fine = named && own_names && own_addresses;
            fine.then_some("Auto approving self kubelet serving certificate")
        }
        _ => None,
    }
}

fn has_usages(csr: &CertificateSigningRequest, purpose: &str) -> bool {
    let usages: Vec<&str> = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    let allowed = ["digital signature", "key encipherment", purpose];
    usages.contains(&"digital signature")
        && usages.contains(&purpose)
        && usages.iter().all(|usage| allowed.contains(usage))
}

impl Nodes {
    /// A node may claim an address that is no other node's and no Service's.
    fn may_have(&self, node: &str, address: IpAddr) -> bool {
        let is_service = self.service_cidrs.iter().any(|cidr| cidr.contains(&address));
        !is_service && self.addresses.get(&address).is_none_or(|owner| owner == node)
    }
}

#[cfg(test)]
mod tests;
