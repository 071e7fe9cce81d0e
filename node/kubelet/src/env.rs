//! A container's environment, as upstream's `makeEnvironmentVariables`.

use std::collections::BTreeMap;

use xebec_types::core::{Container, EnvVar, EnvVarSource, Pod, Service};

use crate::authority::authority;
use crate::field;
use crate::objects::{ConfigMapData, ObjectError, Objects};
use crate::pod;

/// Each is a `CreateContainerConfigError` in the container's status.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { key: String, kind: &'static str, namespace: String, name: String },
    #[error("{0}")]
    Field(String),
}

/// What fields of the pod cannot be read from its object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    pub node_name: String,
    /// Of the node: the limits of containers that have none.
    pub allocatable_milli_cpu: i64,
    pub allocatable_memory_bytes: i64,
}

/// Name and value, in the order upstream gives them to the runtime.
pub async fn variables(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    objects: &dyn Objects,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = xebec_types::object::namespace(&pod.metadata);
    let mut result = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let data = optional(objects.config_map(namespace, &reference.name).await, reference.optional)?;
            for (key, value) in data.map(|d| d.text).unwrap_or_default() {
                result.set(format!("{prefix}{key}"), value);
            }
        } else if let Some(reference) = &from.secret_ref {
            let data = optional(objects.secret(namespace, &reference.name).await, reference.optional)?;
            for (key, value) in data.unwrap_or_default() {
                result.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    let links = pod::spec(pod).enable_service_links.unwrap_or(true);
    let services = service_variables(&objects.services(namespace).await, namespace, links);
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, facts, objects, &result, &services).await? {
            result.set(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if !result.values.contains_key(&name) {
            result.set(name, value);
        }
    }
    Ok(result.order.into_iter().map(|name| (name.clone(), result.values.remove(&name).unwrap_or_default())).collect())
}

#[derive(Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }
}

fn optional<T>(result: Result<T, ObjectError>, optional: Option<bool>) -> Result<Option<T>, EnvError> {
    match result {
        Err(ObjectError::NotFound { .. }) if optional == Some(true) => Ok(None),
        other => Ok(Some(other?)),
    }
}

async fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    facts: &Facts,
    objects: &dyn Objects,
    known: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    match &variable.value_from {
        None => {
            let text = variable.value.as_deref().unwrap_or_default();
            Ok(Some(expand(text, |name| known.values.get(name).or_else(|| services.get(name)).cloned())))
        }
        Some(source) => from_source(pod, container, source, facts, objects).await,
    }
}

async fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &Facts,
    objects: &dyn Objects,
) -> Result<Option<String>, EnvError> {
    let namespace = xebec_types::object::namespace(&pod.metadata);
    let missing = |key: &str, kind, name: &str| EnvError::Key {
        key: key.to_owned(),
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    if let Some(field) = &source.field_ref {
        return field::pod_field(pod, &field.field_path, facts).map(Some).map_err(EnvError::Field);
    }
    if let Some(resource) = &source.resource_field_ref {
        let of =
            resource.container_name.as_deref().and_then(|name| pod::find_container(pod, name)).unwrap_or(container);
        return field::resource_field(of, &resource.resource, resource.divisor.as_ref(), facts)
            .map(Some)
            .map_err(EnvError::Field);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let data: Option<ConfigMapData> =
            optional(objects.config_map(namespace, &reference.name).await, reference.optional)?;
        let value = data.and_then(|d| d.text.get(&reference.key).cloned());
        return found(value, reference.optional, || missing(&reference.key, "ConfigMap", &reference.name));
    }
    if let Some(reference) = &source.secret_key_ref {
        let data = optional(objects.secret(namespace, &reference.name).await, reference.optional)?;
        let value = data.and_then(|d| d.get(&reference.key).map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        return found(value, reference.optional, || missing(&reference.key, "Secret", &reference.name));
    }
    Ok(None)
}

fn found(
    value: Option<String>,
    optional: Option<bool>,
    missing: impl FnOnce() -> EnvError,
) -> Result<Option<String>, EnvError> {
    if value.is_none() && optional != Some(true) {
        return Err(missing());
    }
    Ok(value)
}

/// `$(NAME)` becomes its value, `$$` a dollar; a name that is not known stays as it is written.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&lookup(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `NAME_SERVICE_HOST` and the rest of upstream's `envvars.FromServices`. Without service links only `kubernetes` remains.
pub fn service_variables(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let api_server = meta.namespace.as_deref() == Some("default") && meta.name.as_deref() == Some("kubernetes");
        if api_server || links && meta.namespace.as_deref() == Some(namespace) {
            one_service(service, &mut variables);
        }
    }
    variables
}

fn one_service(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !ip.is_empty() && ip != "None") else { return };
    let prefix = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut set = |name: String, value: String| variables.insert(format!("{prefix}_{name}"), value);
    set("SERVICE_HOST".into(), ip.to_owned());
    set("SERVICE_PORT".into(), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(format!("SERVICE_PORT_{}", upper(name)), port.port.to_string());
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = u16::try_from(port.port).unwrap_or_default();
        let url = format!("{}://{}", protocol.to_lowercase(), authority(ip, number));
        let link = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
        if i == 0 {
            set("PORT".into(), url.clone());
        }
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol.to_lowercase());
        set(format!("{link}_PORT"), port.port.to_string());
        set(format!("{link}_ADDR"), ip.to_owned());
    }
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests;
