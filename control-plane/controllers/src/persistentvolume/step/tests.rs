use super::*;
use serde_json::{Value, json};

fn volume(name: &str, spec: Value) -> Arc<PersistentVolume> {
    let mut whole = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    spec.as_object().into_iter().flatten().for_each(|(field, value)| whole[field] = value.clone());
    let volume = json!({"metadata": {"name": name}, "spec": whole, "status": {"phase": "Available"}});
    Arc::new(serde_json::from_value(volume).expect("a volume"))
}

fn claim(spec: Value, annotations: Value) -> PersistentVolumeClaim {
    let mut whole = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]});
    spec.as_object().into_iter().flatten().for_each(|(field, value)| whole[field] = value.clone());
    let metadata = json!({"name": "c", "namespace": "ns", "uid": "u", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": whole})).expect("a claim")
}

fn class(mode: &str, provisioner: &str) -> StorageClass {
    let class = json!({"metadata": {"name": "s"}, "provisioner": provisioner, "volumeBindingMode": mode});
    serde_json::from_value(class).expect("a class")
}

/// The name of the volume to bind, or the phase and the reason of the event.
fn told(step: ClaimStep) -> String {
    match step {
        ClaimStep::Bind(volume) => object::name(&volume.metadata).to_owned(),
        ClaimStep::Phase { phase, event } => format!("{phase} {}", event.map_or("", |(_, reason, _)| reason)),
        ClaimStep::Provision { provisioner, .. } => format!("provision {provisioner}"),
    }
}

#[track_caller]
fn check(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    expected: &str,
) {
    assert_eq!(told(claim_step(claim, volumes, class, None)), expected);
}

#[test]
fn the_smallest_volume_that_suits_is_taken() {
    let volumes = [
        volume("large", json!({"capacity": {"storage": "5Gi"}})),
        volume("small", json!({"capacity": {"storage": "2Gi"}})),
        volume("tiny", json!({"capacity": {"storage": "1Mi"}})),
        volume("classy", json!({"storageClassName": "s"})),
        volume("block", json!({"volumeMode": "Block"})),
        volume("taken", json!({"claimRef": {"name": "other", "namespace": "ns", "uid": "o"}})),
    ];
    let any = claim(json!({}), json!({}));
    check(&any, &volumes, None, "small");
    check(&claim(json!({"storageClassName": "s"}), json!({})), &volumes, None, "classy");
    check(&claim(json!({"volumeMode": "Block"}), json!({})), &volumes, None, "block");
    check(&claim(json!({"accessModes": ["ReadWriteMany"]}), json!({})), &volumes, None, "Pending FailedBinding");
    check(&claim(json!({"selector": {"matchLabels": {"a": "b"}}}), json!({})), &volumes, None, "Pending FailedBinding");
    let meant = volume("meant", json!({"claimRef": {"name": "c", "namespace": "ns"}, "capacity": {"storage": "9Gi"}}));
    check(&any, &[volumes[1].clone(), meant], None, "meant");
}

#[test]
fn a_claim_may_name_its_volume() {
    let named = claim(json!({"volumeName": "v"}), json!({}));
    check(&named, &[], None, "Pending ");
    check(&named, &[volume("v", json!({}))], None, "v");
    check(&named, &[volume("v", json!({"capacity": {"storage": "1"}}))], None, "Pending VolumeMismatch");
    let taken = volume("v", json!({"claimRef": {"name": "other", "namespace": "ns", "uid": "o"}}));
    check(&named, &[taken], None, "Pending FailedBinding");
}

#[test]
fn a_class_waits_for_a_pod_or_for_a_provisioner() {
    let wanted = claim(json!({"storageClassName": "s"}), json!({}));
    let volumes = [volume("v", json!({"storageClassName": "s"}))];
    let waits = class("WaitForFirstConsumer", "example.com/p");
    check(&wanted, &volumes, Some(&waits), "Pending WaitForFirstConsumer");
    let selected = claim(json!({"storageClassName": "s"}), json!({annotation::SELECTED_NODE: "n"}));
    check(&selected, &volumes, Some(&waits), "v");
    check(&selected, &[], Some(&waits), "provision example.com/p");
    check(&wanted, &[], Some(&class("Immediate", "kubernetes.io/no-provisioner")), "Pending ProvisioningFailed");
    check(&wanted, &[], None, "Pending ProvisioningFailed");
}

#[test]
fn a_local_volume_is_taken_only_on_its_node() {
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]},
    ]}]}});
    let volumes = [volume("v", json!({"nodeAffinity": affinity}))];
    let on = |name: &str| {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        claim::best(&claim(json!({}), json!({})), &volumes, Some(&node), false).is_some()
    };
    assert!(on("n1"));
    assert!(!on("n2"));
}

#[test]
fn a_bound_claim_keeps_its_volume_or_is_lost() {
    let bound = claim(json!({"volumeName": "v"}), json!({annotation::BIND_COMPLETED: "yes"}));
    check(&bound, &[], None, "Lost ClaimLost");
    let own = volume("v", json!({"claimRef": {"name": "c", "namespace": "ns", "uid": "u"}}));
    check(&bound, &[own], None, "v");
    let other = volume("v", json!({"claimRef": {"name": "x", "namespace": "ns", "uid": "x"}}));
    check(&bound, &[other], None, "Lost ClaimMisbound");
}

#[test]
fn binding_twice_changes_nothing() {
    let (mut volume, mut claim) = (PersistentVolume::clone(&volume("v", json!({}))), claim(json!({}), json!({})));
    assert!(volumes::refer(&mut volume, &claim));
    assert!(claim::take(&mut claim, &volume));
    assert!(!volumes::refer(&mut volume, &claim));
    assert!(!claim::take(&mut claim, &volume));
    assert_eq!(object::annotation(&volume.metadata, annotation::BOUND_BY_CONTROLLER), Some(volumes::YES));
}

#[test]
fn a_volume_follows_its_claim() {
    let check = |spec: Value, status: &str, claim: Option<&PersistentVolumeClaim>, expected: &str| {
        let mut volume = PersistentVolume::clone(&volume("v", spec));
        volume.status.as_mut().expect("a status").phase = Some(status.into());
        let told = match volume_step(&volume, claim) {
            VolumeStep::Phase { phase, .. } => phase,
            VolumeStep::Unbind => "unbind",
            VolumeStep::Wait => "wait",
        };
        assert_eq!(told, expected);
    };
    let of = |uid: &str, policy: &str| json!({"claimRef": {"name": "c", "namespace": "ns", "uid": uid}, "persistentVolumeReclaimPolicy": policy});
    let named = claim(json!({"volumeName": "v"}), json!({}));
    check(json!({}), "Pending", None, "Available");
    check(of("", "Retain"), "Pending", None, "Available");
    check(of("u", "Retain"), "Available", Some(&named), "Bound");
    check(of("u", "Retain"), "Available", Some(&claim(json!({}), json!({}))), "wait");
    check(of("old", "Retain"), "Bound", Some(&named), "Released");
    check(of("u", "Retain"), "Released", None, "Released");
    check(of("u", "Delete"), "Bound", None, "Released");
    check(of("u", "Delete"), "Released", None, "Failed");
}
