//! Events of pods and of the node, as upstream's kubelet names them.

use std::sync::{Arc, Mutex, PoisonError};

use xebec_client::event::{node_reference, reference};
use xebec_client::{EventRecorder, EventType};
use xebec_types::core::Pod;

use crate::pod;

/// Writes events to the API server, or keeps them for a test.
#[derive(Clone)]
pub enum Recorder {
    Api(EventRecorder),
    /// `type reason message`, in order.
    #[cfg_attr(not(test), allow(dead_code))]
    Kept(Arc<Mutex<Vec<String>>>),
}

impl Recorder {
    fn record(&self, pod: &Pod, container: Option<&str>, kind: EventType, reason: &str, message: &str) {
        match self {
            Self::Api(recorder) => {
                let mut object = reference(pod);
                object.field_path = container.map(|name| {
                    let list = match (pod::is_init(pod, name), pod::find_container(pod, name)) {
                        (true, _) => "initContainers",
                        (false, Some(_)) => "containers",
                        (false, None) => "ephemeralContainers",
                    };
                    format!("spec.{list}{{{name}}}")
                });
                recorder.record_ref(object, kind, reason, message);
            }
            Self::Kept(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(format!("{} {reason} {message}", kind.as_str()));
            }
        }
    }

    pub fn container_normal(&self, pod: &Pod, container: &str, reason: &str, message: &str) {
        self.record(pod, Some(container), EventType::Normal, reason, message);
    }

    pub fn container_warning(&self, pod: &Pod, container: &str, reason: &str, message: &str) {
        self.record(pod, Some(container), EventType::Warning, reason, message);
    }

    pub fn pod_normal(&self, pod: &Pod, reason: &str, message: &str) {
        self.record(pod, None, EventType::Normal, reason, message);
    }

    pub fn pod_warning(&self, pod: &Pod, reason: &str, message: &str) {
        self.record(pod, None, EventType::Warning, reason, message);
    }

    pub fn node(&self, node: &str, kind: EventType, reason: &str, message: &str) {
        match self {
            Self::Api(recorder) => recorder.record_ref(node_reference(node), kind, reason, message),
            Self::Kept(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(format!("{} {reason} {message}", kind.as_str()));
            }
        }
    }
}
