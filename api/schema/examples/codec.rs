//! What it costs to read, check and write a pod of some 1 KB, in each encoding: `cargo run --release -p xebec-schema --example codec`.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use xebec_machinery::GroupVersion;
use xebec_machinery::patch::{apply, strategic};
use xebec_schema::{decode, openapi, protobuf, schema};

const ROUNDS: u32 = 20_000;

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-5d4f8c7b9-abcde", "namespace": "default", "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"},
            "creationTimestamp": "2026-01-02T03:04:05Z", "uid": "8c0c1a3e-6d52-4b53-9a7c-2e4f0d1b7a66", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "uid": "1f", "controller": true}]},
        "spec": {"nodeName": "node-1", "restartPolicy": "Always", "serviceAccountName": "default", "containers": [{
            "name": "web", "image": "registry.example/web:1.2.3", "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "MODE", "value": "production"}], "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}]}],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "podIP": "10.244.1.7", "podIPs": [{"ip": "10.244.1.7"}], "qosClass": "Burstable"},
    })
}

/// Microseconds of one call.
fn time(name: &str, rounds: u32, mut work: impl FnMut()) {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    println!("{name}: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let resource = schema().resource("", "v1", "pods").ok_or("pods are served")?;
    println!("parse the table: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let pod = pod();
    let text = serde_json::to_vec(&pod)?;
    let proto = protobuf::encode(&pod)?;
    println!("pod: {} bytes of JSON, {} of protobuf", text.len(), proto.len());
    time("parse strictly, check, encode", ROUNDS, || {
        let Ok((mut value, _)) = xebec_machinery::json::parse_strict(&text) else { return };
        _ = black_box(decode::check(resource.def, &mut value));
        _ = black_box(serde_json::to_vec(&value));
    });
    time("  of which check", ROUNDS, || _ = black_box(decode::check(resource.def, &mut pod.clone())));
    time("  of which clone", ROUNDS, || _ = black_box(pod.clone()));
    time("protobuf decode", ROUNDS, || _ = black_box(protobuf::decode(&proto)));
    time("protobuf encode", ROUNDS, || _ = black_box(protobuf::encode(&pod)));
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "web", "image": "b"}]}});
    time("strategic merge", ROUNDS, || {
        _ = black_box(strategic::apply(&mut pod.clone(), patch.clone(), resource.patch_schema()));
    });
    let manager =
        apply::Manager { name: "m", api_version: "v1", subresource: "", now: "2026-01-02T03:04:05Z", ignored: &[] };
    time("server-side apply of the whole pod", ROUNDS / 10, || {
        _ = black_box(apply::apply(Some(&pod), &pod, resource.patch_schema(), &manager, true));
    });
    time("track an update", ROUNDS / 10, || {
        let mut new = pod.clone();
        new["status"]["phase"] = "Failed".into();
        apply::update_managed_fields(Some(&pod), &mut new, resource.patch_schema(), &manager);
    });
    let core = GroupVersion::new("", "v1");
    time("OpenAPI v3 of the core group", 10, || _ = black_box(openapi::v3(&core, &[])));
    println!("  {} bytes", openapi::v3(&core, &[]).unwrap_or_default().to_string().len());
    time("OpenAPI v2", 10, || _ = black_box(openapi::v2(&[])));
    Ok(())
}
