//! Image names in the one spelling that CRI looks up.

/// `busybox` is `docker.io/library/busybox:latest`; a name with a registry keeps it; a digest needs no tag.
pub fn normalize(name: &str) -> String {
    let (path, digest) = match name.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (name, None),
    };
    let (repository, tag) = match path.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (path, None),
    };
    let registry_named = match repository.split_once('/') {
        Some((first, _)) => first.contains(['.', ':']) || first == "localhost",
        None => false,
    };
    let repository = match (registry_named, repository.contains('/')) {
        (true, _) => repository.to_owned(),
        (false, true) => format!("docker.io/{repository}"),
        (false, false) => format!("docker.io/library/{repository}"),
    };
    match (tag, digest) {
        (Some(tag), Some(digest)) => format!("{repository}:{tag}@{digest}"),
        (None, Some(digest)) => format!("{repository}@{digest}"),
        (tag, None) => format!("{repository}:{}", tag.unwrap_or("latest")),
    }
}

/// The tag of an image name: `None` when it is given by digest only. Upstream's default pull policy is `Always` for `latest`.
pub fn tag(name: &str) -> Option<String> {
    let full = normalize(name);
    let (path, digested) = match full.split_once('@') {
        Some((path, _)) => (path.to_owned(), true),
        None => (full, false),
    };
    match path.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => Some(tag.to_owned()),
        _ => (!digested).then(|| "latest".to_owned()),
    }
}

#[cfg(test)]
mod tests;
