//! Readers over pods that the kubelet needs.

use std::collections::BTreeMap;

use xebec_types::core::{Container, ContainerStatus, Pod, PodResourceClaim, PodSpec, Probe};
use xebec_types::{device, object};

/// Which pod: a name may be used again, a UID never.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodRef {
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            namespace: object::namespace(meta).to_owned(),
            name: object::name(meta).to_owned(),
            uid: object::uid(meta).to_owned(),
        }
    }
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Those that came while the pod ran (`kubectl debug`), in the form of all others.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = Container> {
    spec(pod).ephemeral_containers.iter().flatten().cloned().map(|own| Container {
        name: own.name,
        image: own.image,
        image_pull_policy: own.image_pull_policy,
        command: own.command,
        args: own.args,
        working_dir: own.working_dir,
        env: own.env,
        env_from: own.env_from,
        volume_mounts: own.volume_mounts,
        security_context: own.security_context,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        // Upstream lets an ephemeral container have nothing else.
        ..Container::default()
    })
}

/// The container whose processes an ephemeral container sees.
pub fn target_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let own = spec(pod).ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
    own.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// A container of any kind.
pub fn any_container(pod: &Pod, name: &str) -> Option<Container> {
    find_container(pod, name).cloned().or_else(|| ephemeral_containers(pod).find(|c| c.name == name))
}

/// Init containers first, as they run.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    all_containers(pod).find(|c| c.name == name)
}

pub fn is_init(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|c| c.name == name)
}

/// What the API server knows of containers, and of init containers.
pub fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten())
}

/// What the API server knows of the instance that the runtime calls `id`.
pub fn status_of<'a>(pod: &'a Pod, id: &str) -> Option<&'a ContainerStatus> {
    let has_id = |known: &str| known.strip_prefix("containerd://") == Some(id);
    container_statuses(pod).find(|s| s.container_id.as_deref().is_some_and(has_id))
}

/// An init container that keeps running: a sidecar.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

pub fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Seconds between SIGTERM and SIGKILL: the deletion's own when there is one.
pub fn grace_period(pod: &Pod) -> i64 {
    let of_spec = spec(pod).termination_grace_period_seconds.unwrap_or(30);
    pod.metadata.deletion_grace_period_seconds.unwrap_or(of_spec).max(0)
}

/// The pod's host name: `hostname`, else its name cut to 63 characters.
pub fn hostname(pod: &Pod) -> String {
    let name = spec(pod).hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(object::name(&pod.metadata));
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// `host.sub.namespace.svc.domain`, for a pod with a subdomain.
pub fn fqdn(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = spec(pod).subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{cluster_domain}", hostname(pod), object::namespace(&pod.metadata)))
}

/// A port by number, or by its name in the container.
pub fn resolve_port(container: &Container, port: &xebec_types::IntOrString) -> Option<u16> {
    use xebec_types::IntOrString;
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.and_then(|p| u16::try_from(p.container_port).ok()).or_else(|| name.parse().ok())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }

    /// As events spell it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// Why the pod cannot have its devices, if it claims any: drivers cannot register with this kubelet, so nobody prepares them. A container without the
/// device that it was promised is worse than none.
pub fn unserved_claims(pod: &Pod) -> Option<String> {
    let needed = |claim: &&PodResourceClaim| !device::is_not_needed(pod, claim);
    let names: Vec<&str> = device::pod_claims(pod).iter().filter(needed).map(|claim| claim.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("claims [{}]: no DRA driver can register on this node", names.join(", ")))
}

/// A hash of what makes a running container stale: upstream restarts a container whose name or image changed.
pub fn container_hash(container: &Container) -> String {
    let text = format!("{}\0{}", container.name, image(container));
    format!("{:x}", text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
}

pub fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}

pub fn annotations(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.annotations.clone().unwrap_or_default()
}
