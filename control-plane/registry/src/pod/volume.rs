//! Volumes and their mounts.

use serde_json::{Value, json};
use xebec_machinery::field::Path;

use super::env::{VOLUME_FIELDS, field_ref, resource_field_ref};
use crate::core::persistent_volume_claim;
use crate::errors::Errors;
use crate::meta;
use crate::names::{label, reference_name};
use crate::storage::driver_name;
use crate::value::{at, boolean, integer, is_set, items, string};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// `ValidateVolumes`.
pub fn volumes(volumes: &[Value], path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        source(volume, &path, errors);
        let name = string(volume, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            label(&path.child("name"), name, errors);
        }
        if names.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        names.push(name);
    }
}

/// `ValidateVolumeMounts`.
pub fn mounts(container: &Value, volumes: &[Value], path: &Path, errors: &mut Errors) {
    let mut paths = Vec::new();
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let (name, at_path) = (string(mount, "name"), string(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.iter().any(|volume| string(volume, "name") == name) {
            errors.not_found(&path.child("name"), name);
        }
        if at_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if paths.contains(&at_path) {
            errors.invalid(&path.child("mountPath"), at_path, "must be unique");
        }
        paths.push(at_path);
        mount_paths(mount, &path, errors);
        propagation(mount, boolean(container, "securityContext.privileged"), &path, errors);
    }
}

/// `validateLocalDescendingPath`: relative, and never upwards.
pub fn local_descending_path(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, errors);
}

