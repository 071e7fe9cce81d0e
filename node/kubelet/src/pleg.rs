//! PLEG: what happens to containers wakes their pod's worker. containerd's events tell at once; a slow relist finds what an event missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use xebec_cri::event::Event;
use xebec_cri::v1;

use crate::kubelet::Kubelet;
use crate::runtime::key;

const RELIST: Duration = Duration::from_secs(10);

/// By container or sandbox id.
type Listing = HashMap<String, Known>;

#[derive(Clone, PartialEq)]
struct Known {
    uid: String,
    is_sandbox: bool,
    state: i32,
}

pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let mut events = kubelet.runtime.events();
    let mut known = Listing::new();
    let mut ticker = tokio::time::interval(RELIST);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => handle(&kubelet, &mut known, event).await,
                None => return,
            },
            _ = ticker.tick() => relist(&kubelet, &mut known).await,
        }
    }
}

async fn handle(kubelet: &Arc<Kubelet>, known: &mut Listing, event: Event) {
    let id = match event {
        Event::Connected => return relist(kubelet, known).await,
        // Whoever started it knows.
        Event::Started { .. } => return,
        Event::Exited { container_id, .. } | Event::OutOfMemory { container_id } => container_id,
        Event::Deleted { container_id } => {
            // There is nothing left to ask about.
            if let Some(gone) = known.get(&container_id) {
                kubelet.wake(&gone.uid);
            }
            return;
        }
    };
    if !known.contains_key(&id) {
        relist(kubelet, known).await;
    }
    let Some(of) = known.get(&id).cloned() else { return };
    tokio::spawn(announce(Arc::clone(kubelet), id, of));
}

/// containerd's CRI plugin hears the same event a moment later: wait until it says so, too.
async fn announce(kubelet: Arc<Kubelet>, id: String, of: Known) {
    for pause in [0_u64, 5, 10, 20, 50, 100, 200, 500, 1000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let runs = if of.is_sandbox {
            let status = kubelet.runtime.pod_sandbox_status(&id).await;
            status.map(|status| status.state == v1::PodSandboxState::SandboxReady as i32)
        } else {
            let status = kubelet.runtime.container_status(&id).await;
            status.map(|status| status.state == v1::ContainerState::ContainerRunning as i32)
        };
        match runs {
            Ok(false) => break,
            // Removed already: asking again would find it no more.
            Err(error) if error.is_not_found() => break,
            Ok(true) | Err(_) => {}
        }
    }
    kubelet.wake(&of.uid);
}

/// Compares everything the runtime has with what it had.
async fn relist(kubelet: &Arc<Kubelet>, known: &mut Listing) {
    let (Ok(sandboxes), Ok(containers)) =
        (kubelet.runtime.list_pod_sandbox(None).await, kubelet.runtime.list_containers(None).await)
    else {
        return;
    };
    let uid = |labels: &HashMap<String, String>| labels.get(key::POD_UID).cloned().unwrap_or_default();
    let sandboxes =
        sandboxes.into_iter().map(|s| (s.id, Known { uid: uid(&s.labels), is_sandbox: true, state: s.state }));
    let containers =
        containers.into_iter().map(|c| (c.id, Known { uid: uid(&c.labels), is_sandbox: false, state: c.state }));
    let now: Listing = sandboxes.chain(containers).collect();
    let changed = now.iter().filter(|(id, what)| known.get(*id).is_some_and(|before| before != *what));
    let gone = known.iter().filter(|(id, _)| !now.contains_key(*id));
    for (_, of) in changed.chain(gone) {
        kubelet.wake(&of.uid);
    }
    *known = now;
}
