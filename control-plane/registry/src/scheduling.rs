//! PriorityClasses: `ValidatePriorityClass`. That one class at most is the default is the Priority plugin's to see.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::meta;
use crate::strategy::{Column, Scope, Strategy, age};
use crate::value::{at, boolean, default, integer, string};

const SYSTEM_PREFIX: &str = "system-";
/// `scheduling.HighestUserDefinablePriority`.
const USER_VALUE_MAX: i64 = 1_000_000_000;
/// `scheduling.SystemPriorityClasses`.
pub const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2 * USER_VALUE_MAX,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2 * USER_VALUE_MAX + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
const POLICIES: &[&str] = &["Never", "PreemptLowerPriority"];

pub struct PriorityClass;

impl Strategy for PriorityClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, class: &mut Value) {
        default(class, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn spec_changed(&self, _new: &Value, _old: &Value) -> bool {
        false
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        let (name, value) = (meta::name(class), integer(class, "value").unwrap_or(0));
        if name.starts_with(SYSTEM_PREFIX) {
            if let Err(why) = known_system_class(name, value, boolean(class, "globalDefault")) {
                let detail = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.forbidden(&Path::new("metadata").child("name"), detail);
            }
        } else if value > USER_VALUE_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            errors.forbidden(&Path::new("value"), detail);
        }
        let path = Path::new("preemptionPolicy");
        match at(class, "preemptionPolicy").as_str() {
            Some("") => errors.required(&path, ""),
            Some(policy) if !POLICIES.contains(&policy) => {
                errors.not_supported(&path, policy, &["PreemptLowerPriority", "Never"]);
            }
            _ => {}
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if integer(new, "value").unwrap_or(0) != integer(old, "value").unwrap_or(0) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let field = "preemptionPolicy";
        errors.immutable(&Path::new(field), at(new, field), at(old, field));
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Value", "The priority of pods of the class."),
                Column { kind: "boolean", ..Column::string("Global-Default", "Whether pods without class have it.") },
                Column::AGE,
                Column::string("PreemptionPolicy", "Whether pods of the class drive others away."),
            ]
        }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        vec![
            json!(meta::name(class)),
            json!(integer(class, "value").unwrap_or(0)),
            json!(boolean(class, "globalDefault")),
            age(class, now),
            json!(string(class, "preemptionPolicy")),
        ]
    }
}

/// `IsKnownSystemPriorityClass`.
fn known_system_class(name: &str, value: i64, is_default: bool) -> Result<(), String> {
    match SYSTEM.iter().find(|(known, ..)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, expected, _)) if *expected != value => {
            Err(format!("value of {name} PriorityClass must be {expected}"))
        }
        Some(_) if is_default => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(class: Value, expected: &[&str]) {
        let mut class = class;
        PriorityClass.default(&mut class);
        let errors: Vec<String> = PriorityClass.validate(&class).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn the_names_and_values_of_the_system_are_reserved() {
        check(json!({"metadata": {"name": "a"}, "value": USER_VALUE_MAX}), &[]);
        check(
            json!({"metadata": {"name": "a"}, "value": USER_VALUE_MAX + 1}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        check(json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), &[]);
        check(
            json!({"metadata": {"name": "system-node-critical"}, "value": 1}),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
            ],
        );
        check(
            json!({"metadata": {"name": "system-x"}, "value": 1}),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
            ],
        );
        check(
            json!({"metadata": {"name": "a"}, "value": 1, "preemptionPolicy": "Maybe"}),
            &["preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\""],
        );
    }

    #[test]
    fn value_and_preemption_stay() {
        let old = json!({"metadata": {"name": "a"}, "value": 1, "preemptionPolicy": "Never", "globalDefault": false});
        let mut new = old.clone();
        new["globalDefault"] = json!(true);
        assert_eq!(PriorityClass.validate_update(&new, &old), []);
        new["value"] = json!(2);
        new["preemptionPolicy"] = json!("PreemptLowerPriority");
        let errors: Vec<String> = PriorityClass.validate_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"PreemptLowerPriority\": field is immutable"
            ]
        );
    }
}
