use serde_json::json;

use super::{check_container, check_spec};

#[test]
fn a_container_has_a_name_and_an_image() {
    check_container(json!({}), &[]);
    check_container(json!({"name": ""}), &["spec.containers[0].name: Required value"]);
    check_container(
        json!({"name": "A_b"}),
        &[
            "spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    check_container(json!({"image": ""}), &["spec.containers[0].image: Required value"]);
    check_container(
        json!({"image": " i"}),
        &["spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"],
    );
    check_spec(json!({"containers": []}), &["spec.containers: Required value"]);
    check_spec(
        json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
        &["spec.containers[1].name: Duplicate value: \"a\""],
    );
    check_container(
        json!({"imagePullPolicy": "Sometimes"}),
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check_container(
        json!({"terminationMessagePolicy": "x"}),
        &[
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"x\": supported values: \"FallbackToLogsOnError\", \"File\"",
        ],
    );
}

#[test]
fn ports_are_numbers_with_names() {
    check_container(
        json!({"ports": [{"containerPort": 70000}]}),
        &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
    check_container(json!({"ports": [{}]}), &["spec.containers[0].ports[0].containerPort: Required value"]);
    check_container(
        json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]}),
        &[
            "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    check_container(
        json!({"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}),
        &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
    );
    check_container(
        json!({"ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]}),
        &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
    );
    check_spec(
        json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 2}]}]}),
        &[
            "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
        ],
    );
}

#[test]
fn variables_have_one_source() {
    check_container(json!({"env": [{"name": "A.b-c", "value": "1"}]}), &[]);
    check_container(json!({"env": [{"value": "1"}]}), &["spec.containers[0].env[0].name: Required value"]);
    check_container(
        json!({"env": [{"name": "a=b"}]}),
        &[
            "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {}}]}),
        &[
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ],
    );
    check_container(
        json!({"env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.whatever"}}}]}),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.whatever\": error converting fieldPath: field label not supported: metadata.whatever",
        ],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]}),
        &[],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]}),
        &["spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value"],
    );
    check_container(
        json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "3"}}}]}),
        &[
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.memory\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ],
    );
    check_container(
        json!({"envFrom": [{}]}),
        &["spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"],
    );
    check_container(
        json!({"envFrom": [{"secretRef": {}}]}),
        &["spec.containers[0].envFrom[0].secretRef.name: Required value"],
    );
}

#[test]
fn requests_do_not_exceed_limits() {
    let check = |resources, expected: &[&str]| check_container(json!({"resources": resources}), expected);
    check(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5"}}), &[]);
    check(
        json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
    );
    check(
        json!({"requests": {"memory": "-1"}}),
        &["spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    check(
        json!({"requests": {"cores": "1"}}),
        &[
            "spec.containers[0].resources.requests[cores]: Invalid value: \"cores\": must be a standard resource for containers",
        ],
    );
    check(
        json!({"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "2"}}),
        &["spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2"],
    );
    check(
        json!({"requests": {"example.com/gpu": "1"}}),
        &["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"],
    );
    check(
        json!({"limits": {"example.com/gpu": "500m"}}),
        &[
            "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer",
            "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"500m\": must be an integer",
        ],
    );
    check(
        json!({"requests": {"cpu": "1", "hugepages-2Mi": "3Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}),
        &[
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources.requests: Invalid value: \"3Mi\": must be equal to hugepages-2Mi limit of 2Mi",
        ],
    );
    check(
        json!({"limits": {"hugepages-2Mi": "2Mi"}}),
        &["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
    );
}

#[test]
fn probes_have_one_handler() {
    check_container(
        json!({"livenessProbe": {}}),
        &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    );
    check_container(
        json!({"livenessProbe": {"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}}),
        &["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
    );
    check_container(
        json!({"livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2, "initialDelaySeconds": -1}}),
        &[
            "spec.containers[0].livenessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    check_container(
        json!({"readinessProbe": {"httpGet": {"port": 0, "scheme": "FTP"}}}),
        &[
            "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
        ],
    );
    check_container(
        json!({"readinessProbe": {"exec": {}, "terminationGracePeriodSeconds": 1}}),
        &[
            "spec.containers[0].readinessProbe.exec.command: Required value",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
        ],
    );
    check_container(
        json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
        &[
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ],
    );
}

#[test]
fn only_sidecars_have_probes_among_init_containers() {
    let check = |container, expected: &[&str]| check_spec(json!({"initContainers": [container]}), expected);
    let probe = json!({"tcpSocket": {"port": 80}});
    check(json!({"name": "i", "image": "i", "restartPolicy": "Always", "startupProbe": probe}), &[]);
    check(
        json!({"name": "i", "image": "i", "startupProbe": probe}),
        &[
            "spec.initContainers[0].startupProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    check(
        json!({"name": "c", "image": "i", "restartPolicy": "Never"}),
        &[
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    check_container(
        json!({"restartPolicy": "Always"}),
        &["spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers"],
    );
}

#[test]
fn security_contexts_agree_with_themselves() {
    check_container(
        json!({"securityContext": {"runAsUser": -1}}),
        &[
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
    check_container(
        json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}),
        &[
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ],
    );
    check_container(
        json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
        &[
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ],
    );
}
