//! Defaults of pod specs and pods: `pkg/apis/core/v1/defaults.go`.

use serde_json::{Map, Value, json};

use crate::value::{at_mut, boolean, default, default_string, is_set, items_mut, object_mut, string};

const FILE_MODE: i64 = 0o644;
const KINDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// `SetObjectDefaults_PodTemplate`'s share: defaults of any pod spec, also in a template.
pub fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default_string(spec, "dnsPolicy", "ClusterFirst");
    default_string(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default_string(spec, "schedulerName", "default-scheduler");
    // The deprecated alias is always the mirror of serviceAccountName (conversion.go).
    let account = match string(spec, "serviceAccountName") {
        "" => string(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        for field in ["serviceAccountName", "serviceAccount"] {
            spec[field] = json!(account);
        }
    }
    items_mut(spec, "volumes").for_each(volume);
    for kind in KINDS {
        items_mut(spec, kind).for_each(container);
    }
}

/// `SetDefaults_Pod`: what a pod gets beyond its template.
pub fn pod(pod: &mut Value) {
    let Some(spec) = at_mut(pod, "spec") else { return };
    for kind in KINDS {
        items_mut(spec, kind).for_each(requests_from_limits);
    }
    for kind in ["containers", "initContainers"] {
        items_mut(spec, kind).for_each(super::resize::default_policies);
    }
    default(spec, "enableServiceLinks", true);
    if boolean(spec, "hostNetwork") {
        for port in items_mut(spec, "initContainers").flat_map(|c| items_mut(c, "ports")) {
            host_port(port);
        }
        for port in items_mut(spec, "containers").flat_map(|c| items_mut(c, "ports")) {
            host_port(port);
        }
    }
}

/// The pull policy that an image reference implies.
pub fn pull_policy(image: &str) -> &'static str {
    // A digest pins the image; a tag follows the last colon after the last slash.
    let name = image.split('@').next().unwrap_or("");
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if !image.contains('@') => "Always",
        _ => "IfNotPresent",
    }
}

fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    let policy = pull_policy(string(container, "image"));
    default_string(container, "imagePullPolicy", policy);
    default_string(container, "terminationMessagePath", "/dev/termination-log");
    default_string(container, "terminationMessagePolicy", "File");
    // A struct in Go, so it is there even when empty.
    default(container, "resources", json!({}));
    for port in items_mut(container, "ports") {
        default_string(port, "protocol", "TCP");
    }
    for env in items_mut(container, "env") {
        if let Some(field) = at_mut(env, "valueFrom.fieldRef") {
            default_string(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = at_mut(container, name) {
            probe(found);
        }
    }
    for name in ["lifecycle.postStart.httpGet", "lifecycle.preStop.httpGet"] {
        if let Some(found) = at_mut(container, name) {
            http_get(found);
        }
    }
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe[field].as_i64().unwrap_or(0) == 0 {
            probe[field] = json!(value);
        }
    }
    if let Some(found) = at_mut(probe, "httpGet") {
        http_get(found);
    }
    if let Some(grpc) = at_mut(probe, "grpc") {
        default(grpc, "service", "");
    }
}

fn http_get(action: &mut Value) {
    default_string(action, "path", "/");
    default_string(action, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let Some(fields) = volume.as_object() else { return };
    if !fields.iter().any(|(field, value)| field != "name" && !value.is_null()) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(found) = at_mut(volume, source) {
            default(found, "defaultMode", FILE_MODE);
        }
    }
    for item in ["downwardAPI.items", "projected.sources"] {
        items_mut(volume, item).for_each(projection);
    }
    if let Some(found) = at_mut(volume, "hostPath") {
        default(found, "type", "");
    }
    if let Some(found) = at_mut(volume, "iscsi") {
        default_string(found, "iscsiInterface", "default");
    }
    if let Some(found) = at_mut(volume, "image") {
        let policy = pull_policy(string(found, "reference"));
        default_string(found, "pullPolicy", policy);
    }
    if let Some(claim) = at_mut(volume, "ephemeral.volumeClaimTemplate.spec") {
        default(claim, "volumeMode", "Filesystem");
    }
}

fn projection(source: &mut Value) {
    if let Some(field) = at_mut(source, "fieldRef") {
        default_string(field, "apiVersion", "v1");
    }
    if let Some(token) = at_mut(source, "serviceAccountToken") {
        default(token, "expirationSeconds", 3600);
    }
    for item in items_mut(source, "downwardAPI.items") {
        if let Some(field) = at_mut(item, "fieldRef") {
            default_string(field, "apiVersion", "v1");
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    if !is_set(container, "resources.limits") {
        return;
    }
    let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_else(Map::new);
    let requests = object_mut(container, "resources.requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_port(port: &mut Value) {
    if port["hostPort"].as_i64().unwrap_or(0) == 0 {
        port["hostPort"] = port["containerPort"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_policy(image: &str, expected: &str) {
        assert_eq!(pull_policy(image), expected, "{image}");
    }

    #[test]
    fn only_latest_and_untagged_images_are_always_pulled() {
        check_policy("nginx", "Always");
        check_policy("nginx:latest", "Always");
        check_policy("localhost:5000/nginx", "Always");
        check_policy("localhost:5000/nginx:1.27", "IfNotPresent");
        check_policy("nginx@sha256:0000", "IfNotPresent");
        check_policy("nginx:latest@sha256:0000", "Always");
    }

    #[track_caller]
    fn check(mut given: Value, expected: Value) {
        spec(&mut given["spec"]);
        pod(&mut given);
        assert_eq!(given["spec"], expected);
    }

    #[test]
    fn the_least_pod_gets_every_default() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "b:1", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}],
                "volumes": [{"name": "v"}], "hostNetwork": true}}),
            json!({
                "containers": [{
                    "name": "a", "image": "b:1", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "enableServiceLinks": true, "hostNetwork": true,
            }),
        );
    }

    #[test]
    fn probes_and_references_are_completed() {
        let mut given = json!({"containers": [{
            "name": "a", "image": "b", "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }]});
        spec(&mut given);
        let container = &given["containers"][0];
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
        );
    }
}
