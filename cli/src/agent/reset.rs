//! `xebec agent reset`: nothing that an agent made is left on its host, whatever state the parts are in.
//!
//! The parts are removed in an order in which each can still do what its removal needs: pods while they have a network,
//! containerd's plugin when no pod needs it any more. What cannot be removed keeps nothing else back, and a second run
//! goes on where this one stopped.

use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;
use xebec_agent::reset;
use xebec_datapath::{Datapath, Removed};
use xebec_netlink::{Handle, Netns};
use xebec_podnet::cni;

use super::places::Places;
use crate::cluster::{cgroup, mount};
use crate::output::{self, say};

/// How long containerd may take for everything, beyond what containers get. A single pod has less.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(120);

/// Take this host out of its cluster: end the node's pods, and remove what the agent made
///
/// Once the agent is stopped, run this with the flags that it had. It removes the node's pods, eBPF programs and maps, devices
/// and routes, reserved ports, cgroups, CNI plugin and configuration, certificates and state, and names each. Images, other
/// sysctls and the Node object stay.
#[derive(Args)]
pub struct Reset {
    #[command(flatten)]
    places: Places,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// The longest that containers get between SIGTERM and SIGKILL
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    grace_period: u64,
}

impl Reset {
    /// # Errors
    /// When an agent runs, or something could not be removed; all of that has been said then.
    pub async fn run(self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("xebec agent reset removes devices, mounts and eBPF programs: run it as root");
        }
        let node = Node::new(self.places)?;
        node.check_name()?;
        // Held to the end: an agent that starts meanwhile ends at once.
        let _lock = node.places.lock()?;
        if !self.force {
            confirm(&node.name, io::stdin().is_terminal(), &mut io::stdin().lock())?;
        }
        let mut log = Log::default();
        node.remove(Duration::from_secs(self.grace_period), &mut log).await;
        log.end(&node.name)
    }
}

/// Asks at the terminal, if there is one. Anything but a yes is a no.
fn confirm(node: &str, is_terminal: bool, answers: &mut impl BufRead) -> Result<()> {
    let what = format!("the pods, the pod network and the state of node {node} from this host");
    if !is_terminal {
        bail!("this removes {what}, and there is no terminal to ask at: say --force");
    }
    eprint!("Remove {what}? [y/N] ");
    let mut answer = String::new();
    answers.read_line(&mut answer).context("read the answer")?;
    if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        bail!("nothing was removed");
    }
    Ok(())
}

/// What has been done, said as it is done.
#[derive(Default)]
struct Log {
    removed: usize,
    faults: Vec<Error>,
    /// A reader that goes away does not end the work half-way.
    output: Option<output::Error>,
}

impl Log {
    fn removed(&mut self, what: impl Display) {
        self.removed += 1;
        self.output = self.output.take().or_else(|| say!("removed {what}").err());
    }

    fn note<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|fault| self.faults.push(fault)).ok()
    }

    fn end(self, node: &str) -> Result<()> {
        if !self.faults.is_empty() {
            for fault in &self.faults {
                eprintln!("xebec: {}", xebec_client::chain(fault.as_ref()));
            }
            bail!("node {node} has not left this host: do what the lines above say, and run this command again");
        }
        if let Some(error) = self.output {
            return Err(error.into());
        }
        match self.removed {
            0 => say!("nothing is left of node {node} on this host")?,
            _ => say!("node {node} has left this host; for the cluster: kubectl delete node {node}")?,
        }
        Ok(())
    }
}

struct Node {
    name: String,
    /// Without a leading slash.
    cgroup: PathBuf,
    places: Places,
}

impl Node {
    fn new(places: Places) -> Result<Self> {
        let cgroup = places.cgroup_root()?.trim_start_matches('/').into();
        Ok(Self { name: places.node_name()?, cgroup, places })
    }

