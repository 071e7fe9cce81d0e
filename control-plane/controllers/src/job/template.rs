//! The pods that a Job makes.

use crate::control;
use crate::job::policy::{self, Failure};
use crate::job::step::Create;
use crate::job::view::{failure_count, ignored_failure_count};
use xebec_types::batch::Job;
use xebec_types::core::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use xebec_types::{annotation, finalizer, label, object};

/// The environment variable that tells a container its index.
const INDEX_ENV: &str = "JOB_COMPLETION_INDEX";
/// apiserver's `names.MaxGeneratedNameLength`.
const PREFIX_MAX: usize = 58;

pub(super) fn new_pod(job: &Job, create: &Create) -> Pod {
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let name = object::name(&job.metadata);
    let mut pod = control::pod_from_template(&template, name, control::controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == finalizer::JOB_TRACKING) {
        finalizers.push(finalizer::JOB_TRACKING.into());
    }
    if let Some(index) = create.index {
        number(&mut pod, name, index);
        if job.spec.as_ref().is_some_and(|s| s.backoff_limit_per_index.is_some()) {
            carry_failures(job, &mut pod, create.replaces.as_deref());
        }
    }
    pod
}

/// Annotation, label, host name, generated name and environment of an index.
fn number(pod: &mut Pod, job: &str, index: i32) {
    let text = index.to_string();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::JOB_COMPLETION_INDEX.into(), text.clone());
    pod.metadata.labels.get_or_insert_default().insert(label::JOB_COMPLETION_INDEX.into(), text);
    let suffix = format!("-{index}-");
    let cut = job.len().min(PREFIX_MAX - suffix.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", job.get(..cut).unwrap_or(job)));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|e| e.name == INDEX_ENV) {
        return;
    }
    let field_path = format!("metadata.labels['{}']", label::JOB_COMPLETION_INDEX);
    env.push(EnvVar {
        name: INDEX_ENV.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path }),
            ..EnvVarSource::default()
        }),
    });
}

/// The failures of an index outlive its pods in annotations.
fn carry_failures(job: &Job, pod: &mut Pod, replaced: Option<&Pod>) {
    let (mut failures, mut ignored) = replaced.map_or((0, 0), |p| (failure_count(p), ignored_failure_count(p)));
    if let Some(replaced) = replaced {
        let policy = job.spec.as_ref().and_then(|s| s.pod_failure_policy.as_ref());
        match policy::failure(policy, replaced) {
            Failure::Ignored => ignored += 1,
            _ => failures += 1,
        }
    }
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::JOB_INDEX_FAILURE_COUNT.into(), failures.to_string());
    if ignored > 0 {
        annotations.insert(annotation::JOB_INDEX_IGNORED_FAILURE_COUNT.into(), ignored.to_string());
    }
}
