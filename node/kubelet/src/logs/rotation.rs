//! Logs that grow too large are renamed, and the runtime opens a new one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::kubelet::Kubelet;
use crate::observed::{State, observe};
use crate::pod::PodRef;

/// upstream's `containerLogMaxSize` and `containerLogMaxFiles`.
const SIZE_MAX: u64 = 10 << 20;
const FILES_MAX: usize = 5;
const PERIOD: Duration = Duration::from_secs(10);

pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        for pod in kubelet.pods() {
            let reference = PodRef::of(&pod);
            if !grown(&kubelet.config.log_dir(&reference)) {
                continue;
            }
            let Ok(observed) = observe(&*kubelet.runtime, &reference.uid).await else { continue };
            for instance in observed.containers.iter().filter(|i| i.state == State::Running) {
                if std::fs::metadata(&instance.log_path).is_ok_and(|m| m.len() > SIZE_MAX) {
                    rotate(&kubelet, &instance.id, &instance.log_path).await;
                }
            }
        }
    }
}

/// Whether any log of the pod is too large: cheaper than asking the runtime.
fn grown(dir: &Path) -> bool {
    let containers = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = containers.flat_map(|c| std::fs::read_dir(c.path()).into_iter().flatten().flatten());
    files
        .into_iter()
        .any(|f| f.file_name().to_string_lossy().ends_with(".log") && f.metadata().is_ok_and(|m| m.len() > SIZE_MAX))
}

async fn rotate(kubelet: &Kubelet, id: &str, path: &Path) {
    let stamp = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let aside = path.with_extension(format!("log.{stamp}"));
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::warn!(path = %path.display(), %error, "rotate log");
        return;
    }
    if let Err(error) = kubelet.runtime.reopen_container_log(id).await {
        tracing::warn!(path = %path.display(), error = error.message(), "reopen log");
        // The runtime still writes to the old file: give it its name back.
        let _ = std::fs::rename(&aside, path);
        return;
    }
    prune(path);
}

fn prune(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().map(|n| format!("{}.", n.to_string_lossy()))) else {
        return;
    };
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut old: Vec<_> =
        files.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name))).collect();
    old.sort();
    let surplus = old.len().saturating_sub(FILES_MAX - 1);
    for path in old.into_iter().take(surplus) {
        let _ = std::fs::remove_file(path);
    }
}
