use super::*;

/// `expected`: verb, group, version, namespace, resource, subresource, name separated by spaces, `-` for empty.
#[track_caller]
fn check(method: &str, uri: &str, expected: &str) {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let info = RequestInfo::new(&Method::from_bytes(method.as_bytes()).unwrap(), path, query);
    let fields = [
        info.verb.as_str(),
        &info.group,
        &info.version,
        &info.namespace,
        &info.resource,
        &info.subresource,
        &info.name,
    ];
    let got = fields.map(|f| if f.is_empty() { "-" } else { f }).join(" ");
    assert_eq!(got, expected, "{method} {uri}");
}

#[test]
fn resources() {
    check("GET", "/api/v1/namespaces", "list - v1 - namespaces - -");
    check("GET", "/api/v1/namespaces/other", "get - v1 other namespaces - other");
    check("GET", "/api/v1/namespaces/other/pods", "list - v1 other pods - -");
    check("GET", "/api/v1/namespaces/other/pods/foo", "get - v1 other pods - foo");
    check("HEAD", "/api/v1/namespaces/other/pods/foo", "get - v1 other pods - foo");
    check("GET", "/api/v1/pods", "list - v1 - pods - -");
    check("GET", "/api/v1/nodes/n1/status", "get - v1 - nodes status n1");
    check("PUT", "/api/v1/namespaces/other/finalize", "update - v1 other namespaces finalize other");
    check("GET", "/apis/apps/v1/namespaces/d/deployments/x/scale", "get apps v1 d deployments scale x");
    check("POST", "/apis/apps/v1/namespaces/d/deployments", "create apps v1 d deployments - -");
    check("DELETE", "/api/v1/namespaces/d/pods", "deletecollection - v1 d pods - -");
    check("DELETE", "/api/v1/namespaces/d/pods/p", "delete - v1 d pods - p");
    check("PATCH", "/api/v1/namespaces/d/pods/p", "patch - v1 d pods - p");
    check("POST", "/api/v1/namespaces/d/pods/p/binding", "create - v1 d pods binding p");
}

#[test]
fn watches() {
    check("GET", "/api/v1/pods?watch=true", "watch - v1 - pods - -");
    check("GET", "/api/v1/pods?watch=1", "watch - v1 - pods - -");
    check("GET", "/api/v1/pods?watch=false", "list - v1 - pods - -");
    check("GET", "/api/v1/watch/namespaces/d/pods", "watch - v1 d pods - -");
}

#[test]
fn other_paths() {
    for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v2"] {
        check("GET", path, "get - - - - - -");
    }
}