    /// With another name most of the node would be found, and its programs would go on without it.
    fn check_name(&self) -> Result<()> {
        let nodes = xebec_datapath::nodes(&self.places.bpffs)?;
        if !nodes.is_empty() && !nodes.contains(&self.name) {
            let (path, others) = (self.places.bpffs.join("xebec"), nodes.join(", "));
            bail!("{} has the programs of {others} and none of {}: give the --node-name", path.display(), self.name);
        }
        Ok(())
    }

    async fn remove(&self, grace: Duration, log: &mut Log) {
        let outcome = self.remove_pods(grace, log).await;
        let pods_are_gone = log.note(outcome).unwrap_or(false);
        let outcome = reset::end_dns(&self.places.run_dir).await.context("end DNS");
        if let Some(Some(pid)) = log.note(outcome) {
            log.removed(format_args!("process {pid} (DNS)"));
        }
        let outcome = self.remove_cgroups(log);
        log.note(outcome);
        let outcome = self.remove_datapath(log).await;
        log.note(outcome);
        let outcome = self.remove_network(log).await;
        log.note(outcome);
        // containerd needs the plugin to remove pods that are still there.
        if pods_are_gone {
            let (bin, conf) = (&self.places.cni_bin_dir, &self.places.cni_conf_dir);
            let outcome = reset::uninstall_plugin(bin, conf).context("remove the CNI plugin");
            log.note(outcome).into_iter().flatten().for_each(|path| log.removed(path.display()));
        }
        let outcome = remove_files(&self.places.data_dir, &reset::DATA, log);
        log.note(outcome);
        // The lock is gone with its name: who opens it from here on gets another file, and finds nothing of this node.
        let outcome = remove_files(&self.places.run_dir, &reset::RUN, log).and_then(|()| {
            let lock = self.places.run_dir.join(reset::LOCK);
            was_there(fs::remove_file(&lock), &lock)?;
            remove_empty(&self.places.run_dir).map(drop)
        });
        log.note(outcome);
    }

    /// True if no pod is left.
    async fn remove_pods(&self, grace: Duration, log: &mut Log) -> Result<bool> {
        let socket = &self.places.container_runtime_endpoint;
        if !socket.exists() {
            return Ok(true);
        }
        // containerd asks the plugin, and the plugin an agent, for each pod.
        let answers = self.places.run_dir.join("cni.sock");
        let server = cni::Server::bind_leaving(&answers)?;
        let stop = CancellationToken::new();
        let root = Path::new("/").join(&self.cgroup);
        let limit = grace + RUNTIME_PATIENCE;
        let remove = async {
            let ended = tokio::time::timeout(limit, reset::remove_pods(socket.clone(), &root, grace)).await;
            stop.cancel();
            ended
        };
        let (ended, served) = tokio::join!(remove, server.run(stop.clone()));
        was_there(fs::remove_file(&answers), &answers)?;
        let ended = ended.with_context(|| {
            format!("containerd at {} has not answered within {} s: start it again", socket.display(), limit.as_secs())
        })?;
        let ended = ended.with_context(|| {
            format!(
                "list the pods in {}: start containerd, or remove the socket if it is gone for good",
                socket.display()
            )
        })?;
        served?;
        let mut all = true;
        for pod in ended {
            match pod.fault {
                None => log.removed(format_args!("pod {}", pod.pod)),
                Some(fault) => {
                    all = false;
                    log.faults.push(anyhow!("remove pod {}: {fault}", pod.pod));
                }
            }
        }
        Ok(all)
    }

    fn remove_cgroups(&self, log: &mut Log) -> Result<()> {
        let pods = self.cgroup.join("kubepods");
        if cgroup::remove(&pods).with_context(|| format!("remove cgroup {}", pods.display()))? {
            log.removed(format_args!("cgroup /{}", pods.display()));
        }
        // Others may have put processes and cgroups there.
        let remove =
            |path: &Path| cgroup::remove_unused(path).with_context(|| format!("remove cgroup /{}", path.display()));
        remove(&self.cgroup.join(reset::CANARY_CGROUP))?;
        if remove(&self.cgroup)? {
            log.removed(format_args!("cgroup /{}", self.cgroup.display()));
        }
        remove(Path::new(cgroup::PARENT)).map(drop)
    }

