//! Security contexts of pods and containers.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::volume::local_descending_path;
use crate::errors::Errors;
use crate::names::{ID_RANGE, id};
use crate::value::{at, boolean, is_set, items, string, strings};

const SECCOMP: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// `ValidateSecurityContext` of a container.
pub fn container(context: &Value, path: &Path, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    id(context, "runAsUser", path, errors);
    id(context, "runAsGroup", path, errors);
    profiles(context, path, errors);
    let proc_mount = string(context, "procMount");
    if !["", "Default", "Unmasked"].contains(&proc_mount) {
        errors.not_supported(&path.child("procMount"), proc_mount, &["Default", "Unmasked"]);
    }
    if at(context, "allowPrivilegeEscalation").as_bool() == Some(false) {
        if boolean(context, "privileged") {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if strings(context, "capabilities.add").any(|capability| capability == "CAP_SYS_ADMIN") {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}

/// `validatePodSpecSecurityContext`.
pub fn pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let context = at(spec, "securityContext");
    let path = path.child("securityContext");
    if boolean(spec, "hostPID") && boolean(spec, "shareProcessNamespace") {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, &path, errors);
    }
    for (index, group) in items(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or(-1);
        if !(0..=i64::from(i32::MAX)).contains(&group) {
            errors.invalid(&path.child("supplementalGroups").index(index), group, ID_RANGE);
        }
    }
    for (field, supported) in
        [("fsGroupChangePolicy", ["Always", "OnRootMismatch"]), ("supplementalGroupsPolicy", ["Merge", "Strict"])]
    {
        let value = string(context, field);
        if is_set(context, field) && !supported.contains(&value) {
            errors.not_supported(&path.child(field), value, &supported);
        }
    }
    sysctls(context, boolean(spec, "hostNetwork"), boolean(spec, "hostIPC"), &path.child("sysctls"), errors);
    profiles(context, &path, errors);
}

fn profiles(context: &Value, path: &Path, errors: &mut Errors) {
    for (field, word) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let profile = at(context, field);
        if profile.is_null() {
            continue;
        }
        let path = path.child(field);
        let local = at(profile, "localhostProfile").as_str();
        match (string(profile, "type"), local) {
            ("Localhost", None | Some("")) => {
                errors.required(&path.child("localhostProfile"), format!("must be set when {word} type is Localhost"));
            }
            ("Localhost", Some(local)) => local_descending_path(local, &path.child("localhostProfile"), errors),
            ("", _) => errors.required(&path.child("type"), format!("type is required when {field} is set")),
            (kind, local) => {
                if let Some(local) = local {
                    errors.invalid(
                        &path.child("localhostProfile"),
                        local,
                        format!("can only be set when {word} type is Localhost"),
                    );
                }
                if !SECCOMP.contains(&kind) {
                    errors.not_supported(&path.child("type"), kind, SECCOMP);
                }
            }
        }
    }
}

fn sysctls(context: &Value, host_network: bool, host_ipc: bool, path: &Path, errors: &mut Errors) {
    const FORM: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = Vec::new();
    for (index, sysctl) in items(context, "sysctls").iter().enumerate() {
        let (name, path) = (string(sysctl, "name"), path.index(index).child("name"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if !is_sysctl(name) {
            errors.invalid(&path, name, format!("must have at most 253 characters and match regex {FORM}"));
        } else if host_network && name.replace('/', ".").starts_with("net.") {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if host_ipc
            && (name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name.starts_with("fs.mqueue."))
        {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
        if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        seen.push(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(outer)
                && bytes.last().copied().is_some_and(outer)
                && bytes.iter().all(|b| outer(*b) || b"-_".contains(b))
        })
}
