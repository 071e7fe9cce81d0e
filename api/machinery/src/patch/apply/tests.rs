use serde_json::json;

use super::*;
use crate::patch::fixture::ROOT;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:04:06Z";

fn manager(name: &'static str) -> Manager<'static> {
    Manager { name, api_version: "apps/v1", subresource: "", now: NOW, ignored: &[&["status"]] }
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec})
}

/// Several applies and updates of one object, one after the other.
struct Story(Option<Value>);

impl Story {
    fn apply(self, who: &'static str, spec: Value) -> Self {
        let applied = apply(self.0.as_ref(), &object(spec), ROOT, &manager(who), false);
        Self(Some(applied.unwrap_or_else(|e| panic!("{who}: {e}"))))
    }

    fn force(self, who: &'static str, spec: Value) -> Self {
        Self(apply(self.0.as_ref(), &object(spec), ROOT, &manager(who), true).ok())
    }

    fn conflicts(self, who: &'static str, spec: Value, want: &str) -> Self {
        let error = apply(self.0.as_ref(), &object(spec), ROOT, &manager(who), false).expect_err("a conflict");
        assert_eq!((error.code, error.message.as_str()), (409, want));
        self
    }

    fn update(self, who: &'static str, spec: Value) -> Self {
        let mut new = object(spec);
        update_managed_fields(self.0.as_ref(), &mut new, ROOT, &manager(who));
        Self(Some(new))
    }

    fn spec(self, want: Value) -> Self {
        assert_eq!(self.0.as_ref().map(|o| &o["spec"]), Some(&want));
        self
    }

    /// Who owns what: `(manager, operation, fields under spec)`.
    fn owners(self, want: &[(&str, &str, Value)]) -> Self {
        let object = self.0.as_ref().expect("an object");
        let entries = object["metadata"]["managedFields"].as_array().expect("managed fields");
        let got: Vec<_> = entries
            .iter()
            .map(|e| {
                let text = |key: &str| e[key].as_str().unwrap_or_default();
                (text("manager"), text("operation"), e["fieldsV1"]["f:spec"].clone())
            })
            .collect();
        assert_eq!(got, want);
        self
    }
}

#[test]
fn appliers_own_what_they_apply() {
    Story(None)
        .apply("a", json!({"replicas": 1, "strategy": {"type": "R"}}))
        .owners(&[("a", "Apply", json!({"f:replicas": {}, "f:strategy": {"f:type": {}}}))])
        .apply("b", json!({"nodeName": "n", "replicas": 1}))
        .spec(json!({"replicas": 1, "nodeName": "n", "strategy": {"type": "R"}}))
        .owners(&[
            ("a", "Apply", json!({"f:replicas": {}, "f:strategy": {"f:type": {}}})),
            ("b", "Apply", json!({"f:nodeName": {}, "f:replicas": {}})),
        ]);
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    Story(None)
        .apply("a", json!({"replicas": 1, "nodeName": "n", "strategy": {"type": "R"}}))
        .apply("b", json!({"replicas": 1}))
        .apply("a", json!({"nodeName": "n"}))
        .spec(json!({"replicas": 1, "nodeName": "n"}))
        .owners(&[("a", "Apply", json!({"f:nodeName": {}})), ("b", "Apply", json!({"f:replicas": {}}))]);
}

#[test]
fn changing_what_another_owns_is_a_conflict() {
    let story = Story(None).apply("a", json!({"replicas": 1, "nodeName": "n"})).conflicts(
        "b",
        json!({"replicas": 2}),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas",
    );
    story
        .conflicts(
            "b",
            json!({"replicas": 2, "nodeName": "m"}),
            "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.nodeName\n- .spec.replicas",
        )
        .force("b", json!({"replicas": 2}))
        .spec(json!({"replicas": 2, "nodeName": "n"}))
        .owners(&[("a", "Apply", json!({"f:nodeName": {}})), ("b", "Apply", json!({"f:replicas": {}}))]);
}

