//! Who may ask what. The API server and other nodes are known by their certificates; everybody else is whom the API
//! server says they are, and may do what it says they may, as with upstream's webhook mode.

use http::{Method, Request, StatusCode, header};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refused;
use crate::kubelet::Kubelet;
use crate::reviews::User;

/// As whom the API server presents itself (control-plane/apiserver, `pki`).
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
const AUTHENTICATED: &str = "system:authenticated";

/// Whom a client's certificate names: common name the user, organisations the groups.
pub fn user_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<User> {
    let leaf = certificates?.first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().ok().map(str::to_owned);
    let name = subject.iter_common_name().find_map(text)?;
    let groups = subject.iter_organization().filter_map(text).chain([AUTHENTICATED.to_owned()]).collect();
    Some(User { name, groups, ..User::default() })
}

/// Refuses who may not do this. `certified` is whom the connection's certificate names.
///
/// # Errors
/// 401 without credentials that the API server knows, 403 without the right, 500 when the API server cannot be asked.
pub async fn check<B>(kubelet: &Kubelet, certified: Option<&User>, request: &Request<B>) -> Result<(), Refused> {
    let path = request.uri().path().trim_matches('/');
    if certified.is_some_and(|user| is_trusted(user, path)) {
        return Ok(());
    }
    let user = match (certified, bearer(request)) {
        (Some(user), _) => Some(user.clone()),
        (None, Some(token)) => kubelet.reviews.user(token).await.map_err(unavailable)?,
        (None, None) => None,
    };
    let Some(user) = user else {
        return Err(Refused(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    };
    let (verb, subresources) = (verb(request.method()), subresources(path));
    for subresource in subresources {
        if kubelet.reviews.may(&user, verb, subresource).await.map_err(unavailable)? {
            return Ok(());
        }
    }
    let what = format!("user={}, verb={verb}, resource=nodes, subresource(s)=[{}]", user.name, subresources.join(" "));
    Err(Refused(StatusCode::FORBIDDEN, format!("Forbidden ({what})")))
}

fn unavailable(why: String) -> Refused {
    Refused(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// Who needs no review, so that the node answers while the API server is away.
fn is_trusted(user: &User, path: &str) -> bool {
    let group = |wanted: &str| user.groups.iter().any(|group| group == wanted);
    let harmless = matches!(path, "healthz" | "livez" | "readyz" | "xebec/v1/applied");
    user.name == API_SERVER || group(MASTERS) || (group(NODES) && harmless)
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes` any of which opens a path (`KubeletFineGrainedAuthz`, KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').next().unwrap_or_default() {
        "metrics" => &["metrics"],
        "stats" => &["stats"],
        "pods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certified(user: &str, group: &str) -> User {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        user_of(Some(&[certificate.der().clone()])).unwrap()
    }

    #[track_caller]
    fn check(user: &str, group: &str, path: &str, expected: bool) {
        assert_eq!(is_trusted(&certified(user, group), path), expected, "{user} of {group} at {path}");
    }

    #[test]
    fn names_decide() {
        for path in ["exec/ns/pod/c", "pods", "containerLogs/ns/pod/c", "metrics", "xebec/v1"] {
            check("kube-apiserver-kubelet-client", "anything", path, true);
            check("admin", "system:masters", path, true);
            check("system:node:n1", "system:nodes", path, false);
            check("jane", "developers", path, false);
        }
        check("system:node:n1", "system:nodes", "xebec/v1/applied", true);
        check("jane", "developers", "healthz", false);
        assert_eq!(certified("jane", "developers").groups, ["developers", "system:authenticated"]);
        assert_eq!(user_of(None), None);
    }

    #[test]
    fn paths_are_subresources_of_the_node() {
        assert_eq!(subresources("metrics/resource"), ["metrics"]);
        assert_eq!(subresources("stats/summary"), ["stats"]);
        assert_eq!(subresources("pods"), ["pods", "proxy"]);
        assert_eq!(subresources("exec/ns/pod/c"), ["proxy"]);
        assert_eq!(verb(&Method::POST), "create");
    }
}
