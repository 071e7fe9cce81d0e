//! What others take away from the node's network or change in it is noticed, put back and told.
//!
//! The kernel tells of devices, routes and neighbours at once; programs, map entries, pins and sysctls are looked at
//! every [`PERIOD`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use xebec_client::event::node_reference;
use xebec_client::{EventRecorder, EventType, chain};
use xebec_datapath::Datapath;
use xebec_netlink::Changes;
use xebec_podnet::PodNetwork;

/// Between two looks when nobody tells of anything.
pub const PERIOD: Duration = Duration::from_secs(10);
/// News that come together are one look.
const GATHER: Duration = Duration::from_millis(250);
/// An Event names so many objects.
const NAMES_MAX: usize = 5;
/// Of Events about the node.
const REASON: &str = "DatapathRepaired";

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Counts what was repaired, and tells of it.
#[derive(Clone)]
pub struct Repairs(Arc<Shared>);

struct Shared {
    node_name: String,
    recorder: Option<EventRecorder>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// The last look's failure, for each part that looks.
    faults: watch::Sender<BTreeMap<&'static str, String>>,
}

impl Repairs {
    pub fn new(node_name: &str, recorder: Option<EventRecorder>) -> Self {
        let (node_name, counts, faults) = (node_name.to_owned(), Mutex::default(), watch::Sender::default());
        Self(Arc::new(Shared { node_name, recorder, counts, faults }))
    }

    /// Notes what was not as it should be, and is again.
    pub fn repaired(&self, kind: &'static str, objects: &[String]) {
        if objects.is_empty() {
            return;
        }
        let names = objects[..objects.len().min(NAMES_MAX)].join(", ");
        let more = objects.len().saturating_sub(NAMES_MAX);
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::warn!(
            kind,
            objects = names,
            count = objects.len(),
            "the node's network was changed by others; repaired"
        );
        *self.counts().entry(kind).or_default() += objects.len() as u64;
        if let Some(recorder) = &self.0.recorder {
            let message = format!("{kind} removed or changed by others, repaired: {names}{and}");
            recorder.record_ref(node_reference(&self.0.node_name), EventType::Warning, REASON, message);
        }
    }

    /// Notes how a part's look ended.
    pub fn looked(&self, part: &'static str, outcome: Result<(), AnyError>) {
        match outcome {
            Ok(()) => drop(self.0.faults.send_if_modified(|faults| faults.remove(part).is_some())),
            Err(error) => {
                let error = chain(error.as_ref());
                tracing::warn!(part, error, "the node's network is not whole");
                self.0.faults.send_if_modified(|faults| faults.insert(part, error.clone()) != Some(error));
            }
        }
    }

    /// What could not be repaired, by part.
    pub fn faults(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.faults.subscribe()
    }

    /// In the Prometheus text format.
    pub fn metrics(&self) -> String {
        let name = "xebec_datapath_repairs_total";
        let mut text = format!("# HELP {name} Parts of the node's network that others took away or changed.\n");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} counter");
        for (kind, count) in self.counts().iter() {
            let _ = writeln!(text, "{name}{{kind=\"{kind}\"}} {count}");
        }
        text
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a part needs that keeps something in line by itself.
pub struct Upkeep {
    pub repairs: Repairs,
    /// Told after each look at everything else.
    pub looked: watch::Receiver<()>,
}

/// Looks for ever: whenever the kernel tells of a change, and every [`PERIOD`]. `looked` is told after each look, for
/// those who know what else there should be.
pub async fn watch(network: Arc<PodNetwork>, datapath: Arc<Datapath>, repairs: Repairs, looked: watch::Sender<()>) {
    let mut changes = None;
    loop {
        if changes.is_none() {
            let followed = Changes::follow(network.node().handle.netns());
            repairs.looked("news", followed.map(|followed| changes = Some(followed)).map_err(Into::into));
        }
        repairs.looked("devices", devices(&network, &repairs).await);
        repairs.looked("pods", pods(&network, &repairs).await);
        repairs.looked("programs", programs(&datapath, &repairs));
        looked.send_replace(());
        tokio::select! {
            alive = told(&mut changes) => if !alive {
                changes = None;
            },
            () = tokio::time::sleep(PERIOD) => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Whether there is more to come.
async fn told(changes: &mut Option<Changes>) -> bool {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

async fn devices(network: &PodNetwork, repairs: &Repairs) -> Result<(), AnyError> {
    note(repairs, network.node().repair().await?.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    for uplink in &network.node().uplinks {
        match network.node().handle.link_by_index(uplink.index).await? {
            Some(link) if link.up => {}
            Some(_) => return Err(format!("uplink {} is down", uplink.name).into()),
            None => return Err(format!("uplink {} is gone", uplink.name).into()),
        }
    }
    Ok(())
}

async fn pods(network: &PodNetwork, repairs: &Repairs) -> Result<(), AnyError> {
    note(repairs, network.repair().await?.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    Ok(())
}

fn programs(datapath: &Datapath, repairs: &Repairs) -> Result<(), AnyError> {
    note(repairs, datapath.repair()?.into_iter().map(|drift| (drift.kind.label(), drift.object)));
    Ok(())
}

/// Tells of what was found, by kind.
pub fn note(repairs: &Repairs, found: impl Iterator<Item = (&'static str, String)>) {
    let mut by_kind: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    found.for_each(|(kind, object)| by_kind.entry(kind).or_default().push(object));
    by_kind.iter().for_each(|(kind, objects)| repairs.repaired(kind, objects));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_counted_by_kind_and_faults_last_until_they_end() {
        let repairs = Repairs::new("n1", None);
        note(&repairs, [("route", "10.244.1.0/24".to_owned()), ("route", "10.244.2.0/24".to_owned())].into_iter());
        repairs.repaired("program", &["from_pod at xb0".to_owned()]);
        repairs.repaired("sysctl", &[]);
        let metrics = repairs.metrics();
        assert!(
            metrics.ends_with("{kind=\"program\"} 1\nxebec_datapath_repairs_total{kind=\"route\"} 2\n"),
            "{metrics}"
        );

        let faults = repairs.faults();
        repairs.looked("devices", Err("uplink eth0 is down".into()));
        repairs.looked("pods", Ok(()));
        assert_eq!(*faults.borrow(), BTreeMap::from([("devices", "uplink eth0 is down".to_owned())]));
        repairs.looked("devices", Ok(()));
        assert!(faults.borrow().is_empty());
    }
}
