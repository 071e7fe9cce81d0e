//! What becomes of an object, given the truth about its owners.

use xebec_client::PropagationPolicy;
use xebec_types::{ObjectMeta, finalizer, object};

/// An owner as the server knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnerState {
    Solid,
    /// There is no object of this name and uid.
    Absent,
    /// It goes, in the foreground, after its dependents.
    WaitsForDependents,
}

#[derive(Clone, Debug)]
pub enum Action {
    None,
    /// Takes the references to these owners off.
    DropOwners(Vec<String>),
    Delete(PropagationPolicy),
}

/// `owners` are the object's references in order; `has_dependents` of its own.
#[must_use]
pub fn step(meta: &ObjectMeta, owners: &[OwnerState], has_dependents: bool) -> Action {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    if owners.is_empty() || object::is_being_deleted(meta) {
        return Action::None;
    }
    if owners.contains(&OwnerState::Solid) {
        let gone = owners.iter().zip(references).filter(|(state, _)| **state != OwnerState::Solid);
        let gone: Vec<String> = gone.map(|(_, reference)| reference.uid.clone()).collect();
        return if gone.is_empty() { Action::None } else { Action::DropOwners(gone) };
    }
    if owners.contains(&OwnerState::WaitsForDependents) && has_dependents {
        return Action::Delete(PropagationPolicy::Foreground);
    }
    // A policy that somebody asked for earlier stands.
    Action::Delete(if object::has_finalizer(meta, finalizer::ORPHAN) {
        PropagationPolicy::Orphan
    } else if object::has_finalizer(meta, finalizer::FOREGROUND_DELETION) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

#[cfg(test)]
mod tests {
    use super::OwnerState::{Absent, Solid, WaitsForDependents};
    use super::*;
    use xebec_types::OwnerReference;

    #[track_caller]
    fn check(owners: &[OwnerState], has_dependents: bool, expected: &str) {
        let reference = |n: usize| OwnerReference { uid: n.to_string(), ..OwnerReference::default() };
        let meta =
            ObjectMeta { owner_references: Some((0..owners.len()).map(reference).collect()), ..ObjectMeta::default() };
        let action = format!("{:?}", step(&meta, owners, has_dependents));
        assert_eq!(action, expected, "{owners:?}");
    }

    #[test]
    fn an_object_goes_with_its_last_owner() {
        check(&[], false, "None");
        check(&[Solid], false, "None");
        check(&[Absent], false, "Delete(Background)");
        check(&[Absent, Absent], true, "Delete(Background)");
        check(&[WaitsForDependents], false, "Delete(Background)");
        check(&[WaitsForDependents, Absent], true, "Delete(Foreground)");
    }

    #[test]
    fn one_solid_owner_keeps_it_and_the_others_are_dropped() {
        check(&[Absent, Solid, WaitsForDependents], false, r#"DropOwners(["0", "2"])"#);
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let now = xebec_types::time::time(xebec_types::time::now());
        let meta = ObjectMeta { deletion_timestamp: Some(now), ..ObjectMeta::default() };
        assert!(matches!(step(&meta, &[Absent], false), Action::None));
    }
}
