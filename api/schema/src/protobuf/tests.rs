use serde_json::json;

use super::*;

fn round_trip(value: Value) {
    let bytes = encode(&value).unwrap_or_else(|e| panic!("{value}: {e}"));
    assert_eq!(decode(&bytes), Ok(value));
}

#[test]
fn objects_survive_a_round_trip() {
    round_trip(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b", "c": ""}, "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3, "managedFields": [
            {"manager": "m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "command": ["a", "b"], "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": false}}}],
                "securityContext": {"runAsUser": 0, "privileged": false}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "cm"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}],
            "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}],
            "securityContext": {"supplementalGroups": [1, -2]}, "terminationGracePeriodSeconds": 0, "nodeSelector": {"x": "y"}},
        "status": {"podIPs": [{"ip": "10.0.0.1"}], "podIP": "10.0.0.1"},
    }));
    round_trip(json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": "u", "extra": {"k": ["a", "b"]}, "resourceAttributes": {"verb": "get"}}, "status": {"allowed": false},
    }));
    round_trip(json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": "AAEC/w=="}, "immutable": true}));
    round_trip(
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background", "preconditions": {"uid": "u"}}),
    );
    round_trip(
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound", "details": {"name": "x", "causes": [{"field": "f"}]}}),
    );
    round_trip(
        json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {"resourceVersion": "7"}, "items": [{
            "metadata": {"name": "d"},
            "spec": {
                "replicas": 0, "selector": {}, "template": {"spec": {"containers": [{"name": "c"}]}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}}}]
        }),
    );
    round_trip(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 40}}),
    );
    // A pointer to zero.
    round_trip(
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "spec": {"nodeAllocatableUpdatePeriodSeconds": 0}}),
    );
    // Not Go's zero time.
    round_trip(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"renewTime": "1970-01-01T00:00:00.000000Z"}}),
    );
    round_trip(
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"kind": "X", "spec": {"a": [1]}}}),
    );
    round_trip(json!({"apiVersion": "v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}}));
}

/// A Deployment as Go encodes it: zeros of fields that are no pointers are written.
#[test]
fn zeros_that_mean_nothing_are_dropped() {
    let mut meta = Writer::default();
    meta.bytes(1, b"d");
    meta.bytes(2, b""); // generateName
    meta.bytes(8, b""); // creationTimestamp
    let mut spec = Writer::default();
    spec.varint(1, 0); // replicas: a pointer
    spec.varint(5, 0); // minReadySeconds: none
    let mut raw = Writer::default();
    raw.bytes(1, meta.as_slice());
    raw.bytes(2, spec.as_slice());
    let mut kind = Writer::default();
    kind.bytes(1, b"apps/v1");
    kind.bytes(2, b"Deployment");
    let mut body = Writer::from(MAGIC.to_vec());
    body.bytes(1, kind.as_slice());
    body.bytes(2, raw.as_slice());
    assert_eq!(
        decode(body.as_slice()),
        Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0}}))
    );
    assert_eq!(kind_of(body.as_slice()), Ok(GroupVersionKind::new("apps", "v1", "Deployment")));
}

fn json_schema() -> DefId {
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    schema().by_name(name).expect("the definition")
}

/// A definition as client-go's apiextensions client sends it: each place where a schema may be something else too.
#[test]
fn schemas_of_definitions_survive_a_round_trip() {
    let props = json!({
        "type": "object",
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "t",
        "externalDocs": {"url": "https://example.com"},
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-validations": [{"rule": "true", "reason": "FieldValueInvalid", "optionalOldSelf": false}],
        "default": {"n": null, "list": [1, "a", false]},
        "example": "e",
        "properties": {
            "list": {"type": "array", "minItems": 0, "items": {"type": "array", "items": {"type": "string"}}},
            "tuple": {"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": false},
            "any": {"items": {"type": "string"}, "additionalItems": {"type": "string", "maxLength": 0}},
            "open": {"type": "object", "additionalProperties": true},
            "closed": {"type": "object", "additionalProperties": false, "maxProperties": 0},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0.0, "maximum": -0.5}},
            "enum": {"enum": ["a", 1, null, {"a": []}]},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "object": {"x-kubernetes-embedded-resource": true, "x-kubernetes-map-type": "atomic", "nullable": true},
            "keyed": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "uniqueItems": true},
            "not": {"not": {"pattern": "^a"}, "allOf": [{"multipleOf": 2.5}], "oneOf": [{"required": ["a"]}]},
        },
        "patternProperties": {"^x": {"format": "int32"}},
        "definitions": {"d": {"id": "i", "$ref": "#/d", "exclusiveMinimum": true, "exclusiveMaximum": true}},
        "dependencies": {"a": ["b", "c"], "d": {"description": "a schema"}},
    });
    let unused = |name: &str| !props.to_string().contains(&format!("\"{name}\""));
    let def = schema().definition(json_schema());
    // Of each pair of bounds one is enough.
    let bounds = ["maxItems", "minLength", "minProperties"];
    let missing: Vec<_> = def.fields.iter().map(|field| field.name).filter(|name| unused(name)).collect();
    assert_eq!(missing, bounds, "every field is tried");
    round_trip(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "x", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": props}}],
        },
    }));
}

