//! One container as CRI wants it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use xebec_cri::v1;
use xebec_types::core::{Container, Pod, SecurityContext};

use crate::config::Config;
use crate::env;
use crate::pod::{self, PodRef};
use crate::qos::{self, Amount};
use crate::runtime::key;
use crate::sandbox;
use crate::volume::Mounted;

/// What a container's config is made from besides the pod.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub restart_count: u32,
    pub env: Vec<(String, String)>,
    pub volumes: &'a HashMap<String, Mounted>,
    pub image: &'a v1::Image,
    pub memory_capacity: i64,
    /// The id of the container whose processes this one sees.
    pub target_id: Option<String>,
}

/// upstream's `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

type Result<T> = std::result::Result<T, ConfigError>;

pub fn config(inputs: &Inputs<'_>, config: &Config) -> Result<v1::ContainerConfig> {
    let (pod, container) = (inputs.pod, inputs.container);
    let reference = PodRef::of(pod);
    verify_non_root(inputs)?;
    let lookup = |name: &str| inputs.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expand = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| env::expand(word, lookup)).collect();
    let mut mounts = volume_mounts(inputs)?;
    mounts.extend(own_mounts(inputs, config, &mounts)?);
    let log_path = format!("{}/{}.log", container.name, inputs.restart_count);
    make_dir(&config.log_dir(&reference).join(&container.name))?;
    let tty = container.tty.unwrap_or(false);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: inputs.restart_count }),
        image: Some(v1::ImageSpec {
            image: inputs.image.id.clone(),
            user_specified_image: pod::image(container).to_owned(),
            ..v1::ImageSpec::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.iter().map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts,
        labels: labels(&reference, container),
        annotations: annotations(inputs),
        log_path,
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod, container, inputs.memory_capacity)),
            security_context: Some(security(pod, container, inputs.target_id.as_deref())),
        }),
        ..v1::ContainerConfig::default()
    })
}

fn labels(reference: &PodRef, container: &Container) -> HashMap<String, String> {
    let mut labels = sandbox::pod_labels(reference);
    labels.insert(key::CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn termination_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

fn annotations(inputs: &Inputs<'_>) -> HashMap<String, String> {
    let container = inputs.container;
    let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned());
    let pairs = [
        (key::CONTAINER_HASH, pod::container_hash(container)),
        (key::RESTART_COUNT, inputs.restart_count.to_string()),
        (key::TERMINATION_MESSAGE_PATH, termination_path(container).to_owned()),
        (key::TERMINATION_MESSAGE_POLICY, policy),
        (key::GRACE_PERIOD, pod::grace_period(inputs.pod).to_string()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What the runtime enforces; `memory_capacity` of the node in bytes decides who is killed first when it runs short.
pub fn resources(pod: &Pod, container: &Container, memory_capacity: i64) -> v1::LinuxContainerResources {
    let amount = Amount::of(container);
    v1::LinuxContainerResources {
        cpu_period: qos::CPU_PERIOD_US,
        cpu_quota: qos::cpu_quota(amount.cpu_limit).unwrap_or(0),
        cpu_shares: qos::cpu_shares(amount.cpu_request),
        memory_limit_in_bytes: amount.memory_limit.unwrap_or(0),
        oom_score_adj: qos::oom_score_adj(qos::class(pod), amount.memory_request, memory_capacity),
        ..v1::LinuxContainerResources::default()
    }
}

/// What a container may not see or write unless it is privileged, as upstream's default proc mount has it.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn security(pod: &Pod, container: &Container, target_id: Option<&str>) -> v1::LinuxContainerSecurityContext {
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group).filter(|_| user.is_some());
    let mut groups = of_pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(of_pod.fs_group);
    let profile = own.seccomp_profile.clone().or(of_pod.seccomp_profile.clone());
    let apparmor = own.app_armor_profile.clone().or(of_pod.app_armor_profile.clone());
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |all: &[&str]| if unmasked { Vec::new() } else { all.iter().map(ToString::to_string).collect() };
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..v1::Capability::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target_id)),
        run_as_user: user.map(|value| v1::Int64Value { value }),
        run_as_group: group.map(|value| v1::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READONLY),
        seccomp: Some(seccomp(
            profile.as_ref().map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())),
            privileged,
        )),
        // Without a profile the runtime takes its own if AppArmor is there; one that is asked for must be there.
        apparmor: apparmor.map(|profile| security_profile(&profile.type_, profile.localhost_profile.as_deref())),
        ..v1::LinuxContainerSecurityContext::default()
    }
}

