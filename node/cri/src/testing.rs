//! A containerd of the test's own: unique directory, cgroup and mount namespace, all gone when the guard drops.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tonic::transport::Channel;

use crate::import::Source;

/// The image every sandbox runs, and the one tests run.
pub const PAUSE_IMAGE: &str = "registry.xebec.test/pause:1";
pub const BUSYBOX_IMAGE: &str = "registry.xebec.test/busybox:1";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SHARED: AtomicBool = AtomicBool::new(false);

/// Gives the calling thread, and every thread and process it starts from now on, a mount namespace that dies with them. A containerd
/// started then sees what the test mounts.
pub fn private_mounts() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare the mount namespace: run as root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    SHARED.store(true, Ordering::Relaxed);
}

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    pub dir: PathBuf,
    /// Relative to every hierarchy's root, with a leading slash.
    pub cgroup: String,
    child: Option<Child>,
}

const CONFIG: &str = r#"
version = 2
root = "DIR/root"
state = "DIR/run"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.opt"]
[grpc]
  address = "DIR/cd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "DIR/bin"
    conf_dir = "DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "DIR/runc"
        SystemdCgroup = false
        NoNewKeyring = true
"#;

/// A CNI plugin that gives every pod one made-up address on its loopback device.
const PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'; exit 0; }
[ "$CNI_COMMAND" = ADD ] || { echo '{}'; exit 0; }
nsenter --net="$CNI_NETNS" ip link set lo up
echo "{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"$CNI_IFNAME\",\"sandbox\":\"$CNI_NETNS\"}],\"ips\":[{\"version\":\"4\",\"interface\":0,\"address\":\"127.9.9.9/8\"}]}"
"#;

impl Containerd {
    /// Starts containerd and imports the two images.
    pub async fn start() -> Self {
        let id = format!("xebec-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&id);
        for sub in ["root", "run", "bin", "cni"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let config = CONFIG.replace("DIR", dir.to_str().unwrap()).replace("PAUSE", PAUSE_IMAGE);
        fs::write(dir.join("config.toml"), config).unwrap();
        for name in ["loopback", "fake"] {
            fs::write(dir.join("bin").join(name), PLUGIN).unwrap();
            fs::set_permissions(dir.join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let conf = json!({"cniVersion": "0.4.0", "name": "fake", "plugins": [{"type": "fake"}]});
        fs::write(dir.join("cni/10-fake.conflist"), conf.to_string()).unwrap();
        let mut containerd = Self { dir, cgroup: format!("/{id}"), child: None };
        containerd.run().await;
        for (name, command) in [(PAUSE_IMAGE, vec!["/bin/sleep", "1000000"]), (BUSYBOX_IMAGE, vec!["/bin/sh"])] {
            let source = Source::Stream(Box::new(std::io::Cursor::new(busybox_archive(name, &command))));
            crate::import::import(containerd.channel(), source, None).await.unwrap();
        }
        containerd
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("cd.sock")
    }

    pub fn channel(&self) -> Channel {
        crate::connect(self.socket())
    }

    /// `kill -9`; pods live on. `run` starts it again.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub async fn run(&mut self) {
        let group = PathBuf::from("/sys/fs/cgroup/unified").join(&self.cgroup[1..]).join("sys");
        let group = if Path::new("/sys/fs/cgroup/unified").exists() {
            group
        } else {
            PathBuf::from("/sys/fs/cgroup").join(&self.cgroup[1..]).join("sys")
        };
        fs::create_dir_all(&group).unwrap();
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let unshare = if SHARED.load(Ordering::Relaxed) { "" } else { "unshare -m --propagation private" };
        let (group, dir) = (group.display(), self.dir.display());
        let script = format!("echo $$ > {group}/cgroup.procs && exec {unshare} containerd -c {dir}/config.toml");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let runtime = crate::RuntimeClient::new(self.channel());
        let deadline = Instant::now() + Duration::from_secs(20);
        while runtime.version().await.is_err() {
            let log = self.dir.join("log");
            assert!(
                Instant::now() < deadline,
                "containerd did not start: {}",
                fs::read_to_string(log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
        let all = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
        all.map(|root| root.join(&self.cgroup[1..])).filter(|path| path.is_dir()).collect()
    }

    fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for group in self.cgroups() {
            collect(&group, &mut found);
        }
        found
    }
}

fn collect(group: &Path, found: &mut Vec<String>) {
    found.extend(fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().map(str::to_owned));
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        collect(&entry.path(), found);
    }
}

fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let _ = fs::remove_dir(group);
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for _ in 0..50 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            let _ = Command::new("kill").arg("-9").args(processes).stderr(Stdio::null()).status();
            if let Some(child) = &mut self.child {
                let _ = child.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Every shim's socket is named in its bundle: the directory of sockets is shared with other containerds.
        let tasks = self.dir.join("run/io.containerd.runtime.v2.task/k8s.io");
        for entry in fs::read_dir(tasks).into_iter().flatten().flatten() {
            if let Ok(address) = fs::read_to_string(entry.path().join("address")) {
                let _ = fs::remove_file(address.trim_start_matches("unix://"));
            }
        }
        self.cgroups().iter().for_each(|group| remove_tree(group));
        unmount_below(&self.dir);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Root filesystems and volumes of pods that the test left running: a mount point cannot be removed.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<&str> = points.filter(|point| Path::new(point).starts_with(dir)).collect();
    below.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    for point in below {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A docker-archive of one layer: a static busybox and links to it.
pub fn busybox_archive(name: &str, command: &[&str]) -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("install busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    layer.append_data(&mut header, "bin/busybox", busybox.as_slice()).unwrap();
    for applet in [
        "sh", "sleep", "cat", "echo", "ls", "true", "false", "id", "env", "stat", "readlink", "hostname", "stty", "nc",
        "wget", "touch", "mount", "dd", "tail", "kill", "date", "httpd",
    ] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_mode(0o777);
        link.set_size(0);
        layer.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    for dir in ["etc/", "tmp/", "root/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o1777);
        header.set_size(0);
        layer.append_data(&mut header, dir, std::io::empty()).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in [
        ("layer.tar", layer),
        ("config.json", config.to_string().into()),
        ("manifest.json", manifest.to_string().into()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    let mut bytes = archive.into_inner().unwrap();
    bytes.flush().unwrap();
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    crate::import::digest_of(bytes)
}
