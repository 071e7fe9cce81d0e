use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;
use crate::objects::TokenSpec;
use crate::pod::PodRef;

struct Fixture;

#[async_trait]
impl Objects for Fixture {
    async fn config_map(&self, _: &str, name: &str) -> Result<ConfigMapData, ObjectError> {
        if name != "cm" {
            return Err(ObjectError::NotFound { kind: "configmap", name: name.into() });
        }
        Ok(ConfigMapData { text: BTreeMap::from([("k".into(), "v".into())]), binary: BTreeMap::new() })
    }
    async fn secret(&self, _: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, ObjectError> {
        if name != "s" {
            return Err(ObjectError::NotFound { kind: "secret", name: name.into() });
        }
        Ok(BTreeMap::from([("password".into(), b"hunter2".to_vec())]))
    }
    async fn token(&self, _: &PodRef, _: &TokenSpec) -> Result<String, ObjectError> {
        Ok("token".into())
    }
    async fn services(&self, _: &str) -> Vec<Service> {
        let service = |namespace: &str, name: &str, ip: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
            }))
            .unwrap()
        };
        vec![
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "web-app", "10.96.0.9"),
            service("ns", "headless", "None"),
        ]
    }
}

async fn environment(container: Value, links: bool) -> Result<BTreeMap<String, String>, String> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"enableServiceLinks": links, "containers": [container]},
    }))
    .unwrap();
    let facts = Facts {
        pod_ips: vec!["10.244.0.2".into()],
        host_ips: vec!["172.30.0.11".into()],
        node_name: "n1".into(),
        allocatable_milli_cpu: 2000,
        allocatable_memory_bytes: 1 << 30,
    };
    let variables = variables(&pod, &pod.spec.as_ref().unwrap().containers[0], &facts, &Fixture)
        .await
        .map_err(|e| e.to_string())?;
    Ok(variables.into_iter().collect())
}

async fn check(env: Value, want: Result<&str, &str>) {
    let container = json!({"name": "c", "resources": {"limits": {"memory": "64Mi"}}, "env": [env]});
    let got = environment(container, false).await.map(|mut v| v.remove("A").unwrap_or_else(|| "(unset)".into()));
    assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{env}");
}

#[tokio::test]
async fn values_come_from_fields_resources_config_maps_and_secrets() {
    let from = |source: Value| json!({"name": "A", "valueFrom": source});
    let field = |path: &str| from(json!({"fieldRef": {"fieldPath": path}}));
    let amount =
        |resource: &str, divisor: &str| from(json!({"resourceFieldRef": {"resource": resource, "divisor": divisor}}));
    check(json!({"name": "A", "value": "x"}), Ok("x")).await;
    check(json!({"name": "A", "value": "$(KUBERNETES_SERVICE_HOST) $$(B) $(B)"}), Ok("10.96.0.1 $(B) $(B)")).await;
    check(field("metadata.name"), Ok("p")).await;
    check(field("metadata.labels['app']"), Ok("x")).await;
    check(field("status.podIP"), Ok("10.244.0.2")).await;
    check(field("status.hostIP"), Ok("172.30.0.11")).await;
    check(field("spec.nodeName"), Ok("n1")).await;
    check(field("spec.nothing"), Err("unsupported fieldPath: spec.nothing")).await;
    check(amount("limits.memory", "1Mi"), Ok("64")).await;
    check(amount("limits.cpu", "1m"), Ok("2000")).await;
    check(amount("limits.cpu", "0"), Ok("2")).await;
    let key = |kind: &str, name: &str, key: &str, optional: bool| {
        from(json!({kind: {"name": name, "key": key, "optional": optional}}))
    };
    check(key("configMapKeyRef", "cm", "k", false), Ok("v")).await;
    check(key("configMapKeyRef", "cm", "z", false), Err("couldn't find key z in ConfigMap ns/cm")).await;
    check(key("configMapKeyRef", "gone", "k", false), Err("configmap \"gone\" not found")).await;
    check(key("configMapKeyRef", "gone", "k", true), Ok("(unset)")).await;
    check(key("secretKeyRef", "s", "password", false), Ok("hunter2")).await;
    check(key("secretKeyRef", "gone", "k", false), Err("secret \"gone\" not found")).await;
}

#[tokio::test]
async fn service_links_follow_the_pods_namespace() {
    let with = environment(json!({"name": "c"}), true).await.unwrap();
    assert_eq!(with["WEB_APP_SERVICE_HOST"], "10.96.0.9");
    assert_eq!(with["WEB_APP_SERVICE_PORT_HTTPS"], "443");
    assert_eq!(with["WEB_APP_PORT_443_TCP_ADDR"], "10.96.0.9");
    assert_eq!(with["KUBERNETES_PORT"], "tcp://10.96.0.1:443");
    assert!(!with.keys().any(|name| name.starts_with("HEADLESS")));
    let without = environment(json!({"name": "c"}), false).await.unwrap();
    assert!(!without.contains_key("WEB_APP_SERVICE_HOST") && without.contains_key("KUBERNETES_SERVICE_PORT"));
}

#[tokio::test]
async fn sources_are_prefixed_and_overridden_by_variables() {
    let container = json!({
        "name": "c",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}, {"configMapRef": {"name": "gone", "optional": true}}],
        "env": [{"name": "P_k", "value": "mine"}, {"name": "B", "value": "$(P_k)/$(password)"}],
    });
    let env = environment(container, false).await.unwrap();
    assert_eq!((env["P_k"].as_str(), env["B"].as_str()), ("mine", "mine/hunter2"));
}
