//! The plugin against the agent, over a real socket and real namespaces.
#![allow(clippy::unwrap_used)]

use std::env::VarError;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::PodArgs;
use super::protocol::{Failure, code};
use super::{Server, conflist, plugin};
use crate::tests::{TestNetns, TestNode};
use crate::{Routing, VXLAN_PORT};

type Outcome = Result<Value, (String, Failure)>;

fn call(loopback: bool, env: &[(&str, &str)], config: &Value) -> Outcome {
    let var = |name: &str| {
        let found = env.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
    };
    plugin::run(loopback, var, config.to_string().as_bytes())
}

async fn call_async(env: &[(&str, &str)], config: &Value) -> Outcome {
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let config = config.clone();
    let run = move || {
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        call(false, &env, &config)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_added_checked_and_deleted() {
    let [node, _other] = TestNode::pair(Routing::Vxlan { port: VXLAN_PORT }).await;
    let network = Arc::new(node.open().await);
    let socket = node.dir.path().join("cni.sock");
    let stop = CancellationToken::new();
    let server = Server::bind(&socket, network.clone()).unwrap();
    let serving = server.run(stop.clone());
    let pod = TestNetns::new("pod");
    let netns = pod.netns.path().to_str().unwrap().to_owned();
    let body = async {
        let list: Value = serde_json::from_str(&conflist(&socket)).unwrap();
        let config = json!({ "cniVersion": list["cniVersion"], "name": list["name"],
            "type": list["plugins"][0]["type"], "socket": list["plugins"][0]["socket"] });
        let mut env = vec![
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", netns.as_str()),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u-1"),
        ];
        let result = call_async(&env, &config).await.unwrap();
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(
            result["ips"],
            json!([
                { "address": "10.244.1.2/32", "gateway": "10.244.1.1", "interface": 1 },
                { "address": "fd00:244:1::2/128", "gateway": "fd00:244:1::1", "interface": 1 },
            ])
        );
        assert_eq!(result["interfaces"][1]["sandbox"], json!(netns));
        let routes = json!([{ "dst": "0.0.0.0/0", "gw": "10.244.1.1" }, { "dst": "::/0", "gw": "fd00:244:1::1" }]);
        assert_eq!(result["routes"], routes);
        let record = &network.records()[0];
        assert_eq!((record.namespace.as_str(), record.name.as_str(), record.uid.as_str()), ("default", "web", "u-1"));

        for (command, expected) in [("CHECK", Ok(Value::Null)), ("DEL", Ok(Value::Null)), ("DEL", Ok(Value::Null))] {
            env[0].1 = command;
            assert_eq!(call_async(&env, &config).await, expected, "{command}");
        }
        env[0].1 = "CHECK";
        let (_, failure) = call_async(&env, &config).await.unwrap_err();
        assert_eq!((failure.code, failure.msg.as_str()), (code::FAILED, "container c1 has no eth0"));
        env[0].1 = "ADD";
        let old = json!({ "cniVersion": "0.4.0", "name": "xebec", "type": "xebec", "socket": socket });
        let ips = call_async(&env, &old).await.unwrap()["ips"].clone();
        assert_eq!((&ips[0]["version"], &ips[1]["version"]), (&json!("4"), &json!("6")));
        let gc = json!({ "cniVersion": "1.1.0", "socket": socket, "cni.dev/valid-attachments": [] });
        assert_eq!(call_async(&[("CNI_COMMAND", "GC")], &gc).await, Ok(Value::Null));
        assert_eq!(network.records(), []);
        assert_eq!(call_async(&[("CNI_COMMAND", "STATUS")], &gc).await, Ok(Value::Null));
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, body);
    served.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_lets_its_pods_go_and_takes_none() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cni.sock");
    let stop = CancellationToken::new();
    let serving = Server::bind_leaving(&socket).unwrap().run(stop.clone());
    let body = async {
        let config = json!({ "cniVersion": "1.0.0", "name": "xebec", "type": "xebec", "socket": socket });
        let mut env =
            [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/gone")];
        assert_eq!(call_async(&env, &config).await, Ok(Value::Null));
        env[0].1 = "ADD";
        let (_, failure) = call_async(&env, &config).await.unwrap_err();
        assert!(failure.msg.contains("leaves its cluster"), "{failure:?}");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, body);
    served.unwrap();
}

#[test]
fn loopback_needs_no_agent() {
    let pod = TestNetns::new("lo");
    let netns = pod.netns.path().to_str().unwrap();
    let config = json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback" });
    let mut env = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "lo"), ("CNI_NETNS", netns)];
    let result = call(true, &env, &config).unwrap();
    assert_eq!(result["ips"], json!([{ "version": "4", "address": "127.0.0.1/8", "interface": 0 }]));
    env[0].1 = "DEL";
    assert_eq!(call(true, &env, &config), Ok(Value::Null));
}

#[test]
fn bad_requests_get_the_codes_of_the_specification() {
    let config = json!({ "cniVersion": "1.0.0", "socket": "/nonexistent/cni.sock" });
    let add = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")];
    let check = |env: &[(&str, &str)], config: &Value, code: u32, msg: &str| {
        let (_, failure) = call(false, env, config).unwrap_err();
        assert_eq!((failure.code, failure.msg.as_str()), (code, msg));
    };
    check(&add, &config, code::TRY_AGAIN_LATER, "ask the node agent at /nonexistent/cni.sock");
    check(&add[..2], &config, code::INVALID_ENVIRONMENT, "CNI_IFNAME is required");
    check(&add, &json!({ "cniVersion": "9.0.0" }), code::INCOMPATIBLE_VERSION, "incompatible CNI version");
    check(&add, &json!({}), code::INCOMPATIBLE_VERSION, "incompatible CNI version");
    check(&add, &json!("x"), code::DECODING_FAILURE, "decode the network configuration");
    check(&add, &json!({ "cniVersion": "1.0.0" }), code::INVALID_CONFIG, "the configuration names no agent socket");
    check(&[("CNI_COMMAND", "BREW")], &config, code::INVALID_ENVIRONMENT, "unknown CNI_COMMAND");
    check(&[("CNI_COMMAND", "STATUS")], &config, code::NOT_AVAILABLE, "ask the node agent at /nonexistent/cni.sock");
    let versions = call(false, &[("CNI_COMMAND", "VERSION")], &json!({})).unwrap();
    assert_eq!(versions["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}

#[test]
fn pod_arguments() {
    let pod = PodArgs::parse("IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=a=b;;junk");
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("kube-system", "a=b", ""));
}