#[test]
fn updates_take_fields_silently() {
    Story(None)
        .apply("a", json!({"replicas": 1, "nodeName": "n"}))
        .update("u", json!({"replicas": 3, "nodeName": "n"}))
        .owners(&[("a", "Apply", json!({"f:nodeName": {}})), ("u", "Update", json!({"f:replicas": {}}))])
        .conflicts(
            "a",
            json!({"replicas": 1, "nodeName": "n"}),
            "Apply failed with 1 conflict: conflict with \"u\" using apps/v1: .spec.replicas",
        );
}

#[test]
fn conflicts_name_what_updates_used() {
    Story(None)
        .update("u", json!({"replicas": 3}))
        .owners(&[("u", "Update", json!({"f:replicas": {}}))])
        .conflicts(
            "a",
            json!({"replicas": 1}),
            "Apply failed with 1 conflict: conflict with \"u\" using apps/v1: .spec.replicas",
        )
        .apply("a", json!({"replicas": 3}))
        .owners(&[("a", "Apply", json!({"f:replicas": {}})), ("u", "Update", json!({"f:replicas": {}}))])
        .update("v", json!({"nodeName": "n"}))
        .owners(&[("v", "Update", json!({"f:nodeName": {}}))]);
}

#[test]
fn items_of_keyed_lists_have_owners_of_their_own() {
    let name = |name: &str| format!("k:{{\"name\":\"{name}\"}}");
    let key = |name_: &str, fields: Value| json!({"f:containers": {name(name_): fields}});
    Story(None)
        .apply("a", json!({"containers": [{"name": "x", "image": "1"}]}))
        .owners(&[("a", "Apply", key("x", json!({".": {}, "f:image": {}, "f:name": {}})))])
        .apply("b", json!({"containers": [{"name": "y", "image": "1"}]}))
        .spec(json!({"containers": [{"name": "x", "image": "1"}, {"name": "y", "image": "1"}]}))
        .conflicts(
            "b",
            json!({"containers": [{"name": "x", "image": "2"}]}),
            "Apply failed with 1 conflict: conflict with \"a\": .spec.containers[name=\"x\"].image",
        )
        .apply("a", json!({}))
        .spec(json!({"containers": [{"name": "y", "image": "1"}]}));
}

#[test]
fn ports_are_keyed_with_the_default_protocol() {
    let ports = |ports: Value| json!({"containers": [{"name": "x", "ports": ports}]});
    Story(None)
        .apply("a", ports(json!([{"containerPort": 80}])))
        .apply("a", ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "h"}, {"containerPort": 80, "protocol": "UDP"}])))
        .spec(ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "h"}, {"containerPort": 80, "protocol": "UDP"}])));
}

#[test]
fn atomic_values_are_one_field() {
    Story(None)
        .apply("a", json!({"nodeSelector": {"a": "1"}, "tolerations": [{"key": "x"}]}))
        .owners(&[("a", "Apply", json!({"f:nodeSelector": {}, "f:tolerations": {}}))])
        .conflicts(
            "b",
            json!({"nodeSelector": {"b": "1"}}),
            "Apply failed with 1 conflict: conflict with \"a\": .spec.nodeSelector",
        )
        .force("b", json!({"nodeSelector": {"b": "1"}}))
        .spec(json!({"nodeSelector": {"b": "1"}, "tolerations": [{"key": "x"}]}));
}

#[test]
fn order_follows_the_configuration() {
    let list = |names: &[&str]| json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
    let check = |live: &[&str], config: &[&str], want: &[&str]| {
        Story(None).update("u", list(live)).apply("a", list(config)).spec(list(want));
    };
    check(&["a", "b", "c"], &["b"], &["a", "b", "c"]);
    check(&["a", "b"], &["b", "a"], &["b", "a"]);
    check(&["a", "c"], &["a", "b", "c"], &["a", "b", "c"]);
    check(&["a", "s", "b"], &["b", "a", "n"], &["s", "b", "a", "n"]);
    check(&["a", "s", "b"], &["a", "n", "b"], &["a", "s", "n", "b"]);
    check(&["s"], &["n"], &["s", "n"]);
}