    async fn remove_datapath(&self, log: &mut Log) -> Result<()> {
        let Places { bpffs, .. } = &self.places;
        let Removed { links, filters, maps, ports, clsact } = Datapath::remove(bpffs, &self.name)?;
        links.iter().for_each(|link| log.removed(format_args!("program link {link}")));
        filters.iter().for_each(|filter| log.removed(format_args!("program at {filter}")));
        if maps > 0 {
            log.removed(format_args!("{maps} maps in {}", bpffs.join("xebec").join(&self.name).display()));
        }
        if !ports.is_empty() {
            log.removed(format_args!("reserved ports {ports}"));
        }
        let handle = Handle::current()?;
        for index in clsact {
            if handle.remove_unused_clsact(index).await? {
                log.removed(format_args!("clsact qdisc of interface {index}"));
            }
        }
        Ok(())
    }

    async fn remove_network(&self, log: &mut Log) -> Result<()> {
        let removed = xebec_podnet::Node::remove(&Netns::current()?).await?;
        removed.iter().for_each(|what| log.removed(what));
        Ok(())
    }
}

/// Removes what an agent has in a directory, and the directory if that was all.
fn remove_files(directory: &Path, names: &[&str], log: &mut Log) -> Result<()> {
    // Mounts below are known by where they really are.
    let directory = match directory.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        resolved => resolved.with_context(|| format!("resolve {}", directory.display()))?,
    };
    for path in names.iter().map(|name| directory.join(name)) {
        let is_there = if path.is_dir() {
            mount::remove_dir(&path)?;
            true
        } else {
            was_there(fs::remove_file(&path), &path)?
        };
        if is_there {
            log.removed(path.display());
        }
        // Of an agent that ended while it wrote.
        let unfinished = path.with_extension("tmp");
        was_there(fs::remove_file(&unfinished), &unfinished)?;
    }
    if remove_empty(&directory)? {
        log.removed(directory.display());
    }
    Ok(())
}

/// False if something is in it, or mounted on it, or it is not there.
fn remove_empty(directory: &Path) -> Result<bool> {
    match fs::remove_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => Ok(false),
        outcome => was_there(outcome, directory),
    }
}

/// What a removal says: false if there was nothing.
fn was_there(outcome: io::Result<()>, path: &Path) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_at_a_terminal_goes_on() {
        for (is_terminal, said, goes_on) in [
            (true, "y\n", true),
            (true, " Yes \n", true),
            (true, "\n", false),
            (true, "", false),
            (true, "yess\n", false),
            (false, "y\n", false),
        ] {
            assert_eq!(confirm("n1", is_terminal, &mut said.as_bytes()).is_ok(), goes_on, "{is_terminal} {said:?}");
        }
    }

    #[test]
    fn only_an_agents_files_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        std::os::unix::fs::symlink(&data, &link).expect("a link");
        let files = ["pki/ca.crt", "kubelet/pods/u/volumes/v/file", "pod-cidr", "pod-cidr.tmp", "theirs/file"];
        for file in files.map(|file| data.join(file)) {
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, "").expect("written");
        }
        let run = || {
            let mut log = Log::default();
            remove_files(&link, &reset::DATA, &mut log).expect("removed");
            log.removed
        };
        assert_eq!(run(), 3);
        let left = fs::read_dir(&data).expect("listed").map(|entry| entry.expect("an entry").file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["theirs"]);
        assert_eq!(run(), 0);
        fs::remove_dir_all(data.join("theirs")).expect("removed");
        assert_eq!((run(), data.exists(), run()), (1, false, 0));
    }

    #[test]
    fn a_layout_that_was_tried_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).expect("made");
        fs::write(xebec_agent::Config::rehearsal(&run_dir), "").expect("written");
        remove_files(&run_dir, &reset::RUN, &mut Log::default()).expect("removed");
        assert!(!run_dir.exists());
    }
}
