use serde_json::{Value, json};

use super::*;
use crate::testing;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": spec}))
        .unwrap()
}

#[test]
fn resolvers_follow_the_dns_policy() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = testing::config(dir.path());
    config.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
    config.resolv_conf = dir.path().join("resolv.conf");
    std::fs::write(&config.resolv_conf, "# c\nsearch example.org\nnameserver 192.0.2.1\noptions edns0\n").unwrap();
    let check = |spec: Value, servers: &str, searches: &str, options: &str| {
        let dns = dns(&pod(spec.clone()), &config);
        assert_eq!(
            [dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" ")],
            [servers, searches, options],
            "{spec}"
        );
    };
    let cluster = "shop.svc.cluster.local svc.cluster.local cluster.local example.org";
    check(json!({}), "10.96.0.10", cluster, "ndots:5");
    check(json!({"dnsPolicy": "Default"}), "192.0.2.1", "example.org", "edns0");
    check(json!({"hostNetwork": true}), "192.0.2.1", "example.org", "edns0");
    check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), "10.96.0.10", cluster, "ndots:5");
    let own = json!({"nameservers": ["1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]});
    check(json!({"dnsPolicy": "None", "dnsConfig": own}), "1.1.1.1", "a", "ndots:2 rotate");
    check(json!({"dnsConfig": own}), "10.96.0.10 1.1.1.1", &format!("{cluster} a"), "ndots:2 rotate");
}

#[test]
fn the_hosts_file_names_the_pod_and_its_aliases() {
    let spec =
        json!({"hostname": "h", "subdomain": "sub", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]});
    let text = hosts_file(&pod(spec), &["10.244.1.5".parse().unwrap()], "cluster.local");
    assert!(text.contains("10.244.1.5\th.sub.shop.svc.cluster.local\th\n"), "{text}");
    assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"), "{text}");
}

#[test]
fn the_sandbox_lies_in_the_pods_cgroup_and_namespaces() {
    let dir = tempfile::tempdir().unwrap();
    let config = super::config(
        &pod(json!({"hostNetwork": true, "containers": [{"name": "a"}]})),
        2,
        &testing::config(dir.path()),
    );
    let linux = config.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/xebec/n1/kubepods/besteffort/podu1");
    assert_eq!(linux.security_context.unwrap().namespace_options.unwrap().network, v1::NamespaceMode::Node as i32);
    assert_eq!((config.metadata.unwrap().attempt, config.labels[key::POD_UID].as_str()), (2, "u1"));
    assert!(config.hostname.is_empty());
}

#[test]
fn a_pod_may_be_called_by_its_full_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |spec: Value, expected: &str| {
        assert_eq!(super::config(&pod(spec.clone()), 0, &testing::config(dir.path())).hostname, expected, "{spec}");
    };
    check(json!({"containers": [], "subdomain": "sub"}), "web");
    check(json!({"containers": [], "subdomain": "sub", "setHostnameAsFQDN": true}), "web.sub.shop.svc.cluster.local");
    check(json!({"containers": [], "setHostnameAsFQDN": true}), "web");
}