/// A pod whose containers share their processes shows them all anyway.
fn namespaces(pod: &Pod, target_id: Option<&str>) -> v1::NamespaceOption {
    let of_pod = sandbox::namespaces(pod);
    match target_id {
        Some(id) if of_pod.pid == v1::NamespaceMode::Container as i32 => {
            v1::NamespaceOption { pid: v1::NamespaceMode::Target.into(), target_id: id.to_owned(), ..of_pod }
        }
        _ => of_pod,
    }
}

fn seccomp(profile: Option<(&str, Option<&str>)>, privileged: bool) -> v1::SecurityProfile {
    let (kind, file) = profile.filter(|_| !privileged).unwrap_or(("Unconfined", None));
    security_profile(kind, file)
}

fn security_profile(kind: &str, file: Option<&str>) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let kind = match kind {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    let file = file.filter(|_| kind == ProfileType::Localhost).unwrap_or_default();
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref: file.to_owned() }
}

fn verify_non_root(inputs: &Inputs<'_>) -> Result<()> {
    let of_pod = pod::spec(inputs.pod).security_context.clone().unwrap_or_default();
    let own: SecurityContext = inputs.container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => return Err(ConfigError("container's runAsUser breaks non-root policy".to_owned())),
        Some(_) => return Ok(()),
        None => {}
    }
    let image = inputs.image;
    match (&image.uid, image.username.as_str()) {
        (Some(uid), _) if uid.value == 0 => {
            Err(ConfigError("container has runAsNonRoot and image will run as root".to_owned()))
        }
        (Some(_), _) => Ok(()),
        (None, "") => Err(ConfigError("container has runAsNonRoot and image will run as root".to_owned())),
        (None, name) => Err(ConfigError(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ))),
    }
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| ConfigError(format!("create {}: {error}", path.display())))
}

fn volume_mounts(inputs: &Inputs<'_>) -> Result<Vec<v1::Mount>> {
    let mut mounts = Vec::new();
    for mount in inputs.container.volume_mounts.iter().flatten() {
        let Some(volume) = inputs.volumes.get(&mount.name) else {
            return Err(ConfigError(format!(
                "cannot find volume \"{}\" to mount into container \"{}\"",
                mount.name, inputs.container.name
            )));
        };
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expression), _) => {
                Some(env::expand(expression, |name| inputs.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())))
            }
            (None, sub_path) => sub_path.clone(),
        };
        let host_path = match sub_path.filter(|p| !p.is_empty()) {
            Some(sub) => sub_path_of(volume, &sub)?,
            None => volume.path.clone(),
        };
        let container_path =
            if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        mounts.push(v1::Mount {
            container_path,
            host_path: host_path.display().to_string(),
            readonly: mount.read_only.unwrap_or(false) || volume.read_only,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
                _ => v1::MountPropagation::PropagationPrivate,
            }
            .into(),
            ..v1::Mount::default()
        });
    }
    Ok(mounts)
}

