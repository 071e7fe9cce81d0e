use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

const RESOURCES: &[(&str, &str)] = &[
    ("", "configmaps"),
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("", "resourcequotas"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "controllerrevisions"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("autoscaling", "horizontalpodautoscalers"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    (NETWORKING, "ingressclasses"),
    (NETWORKING, "ingresses"),
    (NETWORKING, "ipaddresses"),
    (NETWORKING, "networkpolicies"),
    (NETWORKING, "servicecidrs"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    (rbac::GROUP, "clusterrolebindings"),
    (rbac::GROUP, "clusterroles"),
    (rbac::GROUP, "rolebindings"),
    (rbac::GROUP, "roles"),
    ("scheduling.k8s.io", "priorityclasses"),
    (STORAGE, "csidrivers"),
    (STORAGE, "csinodes"),
    (STORAGE, "csistoragecapacities"),
    (STORAGE, "storageclasses"),
    (STORAGE, "volumeattachments"),
    (STORAGE, "volumeattributesclasses"),
];

/// Objects with as little in them as the decoder lets through.
fn holes() -> Vec<Value> {
    let pod = json!({"containers": [{}, null], "initContainers": [{}], "volumes": [{}, {"projected": {"sources": [{}]}}], "tolerations": [{}]});
    vec![
        json!({}),
        json!({"metadata": null, "spec": null, "status": null}),
        json!({"metadata": {}, "spec": {}, "status": {}}),
        json!({"spec": pod, "status": {"conditions": [{}], "containerStatuses": [{}], "initContainerStatuses": [{}]}}),
        json!({"spec": {"template": {"spec": pod}, "selector": {"matchExpressions": [{}]}, "strategy": {}}}),
        json!({"spec": {"ports": [{}, null], "clusterIPs": [""], "taints": [{}]}, "subsets": [{}], "endpoints": [{}], "ports": [{}]}),
        json!({"rules": [{}], "subjects": [{}], "roleRef": {}, "data": {"a": null}, "stringData": {}}),
    ]
}

/// Every method, on objects that could come from a client who sent nearly nothing.
#[test]
fn no_strategy_minds_a_hole() {
    let context = Context { user: UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH };
    for &(group, resource) in RESOURCES {
        let strategy = strategy(&GroupResource::new(group, resource));
        for given in holes() {
            let mut new = given.clone();
            strategy.default(&mut new);
            strategy.prepare_for_create(&context, &mut new);
            assert!(!strategy.validate(&new).is_empty(), "{resource}: a name is required in {new}");
            for old in holes() {
                let mut updated = new.clone();
                strategy.prepare_for_update(&context, &mut updated, &old);
                strategy.validate_update(&updated, &old);
                strategy.prepare_for_status_update(&context, &mut updated, &old);
                strategy.validate_status_update(&updated, &old);
                strategy.spec_changed(&updated, &old);
                strategy.warnings(&updated, Some(&old));
            }
            strategy.warnings(&new, None);
            strategy.selectable_fields(&new);
            strategy.graceful_delete(&new, &DeleteOptions::default());
            strategy.prepare_for_deletion(&context, &mut new);
            assert_eq!(strategy.row(&new, context.now).len(), strategy.columns().len(), "{resource}");
        }
    }
}

/// What was defaulted and prepared once stays as it is: an update that changes nothing writes nothing.
#[test]
fn defaulting_twice_changes_nothing() {
    for &(group, resource) in RESOURCES {
        let strategy = strategy(&GroupResource::new(group, resource));
        for given in holes() {
            let mut once = given;
            strategy.default(&mut once);
            let mut twice = once.clone();
            strategy.default(&mut twice);
            assert_eq!(twice, once, "{resource}");
        }
    }
}
