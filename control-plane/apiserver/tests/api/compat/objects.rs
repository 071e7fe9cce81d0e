//! A minimal valid object of every kind, and what a status of it may say.

use serde_json::{Value, json};

/// What the probe needs to know of a kind, beside discovery.
pub struct Sample {
    /// Without `apiVersion` and `kind`; the probe names it, unless it has a name that depends on it.
    pub object: Value,
    /// For kinds with a status: a status to write, and a change of the spec to send along.
    pub status: Value,
    pub spec: Value,
}

/// A sample of a kind that is stored; `number` tells objects of one kind apart.
pub fn sample(group: &str, version: &str, plural: &str, number: usize) -> Option<Sample> {
    let object = match group {
        "" => core(plural),
        "apps" | "batch" | "autoscaling" => workload(version, plural),
        "storage.k8s.io" => storage(plural),
        _ => other(group, plural, number),
    }?;
    let (status, spec) = status(group, version, plural);
    Some(Sample { object: named(object, number), status, spec })
}

/// What to send to a kind that only answers, and a field of the answer with its value.
pub fn question(plural: &str) -> Option<(Value, &'static str, Value)> {
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let admin = json!({"user": "admin", "groups": ["system:masters"], "resourceAttributes": pods});
    Some(match plural {
        "selfsubjectreviews" => (json!({}), "/status/userInfo/username", "admin".into()),
        "tokenreviews" => (json!({"spec": {"token": "x"}}), "/status/user", json!({})),
        "localsubjectaccessreviews" | "subjectaccessreviews" => {
            (json!({"spec": admin}), "/status/allowed", true.into())
        }
        "selfsubjectaccessreviews" => (json!({"spec": {"resourceAttributes": pods}}), "/status/allowed", true.into()),
        "selfsubjectrulesreviews" => (json!({"spec": {"namespace": "default"}}), "/status/incomplete", false.into()),
        _ => return None,
    })
}

/// The definition of the custom resource that is probed.
pub fn definition(plural: &str) -> Value {
    let kind = format!("{}{}", plural[..1].to_uppercase(), &plural[1..plural.len() - 1]);
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": plural, "kind": kind},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": any}}},
            "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
        }],
    }})
}

const NAMES: [&str; 6] = ["zero", "one", "two", "three", "four", "five"];

fn named(mut object: Value, number: usize) -> Value {
    if object.pointer("/metadata/name").is_none() {
        object["metadata"]["name"] = NAMES[number].into();
    }
    object["metadata"]["labels"] = json!({"probe": "compat"});
    object
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn core(plural: &str) -> Option<Value> {
    let ports = json!([{"port": 80}]);
    Some(match plural {
        "configmaps" => json!({"data": {"a": "1"}}),
        "endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": ports}]}),
        "events" => {
            json!({"involvedObject": {"namespace": "probe", "kind": "Pod", "name": "p"}, "reason": "R", "type": "Normal"})
        }
        "limitranges" => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        "namespaces" | "nodes" | "serviceaccounts" => json!({}),
        "persistentvolumeclaims" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}})
        }
        "persistentvolumes" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/p"}}})
        }
        "pods" => json!({"spec": template()["spec"]}),
        "podtemplates" => json!({"template": template()}),
        "replicationcontrollers" => json!({"spec": {"selector": {"a": "b"}, "template": template()}}),
        "resourcequotas" => json!({"spec": {"hard": {"services": "5"}}}),
        "secrets" => json!({"data": {"a": "eA=="}}),
        "services" => json!({"spec": {"ports": ports}}),
        _ => return None,
    })
}

fn workload(version: &str, plural: &str) -> Option<Value> {
    let selected = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template()});
    let mut job = template();
    job["spec"]["restartPolicy"] = "Never".into();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    Some(match plural {
        "controllerrevisions" => json!({"revision": 1, "data": {}}),
        "daemonsets" | "deployments" | "replicasets" => json!({"spec": selected}),
        "statefulsets" => {
            json!({"spec": {"selector": selected["selector"], "template": selected["template"], "serviceName": "s"}})
        }
        "horizontalpodautoscalers" if version == "v1" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}})
        }
        "horizontalpodautoscalers" => json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": [cpu]}}),
        "jobs" => json!({"spec": {"template": job}}),
        "cronjobs" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job}}}}),
        _ => return None,
    })
}