#[test]
fn a_second_equal_apply_changes_nothing() {
    let spec = json!({"replicas": 1, "containers": [{"name": "x"}]});
    let first = apply(None, &object(spec.clone()), ROOT, &manager("a"), false).expect("applied");
    let later = Manager { now: LATER, ..manager("a") };
    let second = apply(Some(&first), &object(spec), ROOT, &later, false).expect("applied");
    assert_eq!(first, second);
    assert_eq!(first["metadata"]["managedFields"][0]["time"], NOW);
}

#[test]
fn status_belongs_to_its_subresource() {
    let live = apply(None, &object(json!({"replicas": 1})), ROOT, &manager("a"), false).expect("applied");
    let config = json!({"apiVersion": "apps/v1", "kind": "X", "metadata": {"name": "a"}, "status": {"phase": "P"}});
    let status = Manager { subresource: "status", ignored: &[&["spec"]], ..manager("a") };
    let with_status = apply(Some(&live), &config, ROOT, &status, false).expect("applied");
    assert_eq!(with_status["status"], json!({"phase": "P"}));
    let entries = with_status["metadata"]["managedFields"].as_array().expect("entries");
    assert_eq!(entries.len(), 2);
    assert!(
        entries.iter().any(|e| e["subresource"] == "status" && e["fieldsV1"] == json!({"f:status": {"f:phase": {}}}))
    );
    // The main endpoint neither sets nor removes it.
    let mut spec = object(json!({"replicas": 1}));
    spec["status"] = json!({"phase": "Q"});
    let again = apply(Some(&with_status), &spec, ROOT, &manager("a"), false).expect("applied");
    assert_eq!(again, with_status);
}

#[test]
fn maps_are_owned_key_by_key() {
    let labels = |labels: Value| json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "labels": labels}});
    let run = |live: Option<&Value>, who, l: Value| apply(live, &labels(l), ROOT, &manager(who), false);
    let first = run(None, "a", json!({"x": "1", "y": "1"})).expect("applied");
    let second = run(Some(&first), "b", json!({"z": "1"})).expect("applied");
    let third = run(Some(&second), "a", json!({"x": "1"})).expect("applied");
    assert_eq!(third["metadata"]["labels"], json!({"x": "1", "z": "1"}));
    let conflict = run(Some(&third), "b", json!({"x": "2"})).expect_err("a conflict");
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"a\": .metadata.labels.x");
    let details = conflict.details.expect("details");
    assert_eq!(
        (details.causes[0].reason.as_ref(), details.causes[0].field.as_str()),
        ("FieldManagerConflict", ".metadata.labels.x")
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_itself() {
    let mut live = object(json!({"replicas": 1}));
    let last = object(json!({"replicas": 1})).to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    update_managed_fields(None, &mut live, ROOT, &manager("kubectl-client-side-apply"));
    let config = object(json!({"replicas": 2}));
    assert!(apply(Some(&live), &config, ROOT, &manager("other"), false).is_err());
    let applied = apply(Some(&live), &config, ROOT, &manager("kubectl"), false).expect("taken over");
    assert_eq!(applied["spec"]["replicas"], 2);
    // The annotation follows, so that `kubectl apply` can take over again.
    assert_eq!(object::annotation(&applied, LAST_APPLIED), Some(format!("{config}\n").as_str()));
}

#[test]
fn bad_configurations_are_refused() {
    let check = |config: Value, want: &str| {
        let error = apply(None, &config, ROOT, &manager("a"), false).expect_err("refused");
        assert!(error.message.contains(want), "{error}");
        // Upstream has no reason for what does not fit the schema.
        assert_eq!(error.code, if want.contains("managedFields") { 400 } else { 500 }, "{error}");
    };
    check(
        object(json!({"containers": [{"image": "x"}]})),
        ".spec.containers: element 0: associative list with keys has an element that omits key field \"name\"",
    );
    check(
        object(json!({"containers": [{"name": "x"}, {"name": "x"}]})),
        ".spec.containers: duplicate entries for key [name=\"x\"]",
    );
    check(
        object(json!({"containers": [{"name": "x", "foo": 1}]})),
        "(/a; apps/v1, Kind=X): .spec.containers[name=\"x\"].foo: field not declared in schema",
    );
    check(
        json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "namespace": "n"}, "foo": 1}),
        "(n/a; /v1, Kind=X): .foo: ",
    );
    check(
        object(json!({"foo": 1})),
        "failed to create typed patch object (/a; apps/v1, Kind=X): .spec.foo: field not declared in schema",
    );
    check(json!({"metadata": {"managedFields": []}}), "metadata.managedFields must be nil");
}

