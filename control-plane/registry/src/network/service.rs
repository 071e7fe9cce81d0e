//! Services: `pkg/registry/core/service`, `ValidateService`.

pub mod allocation;

mod families;
mod fields;
mod load_balancing;
mod print;
mod validation;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::errors::Errors;
use crate::strategy::{Column, Context, Strategy};
use crate::value::{at, default, default_string, is_set, items_mut, keep, remove, set, string};

pub use fields::{is_headless, needs_cluster_ip, needs_node_port};
pub use load_balancing::weight_warnings;
pub use validation::{non_special_ip, validate_status as validate_load_balancer};

const AFFINITY_SECONDS: i64 = 10_800;

pub struct Service;

impl Strategy for Service {
    /// Names of services are DNS labels that start with a letter, as their environment variables and records need.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { crate::meta::mask_trailing_dash(name) } else { name.to_owned() };
        xebec_machinery::validation::dns1035_label(&name)
    }

    fn default(&self, service: &mut Value) {
        let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default_string(spec, "sessionAffinity", "None");
        if string(spec, "sessionAffinity") == "None" {
            remove(spec, "sessionAffinityConfig");
        } else if string(spec, "sessionAffinity") == "ClientIP"
            && !is_set(spec, "sessionAffinityConfig.clientIP.timeoutSeconds")
        {
            set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
        }
        default_string(spec, "type", "ClusterIP");
        for port in items_mut(spec, "ports") {
            default_string(port, "protocol", "TCP");
            if [json!(null), json!(0), json!("")].contains(at(port, "targetPort")) {
                port["targetPort"] = port["port"].clone();
            }
        }
        if fields::externally_accessible(spec) {
            default_string(spec, "externalTrafficPolicy", "Cluster");
        }
        if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&string(spec, "type")) {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if string(spec, "type") == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
            for ingress in items_mut(service, "status.loadBalancer.ingress") {
                if !string(ingress, "ip").is_empty() {
                    default(ingress, "ipMode", "VIP");
                }
            }
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, service: &mut Value) {
        service["status"] = json!({"loadBalancer": {}});
        fields::normalize(service, None);
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        fields::patch_allocated(new, old);
        fields::normalize(new, Some(old));
        fields::drop_of_other_types(new, old);
    }

    fn validate_object(&self, service: &Value, errors: &mut Errors) {
        validation::validate(service, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validation::validate_update(new, old, errors);
        validation::validate(new, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validation::validate_status(new, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        load_balancing::service_warnings(new)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn fields(&self, service: &Value) -> Vec<(&'static str, String)> {
        ["spec.clusterIP", "spec.type"].map(|path| (path, string(service, path).to_owned())).to_vec()
    }

    fn columns(&self) -> &'static [Column] {
        print::COLUMNS
    }

    fn row(&self, service: &Value, now: OffsetDateTime) -> Vec<Value> {
        print::row(service, now)
    }
}

#[cfg(test)]
mod tests;
