use super::*;

fn identity(uid: &str) -> Identity {
    Identity::new(kind("Thing").into(), uid.into(), "ns", uid)
}

fn kind(name: &str) -> Kind {
    Kind { group: "".into(), name: name.into() }
}

fn meta(owners: &[&str], finalizers: &[&str], deleting: bool) -> ObjectMeta {
    let reference = |uid: &&str| OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: (*uid).into(),
        uid: (*uid).into(),
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    ObjectMeta {
        owner_references: Some(owners.iter().map(reference).collect()),
        finalizers: Some(finalizers.iter().map(ToString::to_string).collect()),
        deletion_timestamp: deleting.then(|| xebec_types::time::time(xebec_types::time::now())),
        ..ObjectMeta::default()
    }
}

fn delete(uid: &str) -> Work {
    Work::Delete(uid.into())
}

#[test]
fn an_owner_that_was_never_seen_is_looked_for() {
    let mut graph = Graph::default();
    assert_eq!(graph.observe(identity("child"), &meta(&["owner"], &[], false)), [delete("child")]);
    assert!(graph.get(&"owner".into()).is_some_and(|n| n.is_virtual));
    assert_eq!(graph.observe(identity("owner"), &meta(&[], &[], false)), []);
    assert!(graph.get(&"owner".into()).is_some_and(|n| !n.is_virtual && n.dependents.contains(&"child".into())));
    assert_eq!(graph.observe(identity("second"), &meta(&["owner"], &[], false)), []);
}

#[test]
fn a_kind_that_is_watched_from_now_on_brings_its_absent_owners_dependents() {
    let mut graph = Graph::default();
    graph.observe(identity("child"), &meta(&["owner"], &[], false));
    assert_eq!(graph.unseen(&kind("Thing")), [delete("child")]);
    assert_eq!(graph.unseen(&kind("Other")), []);
    graph.observe(identity("owner"), &meta(&[], &[], false));
    assert_eq!(graph.unseen(&kind("Thing")), []);
}

#[test]
fn what_was_observed_of_a_kind_can_be_compared_with_a_list() {
    let mut graph = Graph::default();
    graph.observe(identity("child"), &meta(&["owner"], &[], false));
    assert_eq!(graph.of_kind(&kind("Thing")).collect::<Vec<_>>(), [&"child".into()], "the owner is not known");
    assert_eq!(graph.of_kind(&kind("Other")).count(), 0);
}

#[test]
fn dependents_of_what_is_gone_are_looked_at() {
    let mut graph = Graph::default();
    graph.observe(identity("owner"), &meta(&[], &[], false));
    graph.observe(identity("child"), &meta(&["owner"], &[], false));
    assert_eq!(graph.remove(&"owner".into()), [delete("child")]);
    assert_eq!(graph.remove(&"child".into()), []);
    assert_eq!(graph.len(), 0, "nothing is kept of what nobody names");
}

#[test]
fn a_foreground_deletion_starts_with_the_dependents_and_ends_with_the_last() {
    let mut graph = Graph::default();
    graph.observe(identity("owner"), &meta(&[], &[], false));
    graph.observe(identity("child"), &meta(&["owner"], &[], false));
    let deleting = meta(&[], &[finalizer::FOREGROUND_DELETION], true);
    assert_eq!(graph.observe(identity("owner"), &deleting), [delete("child"), delete("owner")]);
    assert!(graph.get(&"child".into()).is_some_and(|n| n.blocks(&"owner".into())));
    assert_eq!(graph.remove(&"child".into()), [delete("owner")]);
}

#[test]
fn orphaning_is_asked_for_while_the_finalizer_is_there() {
    let mut graph = Graph::default();
    let deleting = meta(&[], &[finalizer::ORPHAN], true);
    assert_eq!(graph.observe(identity("owner"), &deleting), [Work::Orphan("owner".into())]);
    assert_eq!(graph.observe(identity("owner"), &meta(&[], &[], true)), []);
}
