//! Credentials for image registries: what `imagePullSecrets` hold, matched as upstream's `credentialprovider` does.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use xebec_cri::{reference, v1};
use xebec_types::core::Pod;

use crate::objects::Objects;
use crate::pod::{self, PodRef};

/// Registries' patterns and what to log in with.
#[derive(Debug, Default, PartialEq)]
pub struct Keyring(Vec<(String, v1::AuthConfig)>);

impl Keyring {
    /// What the pod's secrets hold. One that is missing or unreadable is told and passed over, as upstream does.
    pub async fn of(pod: &Pod, objects: &dyn Objects) -> Self {
        let mut keyring = Self::default();
        let namespace = PodRef::of(pod).namespace;
        for name in pod::spec(pod).image_pull_secrets.iter().flatten().map(|secret| &secret.name) {
            match objects.secret(&namespace, name).await {
                Ok(data) => keyring.add(&data),
                Err(error) => tracing::warn!(namespace, secret = name, %error, "read a pull secret"),
            }
        }
        keyring
    }

    /// The keys of `kubernetes.io/dockerconfigjson` and the older `kubernetes.io/dockercfg`.
    pub fn add(&mut self, secret: &BTreeMap<String, Vec<u8>>) {
        let parse = |key: &str| secret.get(key).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let new = parse(".dockerconfigjson").map(|config| config["auths"].clone());
        for (registry, entry) in
            new.or_else(|| parse(".dockercfg")).as_ref().and_then(Value::as_object).into_iter().flatten()
        {
            if let Some(auth) = auth(entry) {
                self.0.push((pattern(registry), auth));
            }
        }
    }

    /// What may open the image's registry, the longest pattern first.
    pub fn find(&self, image: &str) -> Vec<v1::AuthConfig> {
        let image = reference::normalize(image);
        let mut found: Vec<_> = self.0.iter().filter(|(pattern, _)| matches(pattern, &image)).collect();
        found.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        found.into_iter().map(|(_, auth)| auth.clone()).collect()
    }
}

/// `auth` is `user:password` in base64; separate fields win over it.
fn auth(entry: &Value) -> Option<v1::AuthConfig> {
    let text = |field: &str| entry[field].as_str().map(str::to_owned);
    let joined =
        text("auth").and_then(|encoded| STANDARD.decode(encoded).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let split = joined.as_deref().and_then(|joined| joined.split_once(':'));
    let (username, password) = match (text("username"), text("password")) {
        (Some(username), Some(password)) => (username, password),
        _ => split.map(|(username, password)| (username.to_owned(), password.trim_end_matches('\0').to_owned()))?,
    };
    Some(v1::AuthConfig { username, password, ..v1::AuthConfig::default() })
}

/// `https://index.docker.io/v1/` and its like become `host/path`.
fn pattern(registry: &str) -> String {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    match bare.strip_prefix("index.docker.io") {
        Some(path) => format!("docker.io{path}"),
        None => bare.to_owned(),
    }
}

/// Host and port part by part, where `*` stands for one part; then the path as a prefix.
fn matches(pattern: &str, image: &str) -> bool {
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let Some((image_host, image_path)) = image.split_once('/') else { return false };
    let (parts, image_parts) = (host.split('.'), image_host.split('.'));
    parts.clone().count() == image_parts.clone().count()
        && parts.zip(image_parts).all(|(part, image)| part == "*" || part == image)
        && image_path.starts_with(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keyring(config: Value) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add(&BTreeMap::from([(".dockerconfigjson".to_owned(), config.to_string().into_bytes())]));
        keyring
    }

    #[track_caller]
    fn check(registry: &str, image: &str, expected: bool) {
        let keyring = keyring(json!({"auths": {registry: {"auth": STANDARD.encode("u:p:q")}}}));
        let found = keyring.find(image);
        assert_eq!(found.len(), usize::from(expected), "{registry} for {image}");
        assert!(found.iter().all(|auth| auth.username == "u" && auth.password == "p:q"));
    }

    #[test]
    fn registries_match_by_host_and_path() {
        check("r.test", "r.test/a/b:1", true);
        check("https://r.test/v1/", "r.test/a", true);
        check("r.test:5000", "r.test:5000/a", true);
        check("r.test", "r.test:5000/a", false);
        check("r.test/team", "r.test/team/a@sha256:00", true);
        check("r.test/team", "r.test/other/a", false);
        check("*.r.test", "eu.r.test/a", true);
        check("*.r.test", "r.test/a", false);
        check("https://index.docker.io/v1/", "busybox", true);
        check("r.test", "busybox", false);
    }

    #[test]
    fn the_longest_pattern_comes_first_and_fields_win() {
        let keyring = keyring(json!({"auths": {
            "r.test": {"username": "wide", "password": "1"},
            "r.test/team": {"username": "narrow", "password": "2", "auth": STANDARD.encode("x:y")},
            "broken": {"auth": "%"},
        }}));
        let names: Vec<_> = keyring.find("r.test/team/a").into_iter().map(|auth| auth.username).collect();
        assert_eq!(names, ["narrow", "wide"]);
    }

    #[test]
    fn the_older_format_has_no_auths() {
        let mut keyring = Keyring::default();
        let old = json!({"r.test": {"username": "u", "password": "p"}}).to_string().into_bytes();
        keyring.add(&BTreeMap::from([(".dockercfg".to_owned(), old)]));
        assert_eq!(keyring.find("r.test/a").len(), 1);
        keyring.add(&BTreeMap::from([(".dockerconfigjson".to_owned(), b"not json".to_vec())]));
        assert_eq!(keyring.0.len(), 1);
    }
}
