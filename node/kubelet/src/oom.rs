//! Which containers the kernel's OOM killer ended, as the kernel's log tells.
//!
//! containerd's own word is not enough: with cgroup v1 its shim registers for OOM events after the container has
//! started, and drops an event whose cgroup is gone by the time it is read (containerd 1.6, `pkg/oom/v1`). A container
//! that outgrows its limit at once, or ends on a busy machine, is then "Error". The log has the kill before the
//! process is dead, so whoever sees the exit can read it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// Containers that are remembered: more than a node holds dead ones.
const REMEMBERED_MAX: usize = 1024;
/// No record is longer (`LOG_LINE_MAX` and its prefix, Documentation/ABI/testing/dev-kmsg).
const RECORD_BYTES_MAX: usize = 8192;

#[derive(Debug, Default)]
pub struct OomKills {
    log: Option<File>,
    /// Container ids, the newest last.
    victims: VecDeque<String>,
}

impl OomKills {
    /// Reads what the kernel has logged since boot on first use; without permission nothing is known.
    pub fn open() -> Self {
        let log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        if let Err(error) = &log {
            tracing::warn!(%error, "open /dev/kmsg: some OOM kills will be reported as Error");
        }
        Self { log: log.ok(), victims: VecDeque::new() }
    }

    /// Whether a process of the container was killed.
    pub fn killed(&mut self, container_id: &str) -> bool {
        self.read();
        self.victims.iter().any(|id| id == container_id)
    }

    fn read(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut record = [0; RECORD_BYTES_MAX];
        loop {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    let Some(id) = victim(&String::from_utf8_lossy(&record[..length])).map(str::to_owned) else {
                        continue;
                    };
                    if self.victims.len() == REMEMBERED_MAX {
                        self.victims.pop_front();
                    }
                    self.victims.push_back(id);
                }
                // Records were overwritten before they were read: the next one is the oldest that is left.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        tracing::warn!(%error, "read /dev/kmsg");
                    }
                    return;
                }
            }
        }
    }
}

/// The container in a line of `dump_oom_victim` (mm/oom_kill.c): the last part of `task_memcg`, which the systemd
/// driver wraps into `cri-containerd-ID.scope`.
fn victim(record: &str) -> Option<&str> {
    let (_, rest) = record.split_once("oom-kill:constraint=")?;
    let (_, rest) = rest.split_once(",task_memcg=")?;
    let name = rest.split(',').next()?.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").and_then(|scope| scope.rsplit('-').next()).unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(record: &str, expected: Option<&str>) {
        assert_eq!(victim(record), expected, "{record}");
    }

    #[test]
    fn the_victim_is_the_last_part_of_its_cgroup() {
        let line = "6,1182,12897766649,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=4c4d,\
                    mems_allowed=0,oom_memcg=/n/kubepods/burstable/podp,task_memcg=";
        check(&format!("{line}/n/kubepods/burstable/podp/4c4d9d,task=sh,pid=11492,uid=0\n"), Some("4c4d9d"));
        check(&format!("{line}/kubepods.slice/cri-containerd-4c4d9d.scope,task=sh,pid=11492,uid=0\n"), Some("4c4d9d"));
        check(&format!("{line}/,task=sh,pid=1,uid=0\n"), None);
    }

    #[test]
    fn other_lines_name_nobody() {
        check("6,1182,12897766649,-;Memory cgroup out of memory: Killed process 11492 (sh)\n", None);
        check("4,1,1,-;sh invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=999\n", None);
    }
}