/// The bytes are Go's: `allows` is set beside a schema, and the numbers are those of `generated.proto`.
#[test]
fn a_schema_or_a_boolean_is_written_as_go_does() {
    let bytes = |value: Value| {
        let mut out = Writer::default();
        encode::object(json_schema(), &value, &mut out).expect("it fits");
        assert_eq!(decode::object(json_schema(), out.as_slice(), 0), Ok(value));
        out.as_slice().to_vec()
    };
    // Field 30 of wire type 2 is 30 << 3 | 2 = 242, as a varint 0xf2 0x01; `type` is field 5, 0x2a.
    let typed = [0x2a, 1, b's'];
    let check = |value: Value, field: [u8; 2], content: &[u8]| {
        let length = u8::try_from(content.len()).expect("short");
        assert_eq!(bytes(value), [&field[..], &[length], content].concat());
    };
    let inside = |number: u8| [&[number << 3 | 2, 3][..], &typed].concat();
    check(json!({"additionalProperties": false}), [0xf2, 1], &[8, 0]);
    check(json!({"additionalProperties": true}), [0xf2, 1], &[8, 1]);
    check(json!({"additionalProperties": {"type": "s"}}), [0xf2, 1], &[&[8, 1][..], &inside(2)].concat());
    check(json!({"items": {"type": "s"}}), [0xc2, 1], &inside(1));
    check(json!({"items": [{"type": "s"}, {"type": "s"}]}), [0xc2, 1], &[inside(2), inside(2)].concat());
}

#[test]
fn what_is_no_object_is_refused() {
    let bad = |kind: &str| {
        let mut type_meta = Writer::default();
        type_meta.bytes(1, b"v1");
        type_meta.bytes(2, kind.as_bytes());
        let mut body = Writer::from(MAGIC.to_vec());
        body.bytes(1, type_meta.as_slice());
        body.bytes(2, &[0x0a, 0xff]);
        decode(body.as_slice())
    };
    assert_eq!(decode(b"{}"), Err(Error::Magic));
    assert_eq!(decode(b"k8s\0\x0a\x05"), Err(Error::Truncated));
    assert!(matches!(bad("Nothing"), Err(Error::UnknownKind { .. })));
    assert_eq!(bad("Pod"), Err(Error::Truncated));
    assert!(encode(&json!({"apiVersion": "v1", "kind": "Pod", "spec": 1})).is_err());
}

#[test]
fn the_names_of_pointers_are_sorted() {
    assert!(decode::POINTERS.is_sorted());
}

/// Bodies as kubectl 1.32 and 1.37 send them: `create deployment web --image=x --replicas=0`, `auth can-i get pods`.
#[test]
fn bodies_of_kubectl_are_read() {
    let check = |hex: &str, want: Value| {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default();
        let body: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        assert_eq!(decode(&body), Ok(want));
    };
    check(
        "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412a3010a1f0a0377656212001a0022002a003200380042005a0a0a0361707012037765\
         621272080012\
         0c0a0a0a0361707012037765621a580a1c0a0012001a0022002a003200380042005a0a0a0361707012037765621238121a0a01781201782a0042006a0072\
         00800100880100900100a201001a00320042004a0052005800600068008201008a01009a0100c2010022020a00280038001a0c0800100018002000280038\
         001a002200",
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "strategy": {}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "x", "image": "x", "resources": {}}]}}},
            "status": {"replicas": 0}}),
    );
    check(
        "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a656374416363657373526576696577123c0a100a00\
         12001a0022002a00320038004200121e0a1c0a0764656661756c7412036765741a0022002a04706f647332003a001a08080012001a0020001a002200",
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}, "status": {"allowed": false}}),
    );
}
