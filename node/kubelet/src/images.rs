//! Images on the node: the pull policy, and back-off between pulls that fail.

use std::sync::{Arc, Mutex, PoisonError};

use xebec_cri::{reference, v1};
use xebec_types::core::{Container, Pod};
use xebec_types::time;

use crate::backoff::Backoff;
use crate::keyring::Keyring;
use crate::objects::Objects;
use crate::pod;
use crate::recorder::Recorder;
use crate::runtime::Runtime;
use crate::status::Waiting;

/// upstream's image manager.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    objects: Arc<dyn Objects>,
    recorder: Recorder,
    backoff: Mutex<Backoff>,
    last_error: Mutex<std::collections::HashMap<String, String>>,
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting { reason: reason.to_owned(), message }
}

/// `Always` for `latest`, else `IfNotPresent`: the API server defaults it; pods from elsewhere may lack it.
fn policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if reference::tag(pod::image(container)).as_deref() == Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

impl Images {
    pub fn new(runtime: Arc<dyn Runtime>, objects: Arc<dyn Objects>, recorder: Recorder) -> Self {
        Self { runtime, objects, recorder, backoff: Mutex::default(), last_error: Mutex::default() }
    }

    /// The image, pulled if its policy says so.
    pub async fn ensure(&self, pod: &Pod, container: &Container) -> Result<v1::Image, Waiting> {
        let image = pod::image(container);
        if !is_reference(image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
            );
            self.recorder.container_warning(pod, &container.name, "InspectFailed", &message);
            return Err(waiting("InvalidImageName", message));
        }
        let present = self.runtime.image_status(image).await.map_err(|e| waiting("ImageInspectError", e.message()))?;
        match (policy(container), present) {
            ("Never" | "IfNotPresent", Some(present)) => {
                let message =
                    format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
                self.recorder.container_normal(pod, &container.name, "Pulled", &message);
                Ok(present)
            }
            ("Never", None) => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                self.recorder.container_warning(pod, &container.name, "ErrImageNeverPull", &message);
                Err(waiting("ErrImageNeverPull", message))
            }
            _ => self.pull(pod, container, image).await,
        }
    }

    async fn pull(&self, pod: &Pod, container: &Container, image: &str) -> Result<v1::Image, Waiting> {
        let key = format!("{}_{image}", pod.metadata.uid.as_deref().unwrap_or_default());
        let now = time::now();
        if self.locked().pausing(&key, now) {
            let last =
                self.last_error.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned().unwrap_or_default();
            let message = format!("Back-off pulling image \"{image}\"");
            self.recorder.container_normal(pod, &container.name, "BackOff", &message);
            return Err(waiting("ImagePullBackOff", format!("{message}: {last}")));
        }
        self.recorder.container_normal(pod, &container.name, "Pulling", &format!("Pulling image \"{image}\""));
        let started = std::time::Instant::now();
        let pulled = match self.pull_with_any(pod, image).await {
            Ok(()) => self.runtime.image_status(image).await,
            Err(error) => Err(error),
        };
        match pulled {
            Ok(Some(pulled)) => {
                let took = started.elapsed().as_millis();
                let message =
                    format!("Successfully pulled image \"{image}\" in {took}ms. Image size: {} bytes.", pulled.size);
                self.recorder.container_normal(pod, &container.name, "Pulled", &message);
                self.locked().forget(&key);
                Ok(pulled)
            }
            failed => {
                let why = failed
                    .err()
                    .map_or_else(|| "the image vanished after its pull".to_owned(), |error| error.message());
                let message = format!("Failed to pull image \"{image}\": {why}");
                self.recorder.container_warning(pod, &container.name, "Failed", &message);
                let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
                last.insert(key.clone(), format!("ErrImagePull: {why}"));
                let now = time::now();
                self.locked().next(&key, now, now);
                Err(waiting("ErrImagePull", why))
            }
        }
    }

    /// With each credential that may fit, until one does; without one when there is none.
    async fn pull_with_any(&self, pod: &Pod, image: &str) -> xebec_cri::Result<()> {
        let credentials = Keyring::of(pod, &*self.objects).await.find(image);
        let mut outcome = match credentials.is_empty() {
            true => return self.runtime.pull_image(image, None).await.map(drop),
            false => Ok(()),
        };
        for auth in credentials {
            outcome = self.runtime.pull_image(image, Some(auth)).await.map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn forget(&self, uid: &str) {
        let prefix = format!("{uid}_");
        self.locked().forget(&prefix);
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !key.starts_with(&prefix));
    }
}

/// Whether the name can be one: lower-case path components after an optional registry. The runtime judges the rest.
fn is_reference(image: &str) -> bool {
    let full = reference::normalize(image);
    let name = full.split('@').next().unwrap_or_default();
    let Some((_registry, path)) = name.split_once('/') else { return false };
    let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let component = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        part.chars().all(inner) && edge(part.chars().next()) && edge(part.chars().last())
    };
    path.split('/').all(component)
        && !tag.is_empty()
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::is_reference;

    #[test]
    fn names_that_cannot_be_images_are_told_apart() {
        for good in [
            "a",
            "a:1",
            "docker.io/library/a:1",
            "localhost:5000/a/b",
            "r.test/a_b-c@sha256:00",
            "registry.xebec.test/busybox:1",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "UPPER", "a//b", "-a", "a b", "a:", "r.test/", "a/../b:1", "http://a"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