#[test]
fn updates_are_tracked() {
    let story = Story(None)
        .update("u", json!({"replicas": 1, "containers": [{"name": "x", "image": "1"}]}))
        .update("v", json!({"replicas": 2, "containers": [{"name": "x", "image": "1"}]}));
    let container = json!({"k:{\"name\":\"x\"}": {".": {}, "f:image": {}, "f:name": {}}});
    let story = story
        .owners(&[("u", "Update", json!({"f:containers": container})), ("v", "Update", json!({"f:replicas": {}}))]);
    story.update("u", json!({"replicas": 2})).owners(&[("v", "Update", json!({"f:replicas": {}}))]);
}

#[test]
fn managed_fields_can_be_reset_and_capped() {
    let mut live = object(json!({"replicas": 1}));
    update_managed_fields(None, &mut live, ROOT, &manager("u"));
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    update_managed_fields(Some(&live), &mut new, ROOT, &manager("u"));
    assert!(new["metadata"].get("managedFields").is_none());
    // Updates do not begin again what was given up; an apply does.
    let mut later = new.clone();
    later["spec"]["replicas"] = 2.into();
    update_managed_fields(Some(&new), &mut later, ROOT, &manager("u"));
    assert!(later["metadata"].get("managedFields").is_none());
    let applied = apply(Some(&later), &object(json!({"replicas": 2})), ROOT, &manager("a"), false).expect("applied");
    assert_eq!(applied["metadata"]["managedFields"].as_array().map(Vec::len), Some(2));

    let names: Vec<&'static str> = (0..15).map(|i| &*format!("m{i:02}").leak()).collect();
    for (i, name) in names.iter().enumerate() {
        let mut new = live.clone();
        new["metadata"]["labels"][name] = "1".into();
        let now = format!("2026-01-02T03:05:{i:02}Z");
        update_managed_fields(Some(&live), &mut new, ROOT, &Manager { now: &now, ..manager(name) });
        live = new;
    }
    let entries = live["metadata"]["managedFields"].as_array().expect("entries");
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|e| e["manager"] == "ancient-changes"));
}

/// What `m` owns after it has changed `live`, which nobody is known to own, to `new`.
#[track_caller]
fn check_owned(live: Option<Value>, new: Value, want: Value) {
    let whole = |parts: Value| {
        let mut whole = object(json!({}));
        whole.as_object_mut().expect("an object").extend(parts.as_object().cloned().unwrap_or_default());
        whole
    };
    let live = live.map(|live| {
        let mut live = whole(live);
        update_managed_fields(None, &mut live, ROOT, &manager("other"));
        live
    });
    let mut new = whole(new);
    update_managed_fields(live.as_ref(), &mut new, ROOT, &manager("m"));
    let entries = new["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mine = entries.iter().find(|entry| entry["manager"] == "m").map_or(Value::Null, |e| e["fieldsV1"].clone());
    assert_eq!(mine, want);
}

#[test]
fn updates_own_the_objects_and_lists_that_they_add() {
    let labels = |labels: Value| json!({"metadata": {"name": "a", "labels": labels}});
    check_owned(None, labels(json!({"x": "1"})), json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}));
    check_owned(
        Some(labels(json!({"x": "1"}))),
        labels(json!({"x": "1", "y": "1"})),
        json!({"f:metadata": {"f:labels": {"f:y": {}}}}),
    );
    check_owned(Some(labels(json!({"x": "1"}))), labels(json!({})), Value::Null);
    // What is in every object is added by nobody, what is in it is.
    check_owned(
        None,
        json!({"spec": {"strategy": {"type": "R", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"f:spec": {"f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}}}}),
    );
    check_owned(
        Some(json!({"spec": {"replicas": 1}})),
        json!({"spec": {"replicas": 1, "strategy": {"type": "R"}}}),
        json!({"f:spec": {"f:strategy": {"f:type": {}}}}),
    );
    let container = |container: Value| json!({"spec": {"containers": [container]}});
    let owned = |fields: Value| json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": fields}}});
    let env = json!([{"name": "E", "value": "v"}]);
    let owned_env = json!({".": {}, "k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}});
    check_owned(
        None,
        container(json!({"name": "x", "env": env})),
        owned(json!({".": {}, "f:env": owned_env, "f:name": {}})),
    );
    check_owned(
        Some(container(json!({"name": "x"}))),
        container(json!({"name": "x", "env": env})),
        owned(json!({"f:env": owned_env})),
    );
    check_owned(
        None,
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "c"}}]}}),
        json!({"f:spec": {"f:volumes": {
            ".": {},
            "k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}},
            "k:{\"name\":\"w\"}": {".": {}, "f:configMap": {".": {}, "f:name": {}}, "f:name": {}},
        }}}),
    );
}

