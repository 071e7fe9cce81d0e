//! The configuration of a node's containerd: its own root, state, socket and runc state.

use std::path::Path;

use super::layout::{Layout, NodeNumber};

/// The configuration file (version 2: containerd 1.6, 1.7 and, migrated on load, 2.x).
///
/// `can_raise_oom_score`: whether this machine's root may lower a process's oom_score_adj; without
/// CAP_SYS_RESOURCE every sandbox would die at start.
pub fn config(layout: &Layout, node: NodeNumber, can_raise_oom_score: bool) -> String {
    let path = |path: &Path| format!("{:?}", path.display().to_string());
    let (data, run) = (layout.node_dir(node), layout.node_run(node));
    format!(
        r#"version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.opt",
]

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  restrict_oom_score_adj = {restrict}
  tolerate_missing_hugetlb_controller = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}
    ip_pref = "cni"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = {runc}
        SystemdCgroup = false
        NoNewKeyring = true
"#,
        root = path(&data.join("containerd")),
        state = path(&run.join("containerd")),
        socket = path(&layout.containerd_socket(node)),
        pause = xebec_agent::pause::IMAGE,
        restrict = !can_raise_oom_score,
        cni_bin = path(&data.join("cni/bin")),
        cni_conf = path(&data.join("cni/conf")),
        runc = path(&run.join("runc")),
    )
}

/// Whether this process has CAP_SYS_RESOURCE (capabilities(7), number 24).
pub fn can_raise_oom_score() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(effective.trim(), 16).is_ok_and(|set| set & (1 << 24) != 0)
}