fn mount_paths(mount: &Value, path: &Path, errors: &mut Errors) {
    let (sub_path, expression) = (string(mount, "subPath"), string(mount, "subPathExpr"));
    if !sub_path.is_empty() {
        local_descending_path(sub_path, &path.child("subPath"), errors);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            errors.invalid(&path.child("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive");
        }
        local_descending_path(expression, &path.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &Value, privileged: bool, path: &Path, errors: &mut Errors) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    let Some(mode) = at(mount, "mountPropagation").as_str() else { return };
    let path = path.child("mountPropagation");
    if !MODES.contains(&mode) {
        errors.not_supported(&path, mode, MODES);
    } else if mode == "Bidirectional" && !privileged {
        errors.forbidden(&path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

/// `validateVolumeSource`: exactly one, and that one valid.
fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let sources =
        volume.as_object().into_iter().flatten().filter(|(field, value)| *field != "name" && !value.is_null());
    let mut found = 0;
    for (kind, source) in sources {
        let path = path.child(kind);
        if found > 0 {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        found += 1;
        match kind.as_str() {
            "emptyDir" => empty_dir(source, &path, errors),
            "hostPath" => host_path(source, &path, errors),
            "secret" => {
                if string(source, "secretName").is_empty() {
                    errors.required(&path.child("secretName"), "");
                }
                files(source, &path, errors);
            }
            "configMap" => {
                reference_name(source, &path, errors);
                files(source, &path, errors);
            }
            "downwardAPI" => {
                mode(source, "defaultMode", &path, errors);
                downward_files(source, &path, errors);
            }
            "projected" => projected(source, &path, errors),
            "ephemeral" => ephemeral(source, &path, errors),
            "csi" => csi(source, &path, errors),
            "persistentVolumeClaim" if string(source, "claimName").is_empty() => {
                errors.required(&path.child("claimName"), "")
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

/// `validateEphemeralVolumeSource`: the claim that the pod will own.
fn ephemeral(source: &Value, path: &Path, errors: &mut Errors) {
    let (template, path) = (at(source, "volumeClaimTemplate"), path.child("volumeClaimTemplate"));
    if template.is_null() {
        errors.required(&path, "");
        return;
    }
    meta::labels(at(template, "metadata.labels"), &path.child("metadata").child("labels"), errors);
    meta::annotations(at(template, "metadata.annotations"), &path.child("metadata").child("annotations"), errors);
    persistent_volume_claim::spec(at(template, "spec"), &path.child("spec"), errors);
}

fn csi(source: &Value, path: &Path, errors: &mut Errors) {
    driver_name(string(source, "driver"), &path.child("driver"), errors);
    if is_set(source, "nodePublishSecretRef") && string(source, "nodePublishSecretRef.name").is_empty() {
        errors.required(&path.child("nodePublishSecretRef").child("name"), "");
    }
}

fn empty_dir(source: &Value, path: &Path, errors: &mut Errors) {
    if super::resources::quantity(at(source, "sizeLimit")).is_some_and(|limit| limit.is_negative()) {
        errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

/// `validateHostPathVolumeSource`.
pub fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    let target = string(source, "path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(target, &path.child("path"), errors);
    let kind = string(source, "type");
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, HOST_PATH_TYPES);
    }
}

fn files(source: &Value, path: &Path, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        if string(item, "key").is_empty() {
            errors.required(&path.child("key"), "");
        }
        file_path(item, &path, errors);
        mode(item, "mode", &path, errors);
    }
}

fn downward_files(source: &Value, path: &Path, errors: &mut Errors) {
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        file_path(item, &path, errors);
        match (is_set(item, "fieldRef"), is_set(item, "resourceFieldRef")) {
            (true, both) => {
                field_ref(at(item, "fieldRef"), VOLUME_FIELDS, &path.child("fieldRef"), errors);
                if both {
                    errors.invalid(
                        &path,
                        "resource",
                        "fieldRef and resourceFieldRef can not be specified simultaneously",
                    );
                }
            }
            (false, true) => {
                resource_field_ref(at(item, "resourceFieldRef"), true, &path.child("resourceFieldRef"), errors)
            }
            (false, false) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(source: &Value, path: &Path, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    let mut written: Vec<&str> = Vec::new();
    for (index, projection) in items(source, "sources").iter().enumerate() {
        let path = path.child("sources").index(index);
        let mut kinds = 0;
        for (kind, source) in projection.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let kind_path = path.child(kind);
            kinds += 1;
            if kinds > 1 {
                errors.forbidden(&kind_path, "may not specify more than 1 volume type per source");
                continue;
            }
            let paths: Vec<&str> = match kind.as_str() {
                "serviceAccountToken" => {
                    token(source, &kind_path, errors);
                    vec![string(source, "path")]
                }
                "downwardAPI" => {
                    downward_files(source, &kind_path, errors);
                    items(source, "items").iter().map(|item| string(item, "path")).collect()
                }
                _ => {
                    if kind != "clusterTrustBundle" && kind != "podCertificate" {
                        reference_name(source, &kind_path, errors);
                    }
                    files(source, &kind_path, errors);
                    items(source, "items").iter().map(|item| string(item, "path")).collect()
                }
            };
            for target in paths {
                if !target.is_empty() && written.contains(&target) {
                    errors.invalid(&path, string(source, "name"), format!("conflicting duplicate paths: {target}"));
                }
                written.push(target);
            }
        }
    }
}

fn token(source: &Value, path: &Path, errors: &mut Errors) {
    if let Some(seconds) = integer(source, "expirationSeconds") {
        if seconds < TOKEN_SECONDS_MIN {
            errors.invalid(
                &path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        } else if seconds > TOKEN_SECONDS_MAX {
            errors.invalid(
                &path.child("expirationSeconds"),
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
    }
    file_path(source, path, errors);
}

/// A required `path` that stays inside the volume and out of its bookkeeping (`..data`).
fn file_path(item: &Value, path: &Path, errors: &mut Errors) {
    let (target, path) = (string(item, "path"), path.child("path"));
    if target.is_empty() {
        errors.required(&path, "");
        return;
    }
    local_descending_path(target, &path, errors);
    // `..` and `../` were reported as back steps.
    if target.starts_with("..") && target != ".." && !target.starts_with("../") {
        errors.invalid(&path, target, "must not start with '..'");
    }
}

fn mode(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(mode) = integer(object, field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), json!(mode), MODE);
    }
}

fn no_backsteps(target: &str, path: &Path, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}