#[test]
fn what_was_there_before_the_first_apply_is_owned_as_if_it_had_been_added() {
    let mut live = object(json!({}));
    live["metadata"]["labels"] = json!({"x": "1"});
    let applied = apply(Some(&live), &object(json!({"replicas": 1})), ROOT, &manager("a"), false).expect("applied");
    let entries = applied["metadata"]["managedFields"].as_array().expect("entries");
    let before = entries.iter().find(|entry| entry["manager"] == "before-first-apply").expect("an entry");
    assert_eq!(before["fieldsV1"], json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}));
}

#[test]
fn an_entry_has_the_time_of_the_last_change() {
    let check = |spec: Value, want: &str| {
        let mut live = object(json!({"replicas": 1}));
        update_managed_fields(None, &mut live, ROOT, &manager("m"));
        let later = Manager { now: LATER, ..manager("m") };
        let mut new = object(spec.clone());
        update_managed_fields(Some(&live), &mut new, ROOT, &later);
        assert_eq!(new["metadata"]["managedFields"][0]["time"], want, "update to {spec}");
        let first = apply(None, &object(json!({"replicas": 1})), ROOT, &manager("m"), false).expect("applied");
        let second = apply(Some(&first), &object(spec.clone()), ROOT, &later, false).expect("applied");
        assert_eq!(second["metadata"]["managedFields"][0]["time"], want, "apply of {spec}");
    };
    check(json!({"replicas": 1}), NOW);
    check(json!({"replicas": 2}), LATER);
}

#[test]
fn nobody_loses_what_an_endpoint_does_not_write() {
    let status = Manager { subresource: "status", ignored: &[&["spec"], &["metadata"]], ..manager("s") };
    let mut live = object(json!({"replicas": 1}));
    update_managed_fields(None, &mut live, ROOT, &manager("m"));
    let mut with_status = live.clone();
    with_status["status"] = json!({"phase": "P"});
    update_managed_fields(Some(&live), &mut with_status, ROOT, &status);
    let owners = |object: &Value| -> Vec<(Value, Value)> {
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|e| (e["manager"].clone(), e["fieldsV1"].clone())).collect()
    };
    let both =
        [(json!("m"), json!({"f:spec": {"f:replicas": {}}})), (json!("s"), json!({"f:status": {"f:phase": {}}}))];
    assert_eq!(owners(&with_status), both);
    // Neither end is sent what the other writes; it is left as it was sent.
    let mut main = object(json!({"replicas": 1}));
    main["status"] = json!({"phase": "Q"});
    update_managed_fields(Some(&with_status), &mut main, ROOT, &manager("m"));
    assert_eq!((owners(&main).as_slice(), &main["status"]), (both.as_slice(), &json!({"phase": "Q"})));
    let mut main = object(json!({"replicas": 1}));
    update_managed_fields(Some(&with_status), &mut main, ROOT, &manager("m"));
    assert_eq!((owners(&main).as_slice(), main.get("status")), (both.as_slice(), None));
    let mut partial =
        json!({"apiVersion": "apps/v1", "kind": "X", "metadata": {"name": "a"}, "status": {"phase": "P"}});
    update_managed_fields(Some(&with_status), &mut partial, ROOT, &status);
    assert_eq!(owners(&partial), both);
}