fn storage(plural: &str) -> Option<Value> {
    Some(match plural {
        "csidrivers" => json!({"spec": {"attachRequired": false}}),
        "csinodes" => json!({"spec": {"drivers": []}}),
        "csistoragecapacities" => json!({"storageClassName": "c", "capacity": "1Gi"}),
        "storageclasses" => json!({"provisioner": "example.com/p"}),
        "volumeattachments" => {
            json!({"spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "volumeattributesclasses" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        _ => return None,
    })
}

fn other(group: &str, plural: &str, number: usize) -> Option<Value> {
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let subjects = json!([{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]);
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    Some(match (group, plural) {
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition(&format!("{}things", NAMES[number])),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            json!({"spec": {"signerName": "example.com/s", "usages": ["client auth"], "request": request()}})
        }
        ("coordination.k8s.io", "leases") => json!({"spec": {"holderIdentity": "h"}}),
        ("discovery.k8s.io", "endpointslices") => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]})
        }
        ("events.k8s.io", "events") => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
            "action": "A", "reason": "R", "type": "Normal", "regarding": {"kind": "Pod", "namespace": "probe", "name": "p"}}),
        ("example.com", _) => json!({"spec": {"replicas": 1}}),
        ("networking.k8s.io", "ingressclasses") => json!({"spec": {"controller": "example.com/c"}}),
        ("networking.k8s.io", "ingresses") => json!({"spec": {"defaultBackend": backend}}),
        ("networking.k8s.io", "ipaddresses") => json!({"metadata": {"name": format!("192.0.2.{}", number + 1)},
            "spec": {"parentRef": {"resource": "services", "namespace": "probe", "name": "s"}}}),
        ("networking.k8s.io", "networkpolicies") => json!({"spec": {"podSelector": {}}}),
        ("networking.k8s.io", "servicecidrs") => json!({"spec": {"cidrs": [format!("10.20{number}.0.0/24")]}}),
        ("node.k8s.io", "runtimeclasses") => json!({"handler": "h"}),
        ("policy", "poddisruptionbudgets") => {
            json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}})
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => json!({"rules": rules}),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            json!({"roleRef": role, "subjects": subjects})
        }
        ("resource.k8s.io", _) => return device(plural),
        ("scheduling.k8s.io", "priorityclasses") => json!({"value": 7}),
        _ => return None,
    })
}

fn device(plural: &str) -> Option<Value> {
    let (driver, selector) = ("gpu.example.com", "device.driver == 'gpu.example.com'");
    let claim = json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": driver}}]}});
    let device =
        json!({"name": "gpu-0", "attributes": {"index": {"int": 0}}, "capacity": {"memory": {"value": "8Gi"}}});
    let pool = json!({"name": "n", "generation": 1, "resourceSliceCount": 1});
    Some(match plural {
        "deviceclasses" => json!({"spec": {"selectors": [{"cel": {"expression": selector}}]}}),
        "resourceclaims" => json!({"spec": claim}),
        "resourceclaimtemplates" => json!({"spec": {"metadata": {}, "spec": claim}}),
        "resourceslices" => {
            json!({"spec": {"driver": driver, "nodeName": "n", "pool": pool, "devices": [device]}})
        }
        _ => return None,
    })
}

/// A status, and a change of the spec that has no place beside it.
fn status(group: &str, version: &str, plural: &str) -> (Value, Value) {
    let at = "2026-01-02T03:04:05Z";
    let condition = |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": at}]});
    let mut failed = condition("Failed");
    failed["conditions"][0]["lastUpdateTime"] = at.into();
    let replicas = json!({"replicas": 5});
    match (group, plural) {
        ("", "namespaces") => (condition("NamespaceDeletionContentFailure"), json!({"finalizers": ["example.com/f"]})),
        ("", "nodes") => (condition("Ready"), json!({"unschedulable": true})),
        ("", "persistentvolumeclaims") => (json!({"phase": "Lost"}), json!({"volumeName": "other"})),
        ("", "persistentvolumes") => {
            (json!({"phase": "Failed", "message": "m"}), json!({"persistentVolumeReclaimPolicy": "Delete"}))
        }
        ("", "pods") => (json!({"phase": "Failed", "message": "m"}), json!({"activeDeadlineSeconds": 5})),
        ("", "replicationcontrollers") => (json!({"replicas": 2, "fullyLabeledReplicas": 1}), replicas),
        ("", "resourcequotas") => {
            (json!({"hard": {"services": "5"}, "used": {"services": "1"}}), json!({"hard": {"pods": "7"}}))
        }
        ("", "services") => (condition("example.com/C"), json!({"sessionAffinity": "ClientIP"})),
        ("apiextensions.k8s.io", _) => (json!({"storedVersions": ["v1"]}), json!({"names": {"categories": ["c"]}})),
        ("apps", "daemonsets") => {
            let numbers = json!({"currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 1, "numberReady": 1});
            (numbers, json!({"minReadySeconds": 5}))
        }
        ("apps", _) => (json!({"replicas": 2, "readyReplicas": 1}), replicas),
        ("autoscaling", _) if version == "v1" => {
            (json!({"currentReplicas": 1, "desiredReplicas": 2}), json!({"maxReplicas": 9}))
        }
        ("autoscaling", _) => (json!({"currentReplicas": 1, "desiredReplicas": 2}), json!({"maxReplicas": 9})),
        ("batch", "jobs") => (json!({"startTime": at, "active": 1}), json!({"suspend": true})),
        ("batch", _) => (json!({"lastScheduleTime": at}), json!({"suspend": true})),
        ("certificates.k8s.io", _) => (failed, json!({"expirationSeconds": 700})),
        ("networking.k8s.io", "ingresses") => {
            (json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}), json!({"ingressClassName": "c"}))
        }
        ("networking.k8s.io", _) => (condition("Ready"), json!({"cidrs": ["10.99.0.0/24"]})),
        ("policy", _) => {
            let numbers = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 1});
            (numbers, json!({"minAvailable": 2}))
        }
        ("resource.k8s.io", _) => {
            let result = json!({"request": "gpu", "driver": "gpu.example.com", "pool": "n", "device": "gpu-0"});
            (json!({"allocation": {"devices": {"results": [result]}}}), json!({"devices": {}}))
        }
        ("storage.k8s.io", _) => (json!({"attached": true}), json!({"nodeName": "other"})),
        _ => (json!({"replicas": 2}), replicas),
    }
}

fn request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem)
}
