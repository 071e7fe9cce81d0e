//! postStart and preStop hooks.

use std::sync::Arc;
use std::time::Duration;

use xebec_types::core::{Container, LifecycleHandler, Pod, Probe};

use crate::pod;
use crate::probe::{Outcome, Target, http_get, run_action};
use crate::runtime::Runtime;

/// Runs a hook to its end or to `limit`; the error says what upstream's event says.
pub async fn run(
    runtime: &dyn Runtime,
    handler: &LifecycleHandler,
    target: &Target,
    limit: Duration,
) -> Result<(), String> {
    let hook = async {
        if let Some(sleep) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
            return Ok(());
        }
        if let Some(get) = &handler.http_get {
            // A hook counts as done whatever the server answers, as long as it answers.
            return http_get(get, target).await.map(drop);
        }
        let probe = Probe { exec: handler.exec.clone(), tcp_socket: handler.tcp_socket.clone(), ..Probe::default() };
        match run_action(runtime, &probe, target, limit).await {
            Outcome::Success => Ok(()),
            Outcome::Failure(why) | Outcome::Unknown(why) => Err(why),
        }
    };
    tokio::time::timeout(limit, hook)
        .await
        .unwrap_or_else(|_| Err(format!("hook did not finish within {}s", limit.as_secs())))
}

pub fn target(pod: &Arc<Pod>, container: &Container, container_id: &str, ip: String) -> Target {
    Target { pod: Arc::clone(pod), container: Arc::new(container.clone()), container_id: container_id.to_owned(), ip }
}

pub fn pre_stop<'a>(pod: &'a Pod, name: &str) -> Option<&'a LifecycleHandler> {
    pod::find_container(pod, name)?.lifecycle.as_ref()?.pre_stop.as_ref()
}

pub fn post_start(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.post_start.as_ref()
}
