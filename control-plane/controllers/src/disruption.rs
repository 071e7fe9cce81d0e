//! Says how many pods may be disrupted now, as upstream's `disruption` controller; evictions take from it.

mod scale;
mod step;

use crate::Context;
use crate::control::{self, Reconcile, after};
use scale::Scales;
use std::sync::Arc;
pub use step::{Expected, Observed, Status, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Change, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, is_not_found};
use xebec_types::core::Pod;
use xebec_types::object;
use xebec_types::policy::PodDisruptionBudget;

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        budgets: context.informers.informer(),
        pods: context.informers.informer(),
        scales: Scales::new(&context),
        recorder: context.recorder("controllermanager"),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.budgets.synced(), controller.pods.synced(), controller.scales.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    budgets: Arc<Informer<PodDisruptionBudget>>,
    pods: Arc<Informer<Pod>>,
    scales: Scales,
    recorder: EventRecorder,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "poddisruptionbudget";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| covers(&budget, pod));
        let expected = match self.expected(&budget, &pods).await {
            Ok(expected) => Ok(expected),
            Err(Unknown::Refused(error)) => return Err(error),
            Err(Unknown::Why(why)) => Err(why),
        };
        if let Err(why) = &expected {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            self.recorder.warning(&*budget, "CalculateExpectedPodCountFailed", message);
        }
        let status = step(&Observed { budget: &budget, pods: &pods, expected: &expected, now: self.context.now() });
        for name in &status.not_deleted {
            let message =
                format!("Pod {name} was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.name);
            self.recorder.warning(&*budget, "NotDeleted", message);
        }
        self.write(&budget, &status).await?;
        Ok(after(status.recheck))
    }
}

/// Why the number of pods that should be there is not known.
enum Unknown {
    Why(String),
    Refused(Error),
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.budgets.on_change(move |change| queue.add(change.key()));
        let (queue, budgets) = (self.queue.clone(), Arc::clone(&self.budgets));
        self.pods.on_change(move |change: &Change<Pod>| {
            for pod in [&change.old, &change.new].into_iter().flatten() {
                let of_namespace = budgets.list_namespace(object::namespace(&pod.metadata));
                of_namespace.iter().filter(|b| covers(b, pod)).for_each(|b| queue.add(Key::of(&b.metadata)));
            }
        });
        let (queue, budgets) = (self.queue.clone(), Arc::clone(&self.budgets));
        self.scales.on_change(move |namespace| {
            budgets.list_namespace(namespace).iter().for_each(|b| queue.add(Key::of(&b.metadata)));
        });
    }

    /// How many pods there should be: what the owners of the pods ask for, where the budget needs to know it.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<Expected, Unknown> {
        if !step::needs_scale(budget) {
            return Ok(Expected(i32::try_from(pods.len()).unwrap_or(i32::MAX)));
        }
        let mut total = 0;
        let mut seen = Vec::new();
        for pod in pods {
            let Some(owner) = object::controller_of(&pod.metadata).filter(|owner| !seen.contains(&owner.uid)) else {
                continue;
            };
            seen.push(owner.uid.clone());
            let namespace = object::namespace(&pod.metadata);
            let found = self.scales.of(namespace, owner, &mut seen).await.map_err(Unknown::Refused)?;
            let missing = || Unknown::Why(format!("found no controllers for pod {:?}", object::name(&pod.metadata)));
            total += found.ok_or_else(missing)?;
        }
        Ok(Expected(total))
    }

    async fn write(&self, budget: &Arc<PodDisruptionBudget>, status: &Status) -> Result<(), Error> {
        if budget.status.as_ref() == Some(&status.wanted) {
            return Ok(());
        }
        let mut updated = PodDisruptionBudget::clone(budget);
        updated.status = Some(status.wanted.clone());
        let client = self.context.client.clone();
        let api: Api<PodDisruptionBudget> = Api::namespaced(client, object::namespace(&budget.metadata));
        // An eviction that was faster makes this a conflict: its charge must not be lost.
        match api.replace_status(object::name(&budget.metadata), &PostParams::default(), &updated).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// A budget without selector covers nothing, one with an empty selector everything.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| object::selects(selector, pod.metadata.labels.as_ref()))
}
