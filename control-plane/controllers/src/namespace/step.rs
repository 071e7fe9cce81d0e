//! What a namespace that is being deleted needs next.

use std::collections::BTreeMap;
use xebec_types::core::{Namespace, NamespaceCondition};
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, finalizer, object};

/// What is in the namespace after everything was asked to go.
#[derive(Default, Debug)]
pub struct Content {
    /// Why the served kinds are not known.
    pub undiscovered: Option<String>,
    /// Objects left, by `RESOURCE.GROUP`; a dot ends those of the core group.
    pub remaining: BTreeMap<String, usize>,
    /// Objects left, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// Why a kind's objects could not be deleted.
    pub failures: BTreeMap<String, String>,
}

/// What is left of a kind.
#[derive(Default)]
pub struct Left {
    pub objects: usize,
    pub finalizers: Vec<String>,
}

impl Content {
    pub fn add(&mut self, kind: String, left: Result<Left, String>) {
        match left {
            Ok(Left { objects: 0, .. }) => {}
            Ok(left) => {
                for finalizer in left.finalizers {
                    *self.finalizers.entry(finalizer).or_default() += 1;
                }
                self.remaining.insert(kind, left.objects);
            }
            Err(why) => _ = self.failures.insert(kind, why),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.undiscovered.is_none() && self.remaining.is_empty() && self.failures.is_empty()
    }
}

#[derive(Debug)]
pub enum Step {
    Finalize,
    /// With the conditions to write, if they changed.
    Wait {
        conditions: Option<Vec<NamespaceCondition>>,
    },
}

#[must_use]
pub fn step(namespace: &Namespace, content: &Content, now: Timestamp) -> Step {
    if content.is_empty() {
        return Step::Finalize;
    }
    let known = namespace.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut conditions = conditions(content);
    for new in &mut conditions {
        let old = known.iter().find(|c| c.type_ == new.type_);
        let since = old.filter(|c| c.status == new.status).and_then(|c| c.last_transition_time.clone());
        new.last_transition_time = since.or(Some(time::time(now)));
    }
    let same = conditions.iter().all(|c| known.contains(c));
    Step::Wait { conditions: (!same).then_some(conditions) }
}

/// Whether the namespace still waits for us.
pub(super) fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten());
    object::is_being_deleted(&namespace.metadata) && finalizers.into_iter().any(|f| f == finalizer::KUBERNETES)
}

pub(super) fn finalized(namespace: &Namespace) -> Namespace {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != finalizer::KUBERNETES);
    }
    namespace
}

fn conditions(content: &Content) -> Vec<NamespaceCondition> {
    let failures: Vec<String> = content.failures.iter().map(|(kind, why)| format!("{kind}: {why}")).collect();
    let remaining: Vec<String> =
        content.remaining.iter().map(|(kind, count)| format!("{kind} has {count} resource instances")).collect();
    let finalizers: Vec<String> = content
        .finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    vec![
        make(
            "NamespaceDeletionDiscoveryFailure",
            content.undiscovered.clone(),
            "DiscoveryFailed",
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        make(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "GroupVersionParsingFailed",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        make(
            "NamespaceDeletionContentFailure",
            joined("Failed to delete all resource types: ", &failures),
            "ContentDeletionFailed",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        make(
            "NamespaceContentRemaining",
            joined("Some resources are remaining: ", &remaining),
            "SomeResourcesRemain",
            ("ContentRemoved", "All content successfully removed"),
        ),
        make(
            "NamespaceFinalizersRemaining",
            joined("Some content in the namespace has finalizers remaining: ", &finalizers),
            "SomeFinalizersRemain",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

fn joined(prefix: &str, parts: &[String]) -> Option<String> {
    (!parts.is_empty()).then(|| format!("{prefix}{}", parts.join(", ")))
}

fn make(
    kind: &str,
    problem: Option<String>,
    reason: &str,
    (good_reason, good_message): (&str, &str),
) -> NamespaceCondition {
    let is_bad = problem.is_some();
    NamespaceCondition {
        type_: kind.into(),
        status: if is_bad { condition::TRUE } else { condition::FALSE }.into(),
        reason: Some(if is_bad { reason } else { good_reason }.into()),
        message: Some(problem.unwrap_or_else(|| good_message.into())),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_types::core::{NamespaceSpec, NamespaceStatus};

    fn namespace() -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.deletion_timestamp = Some(time::time(Timestamp::UNIX_EPOCH));
        namespace.spec = Some(NamespaceSpec { finalizers: Some(vec!["mine".into(), finalizer::KUBERNETES.into()]) });
        namespace
    }

    #[test]
    fn an_empty_namespace_is_finalized() {
        let step = step(&namespace(), &Content::default(), Timestamp::UNIX_EPOCH);
        assert!(matches!(step, Step::Finalize));
        let left = finalized(&namespace()).spec.and_then(|s| s.finalizers);
        assert_eq!(left, Some(vec!["mine".to_string()]));
    }

    #[test]
    fn what_remains_is_told_once() {
        let content = Content {
            remaining: [("pods.".to_string(), 2)].into(),
            finalizers: [("example.com/hold".to_string(), 1)].into(),
            ..Content::default()
        };
        let mut namespace = namespace();
        let first = step(&namespace, &content, Timestamp::UNIX_EPOCH);
        let Step::Wait { conditions: Some(conditions) } = first else { panic!("not empty") };
        let message = |kind: &str| {
            let c = conditions.iter().find(|c| c.type_ == kind && c.status == "True");
            c.and_then(|c| c.message.clone()).unwrap_or_default()
        };
        let remaining = message("NamespaceContentRemaining");
        assert_eq!(remaining, "Some resources are remaining: pods. has 2 resource instances");
        assert!(message("NamespaceFinalizersRemaining").contains("example.com/hold"));
        namespace.status = Some(NamespaceStatus { conditions: Some(conditions.clone()), ..NamespaceStatus::default() });
        let again = step(&namespace, &content, Timestamp::UNIX_EPOCH);
        assert!(matches!(again, Step::Wait { conditions: None }));
    }
}
