//! The sandbox of a pod as CRI wants it, and the files every container gets: hosts and resolver.

use std::collections::HashMap;
use std::net::IpAddr;

use xebec_cri::v1;
use xebec_types::core::Pod;

use crate::config::Config;
use crate::pod::{self, PodRef};
use crate::runtime::key;
use crate::{cgroup, qos};

pub fn config(pod: &Pod, attempt: u32, config: &Config) -> v1::PodSandboxConfig {
    let reference = PodRef::of(pod);
    let mut labels: HashMap<String, String> = pod::labels(pod).into_iter().collect();
    labels.extend(pod_labels(&reference));
    let hostname = if pod::host_network(pod) { String::new() } else { hostname(pod, config) };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: reference.name.clone(),
            uid: reference.uid.clone(),
            namespace: reference.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: config.log_dir(&reference).display().to_string(),
        dns_config: Some(dns(pod, config)),
        port_mappings: port_mappings(pod),
        labels,
        annotations: pod::annotations(pod).into_iter().collect(),
        linux: Some(linux(pod, config)),
        windows: None,
    }
}

/// What `hostname` says in the pod's containers (`setHostnameAsFQDN`: with its domain).
pub fn hostname(pod: &Pod, config: &Config) -> String {
    let full = pod::spec(pod).set_hostname_as_fqdn.filter(|wanted| *wanted);
    full.and_then(|_| pod::fqdn(pod, &config.cluster_domain)).unwrap_or_else(|| pod::hostname(pod))
}

pub fn pod_labels(pod: &PodRef) -> HashMap<String, String> {
    [(key::POD_NAME, &pod.name), (key::POD_NAMESPACE, &pod.namespace), (key::POD_UID, &pod.uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

fn linux(pod: &Pod, config: &Config) -> v1::LinuxPodSandboxConfig {
    let context = pod::spec(pod).security_context.clone().unwrap_or_default();
    let privileged =
        pod::all_containers(pod).any(|c| c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true)));
    let sysctls = context.sysctls.iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect();
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    v1::LinuxPodSandboxConfig {
        cgroup_parent: cgroup::pod_path(&config.cgroup_root, qos::class(pod), &PodRef::of(pod).uid),
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod)),
            run_as_user: context.run_as_user.map(|value| v1::Int64Value { value }),
            run_as_group: context
                .run_as_group
                .filter(|_| context.run_as_user.is_some())
                .map(|value| v1::Int64Value { value }),
            supplemental_groups: groups,
            privileged,
            seccomp: Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            }),
            ..v1::LinuxSandboxSecurityContext::default()
        }),
        sysctls,
        ..v1::LinuxPodSandboxConfig::default()
    }
}

pub fn namespaces(pod: &Pod) -> v1::NamespaceOption {
    let spec = pod::spec(pod);
    let node_or =
        |host: Option<bool>, other: v1::NamespaceMode| if host == Some(true) { v1::NamespaceMode::Node } else { other };
    let own_pid =
        if spec.share_process_namespace == Some(true) { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    v1::NamespaceOption {
        network: node_or(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: node_or(spec.host_pid, own_pid).into(),
        ipc: node_or(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        ..v1::NamespaceOption::default()
    }
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let ports = pod::containers(pod).iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// The resolver's limits that upstream applies (glibc's since 2.26 are larger).
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// upstream's `dns.Configurer`.
fn dns(pod: &Pod, config: &Config) -> v1::DnsConfig {
    let spec = pod::spec(pod);
    let host = || parse_resolv_conf(&std::fs::read_to_string(&config.resolv_conf).unwrap_or_default());
    let namespace = PodRef::of(pod).namespace;
    let cluster = || {
        let domain = &config.cluster_domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        searches.extend(host().searches);
        v1::DnsConfig {
            servers: config.cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    };
    let has_cluster_dns = !config.cluster_dns.is_empty();
    let mut dns = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => v1::DnsConfig::default(),
        "ClusterFirstWithHostNet" if has_cluster_dns => cluster(),
        "ClusterFirst" if has_cluster_dns && !pod::host_network(pod) => cluster(),
        _ => host(),
    };
    if let Some(own) = &spec.dns_config {
        merge(&mut dns.servers, own.nameservers.clone().unwrap_or_default());
        merge(&mut dns.searches, own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(option.value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name}:{value}")));
        }
    }
    dns.servers.truncate(NAMESERVERS_MAX);
    dns.searches.truncate(SEARCHES_MAX);
    dns
}

fn merge(into: &mut Vec<String>, more: Vec<String>) {
    for item in more {
        if !into.contains(&item) {
            into.push(item);
        }
    }
}

fn parse_resolv_conf(text: &str) -> v1::DnsConfig {
    let mut dns = v1::DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next()),
            // The last one counts.
            Some("search") => dns.searches = words.filter(|w| w != ".").collect(),
            Some("options") => dns.options = words.collect(),
            _ => {}
        }
    }
    dns
}

/// The `/etc/hosts` of a pod's containers.
pub fn hosts_file(pod: &Pod, ips: &[IpAddr], cluster_domain: &str) -> String {
    let mut text = if pod::host_network(pod) {
        let own = std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1\tlocalhost\n".to_owned());
        format!("# Kubernetes-managed hosts file (host network).\n{own}")
    } else {
        let fixed = [
            ("127.0.0.1", "localhost"),
            ("::1", "localhost ip6-localhost ip6-loopback"),
            ("fe00::0", "ip6-localnet"),
            ("fe00::0", "ip6-mcastprefix"),
            ("fe00::1", "ip6-allnodes"),
            ("fe00::2", "ip6-allrouters"),
        ];
        let hostname = pod::hostname(pod);
        let names =
            pod::fqdn(pod, cluster_domain).map_or_else(|| hostname.clone(), |fqdn| format!("{fqdn}\t{hostname}"));
        let fixed = fixed.iter().map(|(ip, names)| format!("{ip}\t{names}\n"));
        let own = ips.iter().map(|ip| format!("{ip}\t{names}\n"));
        std::iter::once("# Kubernetes-managed hosts file.\n".to_owned()).chain(fixed).chain(own).collect()
    };
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        text += &format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests;
