//! CSIDrivers, CSINodes and CSIStorageCapacities: `ValidateCSIDriver`, `ValidateCSINode`, `ValidateCSIStorageCapacity`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::driver_name;
use crate::errors::Errors;
use crate::meta;
use crate::names::{NOT_NEGATIVE, not_negative, subdomain};
use crate::pod::resources::quantity;
use crate::strategy::{Column, Scope, Strategy, age, named};
use crate::value::{at, default, integer, is_set, items, remove, same, string, strings};

const FS_GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const LIFECYCLES: &[&str] = &["Persistent", "Ephemeral"];
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const NODE_ID_BYTES_MAX: usize = 192;

pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    /// `SetDefaults_CSIDriver`.
    fn default(&self, driver: &mut Value) {
        let Some(spec) = driver.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default(spec, "attachRequired", true);
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, field, false);
        }
        if items(spec, "volumeLifecycleModes").is_empty() {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, driver: &Value, errors: &mut Errors) {
        let (spec, path) = (at(driver, "spec"), Path::new("spec"));
        // Upstream names the first of them so.
        let required = [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ];
        for (_, name) in required.into_iter().filter(|(field, _)| !is_set(spec, field)) {
            errors.required(&path.child(name), "");
        }
        if let Some(policy) = at(spec, "fsGroupPolicy").as_str().filter(|policy| !FS_GROUP_POLICIES.contains(policy)) {
            errors.not_supported(&path.child("fsGroupPolicy"), policy, FS_GROUP_POLICIES);
        }
        token_requests(items(spec, "tokenRequests"), &path.child("tokenRequests"), errors);
        for mode in strings(spec, "volumeLifecycleModes").filter(|mode| !LIFECYCLES.contains(mode)) {
            errors.not_supported(&path.child("volumeLifecycleModes"), mode, LIFECYCLES);
        }
        let period = integer(spec, "nodeAllocatableUpdatePeriodSeconds");
        if let Some(period) = period.filter(|period| *period < UPDATE_PERIOD_SECONDS_MIN) {
            let path = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.invalid(&path, period, "must be greater than or equal to 10 seconds");
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        let path = Path::new("spec");
        for (field, name) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            errors.immutable(&path.child(name), at(at(new, "spec"), field), at(at(old, "spec"), field));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column {
                    kind: "boolean",
                    ..Column::string("AttachRequired", "Whether volumes are attached to nodes.")
                },
                Column { kind: "boolean", ..Column::string("PodInfoOnMount", "Whether the driver is told of pods.") },
                Column {
                    kind: "boolean",
                    ..Column::string("StorageCapacity", "Whether the driver tells what is left.")
                },
                Column::string("TokenRequests", "The audiences of the tokens that the driver gets."),
                Column { kind: "boolean", ..Column::string("RequiresRepublish", "Whether mounts are refreshed.") },
                Column::string("Modes", "The kinds of volumes that the driver has."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, driver: &Value, now: OffsetDateTime) -> Vec<Value> {
        let spec = at(driver, "spec");
        let flag = |field, default| json!(at(spec, field).as_bool().unwrap_or(default));
        let audiences: Vec<&str> = items(spec, "tokenRequests").iter().map(|r| string(r, "audience")).collect();
        let tokens = if is_set(spec, "tokenRequests") { audiences.join(",") } else { "<unset>".to_owned() };
        let modes: Vec<&str> = strings(spec, "volumeLifecycleModes").collect();
        vec![
            json!(meta::name(driver)),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            json!(tokens),
            flag("requiresRepublish", false),
            json!(if modes.is_empty() { "<none>".to_owned() } else { modes.join(",") }),
            age(driver, now),
        ]
    }
}

/// `validateTokenRequests`.
fn token_requests(requests: &[Value], path: &Path, errors: &mut Errors) {
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        let audience = string(request, "audience");
        if requests[..index].iter().any(|earlier| string(earlier, "audience") == audience) {
            errors.duplicate(&path.child("audience"), audience);
            continue;
        }
        let Some(seconds) = integer(request, "expirationSeconds") else { continue };
        let path = path.child("expirationSeconds");
        if seconds < TOKEN_SECONDS_MIN {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > TOKEN_SECONDS_MAX {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

/// The drivers of a node.
pub struct CsiNode;

impl Strategy for CsiNode {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn validate_object(&self, node: &Value, errors: &mut Errors) {
        let drivers = items(node, "spec.drivers");
        for (index, driver) in drivers.iter().enumerate() {
            let path = Path::new("spec").child("drivers").index(index);
            let name = string(driver, "name");
            driver_name(name, &path.child("name"), errors);
            match string(driver, "nodeID") {
                "" => errors.required(&path.child("nodeID"), ""),
                id if id.len() > NODE_ID_BYTES_MAX => {
                    let detail = format!("must be {NODE_ID_BYTES_MAX} characters or less");
                    errors.invalid(&path.child("nodeID"), id, detail);
                }
                _ => {}
            }
            not_negative(at(driver, "allocatable"), "count", &path.child("allocatable"), errors);
            if drivers[..index].iter().any(|earlier| string(earlier, "name") == name) {
                errors.duplicate(&path.child("name"), name);
            }
            let keys: Vec<&str> = strings(driver, "topologyKeys").collect();
            for (index, key) in keys.iter().enumerate() {
                if key.is_empty() {
                    errors.required(&path, "");
                }
                if keys[..index].contains(key) {
                    errors.duplicate(&path, *key);
                }
                errors.invalid_each(&path, &json!(key), validation::qualified_name(key));
            }
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            remove(&mut driver, "allocatable");
            driver
        };
        for before in items(old, "spec.drivers") {
            let name = string(before, "name");
            let same_name = items(new, "spec.drivers").iter().filter(|driver| string(driver, "name") == name);
            for after in same_name {
                errors.immutable(&Path::new("spec").child("drivers"), &fixed(after), &fixed(before));
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::integer("Drivers", "How many drivers the node has."), Column::AGE] }
    }

    fn row(&self, node: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(node, now, [json!(items(node, "spec.drivers").len())])
    }
}

/// What a driver has left for a class in a part of the cluster.
pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate_object(&self, capacity: &Value, errors: &mut Errors) {
        meta::label_selector(at(capacity, "nodeTopology"), &Path::new("nodeTopology"), errors);
        subdomain(&Path::new("storageClassName"), string(capacity, "storageClassName"), errors);
        if let Some(left) = quantity(at(capacity, "capacity")).filter(|left| left.is_negative()) {
            errors.invalid(&Path::new("capacity"), left.to_string(), NOT_NEGATIVE);
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["nodeTopology", "storageClassName"] {
            if !same(at(new, field), at(old, field)) {
                errors.invalid(&Path::new(field), at(new, field).clone(), "field is immutable");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("StorageClassName", "The class of the volumes."),
                Column::string("Capacity", "How much is left."),
            ]
        }
    }

    fn row(&self, capacity: &Value, _now: OffsetDateTime) -> Vec<Value> {
        let left = quantity(at(capacity, "capacity")).map_or_else(|| "<unset>".to_owned(), |left| left.to_string());
        vec![json!(meta::name(capacity)), json!(string(capacity, "storageClassName")), json!(left)]
    }
}
