//! Custom resources as kubectl sees them, on a server without nodes; the garbage collector and the namespace controller see them too.

use xebec_tests::{Kubectl, Place, eventually};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    selectableFields: [{jsonPath: .spec.cronSpec}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, description: When to run., pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'}
              replicas: {type: integer, minimum: 0, maximum: 10, default: 1}
            x-kubernetes-validations:
            - {rule: "self.replicas != 7", message: "seven is right out"}
          status:
            type: object
            properties: {replicas: {type: integer}}
"#;

fn object(name: &str, fields: &str) -> String {
    format!("apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: {name}}}\nspec: {{{fields}}}\n")
}

fn use_it(kubectl: &Kubectl) {
    kubectl.ok_with("apply -f -", DEFINITION);
    kubectl.ok("wait --for=condition=Established --timeout=20s crd/crontabs.stable.example.com");
    let one = object("one", "cronSpec: '* * * * */5'");
    kubectl.ok_with("create -f -", &one);
    kubectl.ok_with("apply --server-side -f -", &object("two", "cronSpec: '1 * * * *', replicas: 3"));
    let rows = kubectl.ok("get ct");
    assert!(rows.contains("SPEC") && rows.contains("* * * * */5") && rows.contains("two"), "{rows}");
    assert!(kubectl.ok("get all").contains("crontab.stable.example.com/one"));
    let selected = kubectl.ok("get ct -o name --field-selector 'spec.cronSpec=1 * * * *'");
    assert_eq!(selected.trim(), "crontab.stable.example.com/two");
    assert!(kubectl.ok("explain crontab.spec").contains("When to run."));
    assert!(kubectl.ok("explain ct --recursive").contains("replicas"));

    let refused = |fields: &str, why: &str| {
        let said = kubectl.fails("create -f -", Some(&object("bad", fields)));
        assert!(said.contains(why), "{said}");
    };
    refused("replicas: 1", "spec.cronSpec: Required value");
    refused("cronSpec: '* * * * *', replicas: 11", "spec.replicas in body should be less than or equal to 10");
    refused("cronSpec: '* * * * *', replicas: 7", "seven is right out");
    refused("cronSpec: '* * * * *', image: x", "unknown field \"spec.image\"");

    kubectl.ok("scale --replicas=4 crontab/one");
    assert_eq!(kubectl.json("get ct one")["spec"]["replicas"], 4);
    kubectl.ok("label ct one a=b");
    kubectl.ok("patch ct one --type=merge -p '{\"spec\":{\"replicas\":5}}'");
    let edited = kubectl.ok_with("apply -f -", &object("one", "cronSpec: '2 * * * *'"));
    assert!(edited.contains("configured"), "{edited}");
    kubectl.ok("patch ct one --subresource=status --type=merge -p '{\"status\":{\"replicas\":5}}'");
    kubectl.ok("wait --for=jsonpath={.status.replicas}=5 --timeout=20s ct/one");
}

#[test]
fn kubectl_uses_custom_resources_like_others() {
    let place = Place::new(None);
    let _server = place.serve(&["--no-scheduler"]);
    for kubectl in place.kubectls() {
        use_it(&kubectl);
        kubectl.ok("delete crd crontabs.stable.example.com --timeout=30s");
        eventually("no crontabs", 20, || match kubectl.run("get crontabs", None) {
            Err(error) if ["doesn't have a resource type", "NotFound"].iter().any(|t| error.contains(t)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
fn controllers_delete_custom_resources() {
    let place = Place::new(None);
    let server = place.serve(&["--no-scheduler"]);
    let kubectl = place.kubectl();
    kubectl.ok_with("apply -f -", DEFINITION);
    kubectl.ok("wait --for=condition=Established --timeout=20s crd/crontabs.stable.example.com");
    kubectl.ok("create namespace doomed");
    kubectl.ok_with("create -n doomed -f -", &object("one", "cronSpec: '* * * * *'"));
    kubectl.ok("delete namespace doomed --timeout=60s");
    kubectl.ok("create namespace doomed");
    assert_eq!(kubectl.ok("get ct -n doomed -o name"), "");

    // What a custom resource owns goes with it, also after the server started again.
    kubectl.ok_with("create -f -", &object("owner", "cronSpec: '* * * * *'"));
    server.stop();
    let _server = place.serve(&["--no-scheduler"]);
    let uid = kubectl.ok("get ct owner -o jsonpath={.metadata.uid}");
    let owned = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences:\n  - {{apiVersion: stable.example.com/v1, kind: CronTab, name: owner, uid: {uid}}}\n"
    );
    kubectl.ok_with("create -f -", &owned);
    kubectl.ok("delete ct owner");
    kubectl.ok("wait --for=delete configmap/owned --timeout=60s");
}
