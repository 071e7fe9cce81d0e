use super::*;

fn authorizer() -> Authorizer {
    let authorizer = Authorizer::new(&[AuthorizationMode::Rbac]);
    let mut index = authorizer.index.write();
    let role = |rules: Value| json!({ "metadata": { "name": "r" }, "rules": rules });
    let reader = role(json!([{ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"] }]));
    index.put("clusterroles", "", "reader", &reader);
    let named =
        role(json!([{ "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"] }]));
    index.put("roles", "ns", "named", &named);
    let paths = role(json!([{ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"] }]));
    index.put("clusterroles", "", "paths", &paths);
    let bind = |kind: &str, role: &str, subject: Value| json!({ "roleRef": { "kind": kind, "name": role }, "subjects": [subject] });
    let group = json!({ "kind": "Group", "name": "readers" });
    index.put("clusterrolebindings", "", "b1", &bind("ClusterRole", "reader", group));
    let account = json!({ "kind": "ServiceAccount", "namespace": "ns", "name": "sa" });
    index.put("rolebindings", "ns", "b2", &bind("Role", "named", account));
    index.put("rolebindings", "ns", "b3", &bind("ClusterRole", "reader", json!({ "kind": "User", "name": "bob" })));
    index.put("clusterrolebindings", "", "b4", &bind("ClusterRole", "paths", json!({ "kind": "User", "name": "bob" })));
    let admin = json!({ "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "to": "admin" } }] } });
    index.put("clusterroles", "", "admin", &admin);
    index.put(
        "clusterrolebindings",
        "",
        "b5",
        &bind("ClusterRole", "admin", json!({ "kind": "User", "name": "root" })),
    );
    let mut part = role(json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]));
    part["metadata"]["labels"] = json!({ "to": "admin" });
    index.put("clusterroles", "", "part", &part);
    drop(index);
    authorizer
}

/// `what`: verb group/resource[/subresource] namespace name; or verb and path.
#[track_caller]
fn check(user: &str, groups: &[&str], what: &str, expected: bool) {
    let words: Vec<_> = what.split(' ').collect();
    let attributes = match words.as_slice() {
        [verb, path] => Attributes { verb: (*verb).into(), path: Some((*path).into()), ..Attributes::default() },
        [verb, resource, namespace, name] => {
            let mut parts = resource.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            let (group, resource, subresource) = (next(), next(), next());
            let (namespace, name) = (namespace.trim_matches('-').to_owned(), name.trim_matches('-').to_owned());
            Attributes { verb: (*verb).into(), group, resource, subresource, namespace, name, ..Attributes::default() }
        }
        _ => panic!("{what}"),
    };
    let allowed = authorizer().authorize(&UserInfo::new(user, groups), &attributes) != Verdict::Denied;
    assert_eq!(allowed, expected, "{user} {groups:?}: {what}");
}

#[test]
fn rules_reach_as_far_as_their_binding() {
    check("x", &["readers"], "get /pods - p", true);
    check("x", &["readers"], "get /pods/log ns p", true);
    check("x", &["readers"], "get /pods/exec ns p", false);
    check("x", &["readers"], "delete /pods ns p", false);
    check("x", &[], "get /pods ns p", false);
    check("bob", &[], "list /pods ns -", true);
    check("bob", &[], "list /pods other -", false);
    check("bob", &[], "list /pods - -", false);
}

#[test]
fn names_paths_and_aggregation() {
    check("system:serviceaccount:ns:sa", &[], "get /configmaps ns a", true);
    check("system:serviceaccount:ns:sa", &[], "get /configmaps ns b", false);
    check("bob", &[], "get /healthz", true);
    check("bob", &[], "get /apis/apps/v1", true);
    check("bob", &[], "get /metrics", false);
    check("root", &[], "delete apps/deployments ns d", true);
    check("any", &[SYSTEM_MASTERS], "delete apps/deployments ns d", true);
}

#[test]
fn refusals_are_worded_as_upstream() {
    let user = UserInfo::new("bob", &[]);
    let attributes = Attributes {
        verb: "list".into(),
        group: "apps".into(),
        resource: "deployments".into(),
        namespace: "ns".into(),
        ..Attributes::default()
    };
    assert_eq!(
        forbidden(&user, &attributes).message,
        "deployments.apps is forbidden: User \"bob\" cannot list resource \"deployments\" in API group \"apps\" in the namespace \"ns\""
    );
    let path = Attributes { verb: "get".into(), path: Some("/metrics".into()), ..Attributes::default() };
    assert_eq!(forbidden(&user, &path).message, "forbidden: User \"bob\" cannot get path \"/metrics\"");
}

#[track_caller]
fn check_node(verb: &str, group: &str, resource: &str, namespace: &str, name: &str, expected: bool) {
    let authorizer = Authorizer::new(&[AuthorizationMode::Node, AuthorizationMode::Rbac]);
    let role = json!({ "rules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["secrets", "configmaps", "leases", "pods", "resourceclaims"] }] });
    authorizer.index.write().put("clusterroles", "", "system:node", &role);
    let pod = json!({ "spec": {
        "nodeName": "n1",
        "volumes": [{ "secret": { "secretName": "mounted" } }],
        "containers": [{ "envFrom": [{ "configMapRef": { "name": "env" } }] }],
        "resourceClaims": [{ "name": "a", "resourceClaimName": "claimed" }, { "name": "b", "resourceClaimTemplateName": "t" }],
    }, "status": { "resourceClaimStatuses": [{ "name": "b", "resourceClaimName": "generated" }] } });
    let mut graph = authorizer.graph.write();
    graph.put("ns", "p", &pod);
    graph.put("ns", "gone", &json!({ "spec": { "nodeName": "n1", "imagePullSecrets": [{ "name": "old" }] } }));
    graph.put("ns", "gone", &Value::Null);
    drop(graph);
    let attributes = Attributes {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let user = UserInfo::new("system:node:n1", &["system:nodes"]);
    let allowed = authorizer.authorize(&user, &attributes) != Verdict::Denied;
    assert_eq!(allowed, expected, "{verb} {resource} {namespace}/{name}");
}

#[test]
fn nodes_read_what_their_pods_refer_to() {
    check_node("get", "", "secrets", "ns", "mounted", true);
    check_node("get", "", "configmaps", "ns", "env", true);
    check_node("get", "", "secrets", "ns", "other", false);
    check_node("get", "", "secrets", "ns", "old", false);
    check_node("list", "", "secrets", "ns", "", false);
    check_node("get", "resource.k8s.io", "resourceclaims", "ns", "claimed", true);
    check_node("get", "resource.k8s.io", "resourceclaims", "ns", "generated", true);
    check_node("get", "resource.k8s.io", "resourceclaims", "ns", "other", false);
    check_node("list", "resource.k8s.io", "resourceclaims", "ns", "", false);
    check_node("list", "", "pods", "", "", true);
    check_node("update", "coordination.k8s.io", "leases", "kube-node-lease", "n1", true);
    check_node("update", "coordination.k8s.io", "leases", "kube-node-lease", "n2", false);
    check_node("list", "discovery.k8s.io", "endpointslices", "", "", true);
    check_node("delete", "discovery.k8s.io", "endpointslices", "ns", "s", false);
}
