//! Which nodes a pod may go to: readers over taints and node selectors.

use crate::core::{NodeSelectorRequirement, NodeSelectorTerm, Toleration};

/// `Toleration.ToleratesTaint` of upstream's core/v1, with the numeric operators of 1.35.
#[must_use]
pub fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let is = |field: &Option<String>, expected: &str| field.as_deref().is_none_or(|f| f.is_empty() || f == expected);
    if !is(&toleration.effect, effect) || !is(&toleration.key, key) {
        return false;
    }
    let tolerated = toleration.value.as_deref().unwrap_or_default();
    let compare = |holds: fn(&i64, &i64) -> bool| match (value.parse::<i64>(), tolerated.parse::<i64>()) {
        (Ok(value), Ok(tolerated)) => holds(&value, &tolerated),
        _ => false,
    };
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => tolerated == value,
        "Exists" => true,
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// Whether a term selects the node that has this name and these labels. An empty term selects none.
#[must_use]
pub fn term_selects<'n>(term: &NodeSelectorTerm, name: &'n str, label: impl Fn(&str) -> Option<&'n str>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(name);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let compare = |holds: fn(&i64, &i64) -> bool| match (value.map(str::parse::<i64>), values) {
        (Some(Ok(value)), [bound]) => bound.parse().is_ok_and(|bound| holds(&value, &bound)),
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}
