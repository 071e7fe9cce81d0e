//! Which address families a Service has: `initIPFamilyFields` (KEP-563).

use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::net::IpFamily;

use super::fields::{is_headless, needs_cluster_ip};
use super::validation::cluster_ips as validate_cluster_ips;
use crate::allocator::ClusterIps;
use crate::errors::Errors;
use crate::value::{at, entries, is_set, items, same, set, string, strings};

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and cuts off what the client gives back by asking for SingleStack.
pub fn decide(service: &mut Value, old: Option<&Value>, cluster: &ClusterIps) -> Result<(), Vec<Error>> {
    // A change of the cluster does not change a Service that takes what it gets: its client has to ask.
    if !needs_cluster_ip(service) || old.is_some_and(|old| prefers_as_before(service, old)) {
        return Ok(());
    }
    if !is_set(service, "spec.ipFamilyPolicy") {
        let policy = default_policy(service, old);
        set(service, "spec.ipFamilyPolicy", policy);
    }
    let mut errors = Errors::default();
    validate_cluster_ips(service, &Path::new("spec"), &mut errors);
    stop_at(errors)?;

    let mut errors = Errors::default();
    if let Some(old) = old {
        shrink(service, old, &mut errors);
    }
    fits_policy(service, &mut errors);
    infer(service, cluster, &mut errors);
    stop_at(errors)?;

    if is_headless_without_selector(service) {
        // Endpoints that somebody else manages may be of any family.
        complete(service, cluster.primary(), true);
        return Ok(());
    }
    let mut errors = Errors::default();
    configured(service, cluster, &mut errors);
    stop_at(errors)?;
    complete(service, cluster.primary(), cluster.families().len() > 1);
    Ok(())
}

fn stop_at(errors: Errors) -> Result<(), Vec<Error>> {
    if errors.0.is_empty() { Ok(()) } else { Err(errors.0) }
}

/// `isMatchingPreferDualStackClusterIPFields`.
fn prefers_as_before(service: &Value, old: &Value) -> bool {
    let prefers = |service: &Value| string(service, "spec.ipFamilyPolicy") == "PreferDualStack";
    let unchanged = ["spec.type", "spec.clusterIPs", "spec.ipFamilies"];
    prefers(service) && prefers(old) && unchanged.iter().all(|field| same(at(service, field), at(old, field)))
}

fn default_policy(service: &Value, old: Option<&Value>) -> String {
    let before = old.map_or("", |old| string(old, "spec.ipFamilyPolicy"));
    match before {
        "" if is_headless_without_selector(service) => "RequireDualStack",
        "" => "SingleStack",
        before => before,
    }
    .to_owned()
}

fn is_headless_without_selector(service: &Value) -> bool {
    is_headless(service) && entries(service, "spec.selector").next().is_none()
}

fn is_single(service: &Value) -> bool {
    string(service, "spec.ipFamilyPolicy") == "SingleStack"
}

/// SingleStack alone is clear enough; lists that get shorter without it are not.
fn shrink(service: &mut Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("ipFamilyPolicy");
    for (field, what) in [("spec.clusterIPs", "cluster IP"), ("spec.ipFamilies", "IP family")] {
        let (count, before) = (items(service, field).len(), items(old, field).len());
        if !is_single(service) {
            if (1..before).contains(&count) {
                let detail = format!("must be 'SingleStack' to release the secondary {what}");
                errors.invalid(&path, at(service, "spec.ipFamilyPolicy").clone(), detail);
            }
        } else if count > 1 && same(at(service, field), at(old, field)) {
            let first = items(service, field)[..1].to_vec();
            set(service, field, first);
        }
    }
}

fn fits_policy(service: &Value, errors: &mut Errors) {
    if !is_single(service) {
        return;
    }
    let path = Path::new("spec").child("ipFamilyPolicy");
    for (field, what) in [("spec.clusterIPs", "cluster IPs"), ("spec.ipFamilies", "IP families")] {
        if items(service, field).len() == 2 {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.invalid(&path, at(service, "spec.ipFamilyPolicy").clone(), detail);
        }
    }
}

/// Families of addresses that the client chose.
fn infer(service: &mut Value, cluster: &ClusterIps, errors: &mut Errors) {
    let path = Path::new("spec").child("clusterIPs");
    let mut families: Vec<String> = strings(service, "spec.ipFamilies").map(str::to_owned).collect();
    let ips = strings(service, "spec.clusterIPs").enumerate().skip(families.len());
    for (index, ip) in ips.filter_map(|(index, ip)| Some((index, ip.parse().ok()?))) {
        let family = IpFamily::of(ip);
        if cluster.families().contains(&family) {
            families.push(family.as_str().to_owned());
        } else {
            let detail = format!("{} is not configured on this cluster", family.as_str());
            errors.invalid(&path.index(index), at(service, "spec.clusterIPs").clone(), detail);
        }
    }
    if !families.is_empty() {
        set(service, "spec.ipFamilies", json!(families));
    }
}

fn configured(service: &Value, cluster: &ClusterIps, errors: &mut Errors) {
    let path = Path::new("spec");
    if string(service, "spec.ipFamilyPolicy") == "RequireDualStack" && cluster.families().len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&path.child("ipFamilyPolicy"), at(service, "spec.ipFamilyPolicy").clone(), detail);
    }
    let is_configured = |name: &str| IpFamily::named(name).is_some_and(|family| cluster.families().contains(&family));
    for (index, family) in strings(service, "spec.ipFamilies").enumerate().filter(|(_, name)| !is_configured(name)) {
        errors.invalid(&path.child("ipFamilies").index(index), family, "not configured on this cluster");
    }
}

/// The primary family where none is named, and the other one where the policy wants both.
fn complete(service: &mut Value, primary: IpFamily, dual: bool) {
    let mut families: Vec<IpFamily> = strings(service, "spec.ipFamilies").filter_map(IpFamily::named).collect();
    if families.is_empty() {
        families.push(primary);
    }
    if let ([only], true) = (&families[..], dual && !is_single(service)) {
        families.push(only.other());
    }
    let names: Vec<&str> = families.into_iter().map(IpFamily::as_str).collect();
    set(service, "spec.ipFamilies", json!(names));
}
