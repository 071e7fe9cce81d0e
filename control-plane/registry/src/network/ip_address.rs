//! IPAddresses and ServiceCIDRs: `ValidateIPAddress`, `ValidateServiceCIDR`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::meta;
use crate::names::{path_segment_name, subdomain};
use crate::strategy::{Column, Scope, Strategy, named};
use crate::value::{at, items, string, strings};

const CIDRS_MAX: usize = 2;

/// An address that a service has, under the address as name.
pub struct IpAddress;

impl Strategy for IpAddress {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        canonical_ip(name)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, address: &Value, errors: &mut Errors) {
        let (parent, path) = (at(address, "spec.parentRef"), Path::new("spec").child("parentRef"));
        if parent.is_null() {
            errors.required(&path, "");
            return;
        }
        // The group of services is the empty one.
        let group = string(parent, "group");
        if !group.is_empty() {
            subdomain(&path.child("group"), group, errors);
        }
        for field in ["resource", "name", "namespace"] {
            match string(parent, field) {
                "" if field == "namespace" => {}
                "" => errors.required(&path.child(field), ""),
                text => path_segment_name(&path.child(field), text, errors),
            }
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec").child("parentRef");
        errors.immutable(&path, at(new, "spec.parentRef"), at(old, "spec.parentRef"));
    }

    fn fields(&self, address: &Value) -> Vec<(&'static str, String)> {
        let parent = at(address, "spec.parentRef");
        vec![
            ("spec.parentRef.group", string(parent, "group").to_owned()),
            ("spec.parentRef.resource", string(parent, "resource").to_owned()),
            ("spec.parentRef.namespace", string(parent, "namespace").to_owned()),
            ("spec.parentRef.name", string(parent, "name").to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("ParentRef", "Who has the address.")] }
    }

    /// `printIPAddress`.
    fn row(&self, address: &Value, _now: OffsetDateTime) -> Vec<Value> {
        let parent = at(address, "spec.parentRef");
        let text = if parent.is_null() {
            "<none>".to_owned()
        } else {
            let parts = ["group", "resource", "namespace", "name"].map(|field| string(parent, field));
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        };
        vec![json!(meta::name(address)), json!(text)]
    }
}

/// A range that service addresses are taken from.
pub struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, range: &Value, errors: &mut Errors) {
        let (spec, path) = (at(range, "spec"), Path::new("spec").child("cidrs"));
        let cidrs: Vec<&str> = strings(spec, "cidrs").collect();
        let parsed: Vec<Option<IpNet>> = cidrs.iter().map(|cidr| cidr.parse().ok()).collect();
        let is_dual = match parsed[..] {
            [Some(a), Some(b)] => a.network().is_ipv4() != b.network().is_ipv4(),
            _ => false,
        };
        match cidrs.len() {
            0 => errors.required(&path, "at least one CIDR required"),
            count if count > CIDRS_MAX => errors.invalid(&path, spec.clone(), "may only hold up to 2 values"),
            CIDRS_MAX if !is_dual => {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.invalid(&path, spec.clone(), detail);
            }
            _ => {
                for (index, cidr) in cidrs.iter().enumerate() {
                    errors.invalid_each(&path.index(index), &json!(cidr), canonical_cidr(cidr));
                }
            }
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec").child("cidrs");
        let (before, after) = (items(old, "spec.cidrs"), items(new, "spec.cidrs"));
        // A cluster that becomes dual-stack adds a range of the other family.
        if before.len() == 1 && after.len() == CIDRS_MAX && before.first() == after.first() {
            self.validate_object(new, errors);
        } else {
            errors.immutable(&path, at(new, "spec.cidrs"), at(old, "spec.cidrs"));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("CIDRs", "The ranges, at most one of each family."), Column::AGE] }
    }

    fn row(&self, range: &Value, now: OffsetDateTime) -> Vec<Value> {
        let cidrs: Vec<&str> = strings(range, "spec.cidrs").collect();
        named(range, now, [json!(cidrs.join(","))])
    }
}

/// `IsValidIP`: an address, and in the one form that names it.
fn canonical_ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => validation::ip(text),
        Ok(address) if address.to_string() != text => vec![format!("must be in canonical form (\"{address}\")")],
        Ok(_) => Vec::new(),
    }
}

/// `IsValidCIDR`: a range, named by its first address.
fn canonical_cidr(text: &str) -> Vec<String> {
    match text.parse::<IpNet>() {
        Err(_) => validation::cidr(text),
        Ok(range) if range.trunc().to_string() != text => {
            vec![format!("must be in canonical form (\"{}\")", range.trunc())]
        }
        Ok(_) => Vec::new(),
    }
}