/// A path inside a volume, resolved through its links and never outside of it.
fn sub_path_of(volume: &Mounted, sub: &str) -> Result<PathBuf> {
    let failed = |why: String| ConfigError(format!("failed to prepare subPath for volumeMount: {why}"));
    if Path::new(sub).is_absolute() || Path::new(sub).components().any(|c| c.as_os_str() == "..") {
        return Err(failed(format!("{sub} must be a relative path without '..'")));
    }
    let base = volume.path.canonicalize().map_err(|e| failed(format!("{}: {e}", volume.path.display())))?;
    let wanted = base.join(sub);
    if !wanted.exists() {
        // Whoever may write to the volume may write here.
        let made = std::fs::create_dir_all(&wanted).and_then(|()| std::fs::metadata(&base));
        let made = made.and_then(|of_volume| std::fs::set_permissions(&wanted, of_volume.permissions()));
        made.map_err(|e| failed(format!("{sub}: {e}")))?;
    }
    let real = wanted.canonicalize().map_err(|e| failed(format!("{sub}: {e}")))?;
    if !real.starts_with(&base) {
        return Err(failed(format!("{sub} leads out of the volume")));
    }
    Ok(real)
}

/// `/etc/hosts` and the file of the termination message, unless a volume lies there.
fn own_mounts(inputs: &Inputs<'_>, config: &Config, volumes: &[v1::Mount]) -> Result<Vec<v1::Mount>> {
    use std::os::unix::fs::PermissionsExt;
    let uid = PodRef::of(inputs.pod).uid;
    let taken = |path: &str| volumes.iter().any(|m| m.container_path == path);
    let mount = |container_path: &str, host_path: &Path| v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        ..v1::Mount::default()
    };
    let mut mounts = Vec::new();
    if !taken("/etc/hosts") {
        mounts.push(mount("/etc/hosts", &config.pod_dir(&uid).join("etc-hosts")));
    }
    let path = termination_path(inputs.container);
    if !taken(path) {
        let dir = config.pod_dir(&uid).join("containers").join(&inputs.container.name);
        make_dir(&dir)?;
        let file = dir.join(inputs.restart_count.to_string());
        let failed = |error: std::io::Error| ConfigError(format!("create {}: {error}", file.display()));
        std::fs::write(&file, "").map_err(failed)?;
        // Any user of the container may write its last words.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        mounts.push(mount(path, &file));
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The profiles of a container, as `TYPE FILE` of seccomp and AppArmor.
    #[track_caller]
    fn check(of_pod: &Value, own: &Value, expected: (&str, Option<&str>)) {
        let container = json!({"name": "c", "securityContext": own});
        let pod = json!({"spec": {"securityContext": of_pod, "containers": [container]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let container = pod::spec(&pod).containers[0].clone();
        let made = security(&pod, &container, None);
        let text = |profile: v1::SecurityProfile| {
            format!("{} {}", profile.profile_type().as_str_name(), profile.localhost_ref)
        };
        let found = (made.seccomp.map(text).expect("always"), made.apparmor.map(text));
        assert_eq!((found.0.trim_end(), found.1.as_deref().map(str::trim_end)), expected, "{of_pod} {own}");
    }

    #[test]
    fn profiles_are_the_containers_or_else_the_pods() {
        let none = json!({});
        let file = json!({"type": "Localhost", "localhostProfile": "p"});
        let default = json!({"type": "RuntimeDefault"});
        check(&none, &none, ("Unconfined", None));
        check(&json!({"appArmorProfile": default}), &none, ("Unconfined", Some("RuntimeDefault")));
        check(
            &json!({"appArmorProfile": default}),
            &json!({"appArmorProfile": file}),
            ("Unconfined", Some("Localhost p")),
        );
        check(
            &json!({"appArmorProfile": file}),
            &json!({"appArmorProfile": {"type": "Unconfined"}}),
            ("Unconfined", Some("Unconfined")),
        );
        check(&json!({"seccompProfile": default}), &json!({"seccompProfile": file}), ("Localhost p", None));
        check(&json!({"seccompProfile": file}), &json!({"privileged": true}), ("Unconfined", None));
    }
}
