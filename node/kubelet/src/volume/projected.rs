//! Volumes whose files come from the API: configMap, secret, downwardAPI, and projections of them and of tokens.

use std::collections::BTreeMap;

use xebec_types::core::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
};

use super::VolumeError;
use super::atomic::File;
use crate::env::Facts;
use crate::field;
use crate::objects::{ObjectError, Objects, TokenSpec};
use crate::pod::{self, PodRef};

/// The files of a volume.
pub(super) struct Payload {
    /// The name in the volume's path.
    pub plugin: &'static str,
    /// Secrets and tokens never reach a disk.
    pub in_memory: bool,
    pub files: BTreeMap<String, File>,
}

/// upstream's default for every one of these volumes.
const DEFAULT_MODE: i32 = 0o644;

struct Gather<'a> {
    pod: &'a Pod,
    facts: &'a Facts,
    objects: &'a dyn Objects,
    namespace: String,
    default_mode: i32,
    files: BTreeMap<String, File>,
}

/// What the volume holds; `None` for a kind of volume that is none of these.
pub(super) async fn payload(
    pod: &Pod,
    volume: &Volume,
    facts: &Facts,
    objects: &dyn Objects,
) -> Result<Option<Payload>, VolumeError> {
    let namespace = PodRef::of(pod).namespace;
    let mut gather = Gather { pod, facts, objects, namespace, default_mode: DEFAULT_MODE, files: BTreeMap::new() };
    let (plugin, in_memory) = if let Some(source) = &volume.config_map {
        gather.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        gather.config_map(&source.name, source.items.as_deref(), source.optional).await?;
        ("configmap", false)
    } else if let Some(source) = &volume.secret {
        gather.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        gather
            .secret(source.secret_name.as_deref().unwrap_or_default(), source.items.as_deref(), source.optional)
            .await?;
        ("secret", true)
    } else if let Some(source) = &volume.downward_api {
        gather.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        gather.downward(source.items.as_deref().unwrap_or_default())?;
        ("downward-api", false)
    } else if let Some(source) = &volume.projected {
        gather.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        gather.projected(source).await?;
        ("projected", true)
    } else {
        return Ok(None);
    };
    Ok(Some(Payload { plugin, in_memory, files: gather.files }))
}

impl Gather<'_> {
    fn add(&mut self, path: &str, bytes: Vec<u8>, mode: Option<i32>, owner: Option<u32>) -> Result<(), VolumeError> {
        if path.is_empty()
            || path.starts_with('/')
            || path.split('/').any(|part| part == "..")
            || path.starts_with("..")
        {
            return Err(VolumeError::Invalid(format!("invalid path {path:?} in a volume")));
        }
        let mode = u32::try_from(mode.unwrap_or(self.default_mode)).unwrap_or(0o644) & 0o777;
        self.files.insert(path.to_owned(), File { bytes, mode, owner });
        Ok(())
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let data = match self.objects.config_map(&self.namespace, name).await {
            Err(ObjectError::NotFound { .. }) if optional == Some(true) => return Ok(()),
            other => other?,
        };
        let mut values = data.binary;
        values.extend(data.text.into_iter().map(|(key, value)| (key, value.into_bytes())));
        self.keys(values, items, optional)
    }

    async fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let values = match self.objects.secret(&self.namespace, name).await {
            Err(ObjectError::NotFound { .. }) if optional == Some(true) => return Ok(()),
            other => other?,
        };
        self.keys(values, items, optional)
    }

    /// Every key under its own name, or the listed keys under their paths.
    fn keys(
        &mut self,
        mut values: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, bytes) in values {
                self.add(&key, bytes, None, None)?;
            }
            return Ok(());
        };
        for item in items {
            match values.remove(&item.key) {
                Some(bytes) => {
                    self.add(&item.path, bytes.clone(), item.mode, None)?;
                    // The same key may be listed twice.
                    values.insert(item.key.clone(), bytes);
                }
                None if optional == Some(true) => {}
                None => return Err(VolumeError::Invalid(format!("references non-existent config key: {}", item.key))),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: &[DownwardAPIVolumeFile]) -> Result<(), VolumeError> {
        for item in items {
            let text = if let Some(reference) = &item.field_ref {
                field::pod_field(self.pod, &reference.field_path, self.facts)
            } else if let Some(reference) = &item.resource_field_ref {
                let name = reference.container_name.as_deref().unwrap_or_default();
                let container = pod::find_container(self.pod, name);
                let container = container.ok_or_else(|| VolumeError::Invalid(format!("container {name} not found")))?;
                field::resource_field(container, &reference.resource, reference.divisor.as_ref(), self.facts)
            } else {
                continue;
            };
            self.add(&item.path, text.map_err(VolumeError::Invalid)?.into_bytes(), item.mode, None)?;
        }
        Ok(())
    }

    async fn projected(&mut self, source: &ProjectedVolumeSource) -> Result<(), VolumeError> {
        for source in source.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                self.config_map(&source.name, source.items.as_deref(), source.optional).await?;
            } else if let Some(source) = &source.secret {
                self.secret(&source.name, source.items.as_deref(), source.optional).await?;
            } else if let Some(source) = &source.downward_api {
                self.downward(source.items.as_deref().unwrap_or_default())?;
            } else if let Some(source) = &source.service_account_token {
                self.token(source).await?;
            } else {
                return Err(VolumeError::Invalid("this projected source is not supported".to_owned()));
            }
        }
        Ok(())
    }

    async fn token(&mut self, source: &ServiceAccountTokenProjection) -> Result<(), VolumeError> {
        let spec = TokenSpec {
            service_account: pod::spec(self.pod).service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
            audience: source.audience.clone().unwrap_or_default(),
            expiration_seconds: source.expiration_seconds.unwrap_or(3600),
        };
        let token = self.objects.token(&PodRef::of(self.pod), &spec).await?;
        let context = pod::spec(self.pod).security_context.clone().unwrap_or_default();
        let owner = uniform_user(self.pod);
        // A token is its reader's own where the reader is known.
        let mode = (owner.is_some() || context.fs_group.is_some()).then_some(0o600);
        self.add(&source.path, token.into_bytes(), mode, owner)
    }
}

/// The user that every container runs as, when they say so and agree.
fn uniform_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|c| c.run_as_user);
    let mut users =
        pod::all_containers(pod).map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}
