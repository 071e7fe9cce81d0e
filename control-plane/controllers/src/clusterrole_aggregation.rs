//! Fills ClusterRoles that are made of others, as upstream's `clusterrole-aggregation-controller`.

use crate::{Context, control};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Error, Informer, Key, Outcome, Patch, PatchParams, Workqueue, is_not_found};
use xebec_types::object;
use xebec_types::rbac::{ClusterRole, PolicyRule};

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let roles: Arc<Informer<ClusterRole>> = context.informers.informer();
    let queue: Workqueue<Key> = Workqueue::new();
    let (sink, all) = (queue.clone(), Arc::clone(&roles));
    roles.on_change(move |_| {
        let snapshot = all.read();
        let aggregated = snapshot.iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| sink.add(Key::of(&role.metadata)));
    });
    roles.synced().await;
    let sync = |key: Key| {
        let (roles, context) = (&roles, &context);
        async move {
            let Some(role) = roles.get_key(&key) else { return Outcome::Done };
            let Some(rules) = step(&role, &roles.list()) else { return Outcome::Done };
            control::outcome("clusterrole", &key, write(context, &role, &rules).await.map(|()| Outcome::Done))
        }
    };
    queue.run(1, &stop, sync).await;
}

/// The rules to write, if they changed: those of every selected role, in the order of the selectors
/// and of the roles' names, each once.
#[must_use]
pub fn step(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.unwrap_or_default() {
        let selected = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name && object::selects(selector, other.metadata.labels.as_ref())
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

async fn write(context: &Context, role: &ClusterRole, rules: &[PolicyRule]) -> Result<(), Error> {
    let patch = json!({
        "metadata": {"resourceVersion": role.metadata.resource_version},
        "rules": rules,
    });
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    let name = object::name(&role.metadata);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_types::LabelSelector;
    use xebec_types::rbac::AggregationRule;

    fn role(name: &str, label: Option<&str>, resources: &[&str]) -> Arc<ClusterRole> {
        let rule = |resource: &&str| PolicyRule {
            resources: Some(vec![resource.to_string()]),
            verbs: vec!["get".into()],
            ..PolicyRule::default()
        };
        let mut role = ClusterRole::default();
        role.metadata.name = Some(name.into());
        role.metadata.labels = label.map(|l| [(l.to_string(), "true".to_string())].into());
        role.rules = Some(resources.iter().map(rule).collect());
        Arc::new(role)
    }

    #[test]
    fn an_aggregated_role_is_the_union_of_the_selected() {
        let mut edit = ClusterRole::default();
        edit.metadata.name = Some("edit".into());
        edit.aggregation_rule = Some(AggregationRule {
            cluster_role_selectors: Some(vec![LabelSelector {
                match_labels: Some([("to-edit".to_string(), "true".to_string())].into()),
                ..LabelSelector::default()
            }]),
        });
        let all = [
            role("a", Some("to-edit"), &["pods", "services"]),
            role("b", Some("to-edit"), &["services", "secrets"]),
            role("c", None, &["nodes"]),
        ];
        let rules = step(&edit, &all).expect("changed");
        let resources: Vec<_> = rules.iter().flat_map(|r| r.resources.iter().flatten()).collect();
        assert_eq!(resources, ["pods", "services", "secrets"]);
        edit.rules = Some(rules);
        assert!(step(&edit, &all).is_none());
        assert!(step(&all[0], &all).is_none(), "a plain role is left alone");
    }
}
