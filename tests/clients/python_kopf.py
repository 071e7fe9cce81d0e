"""kopf: an operator that keeps a ConfigMap for each Shelf, with finalizers, status patches and events."""

import os
import threading
import time

import kopf
from kubernetes import client, config

config.load_kube_config()
core, custom = client.CoreV1Api(), client.CustomObjectsApi()
GROUP = ("example.com", "v1", "default", "shelves")


@kopf.on.create("example.com", "v1", "shelves")
def created(name, namespace, spec, patch, **_):
    body = {"metadata": {"name": f"shelf-{name}"}, "data": {"size": str(spec["size"])}}
    kopf.adopt(body)
    core.create_namespaced_config_map(namespace, body)
    patch.status["books"] = spec["size"] * 10


@kopf.on.update("example.com", "v1", "shelves", field="spec.size")
def resized(name, namespace, new, patch, **_):
    core.patch_namespaced_config_map(f"shelf-{name}", namespace, {"data": {"size": str(new)}})
    patch.status["books"] = new * 10


@kopf.on.delete("example.com", "v1", "shelves")
def deleted(name, namespace, **_):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"gone-{name}"}})


def until(what, check):
    deadline = time.monotonic() + 30
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not after 30 s")
        time.sleep(0.1)


def names():
    return [item.metadata.name for item in core.list_namespaced_config_map("default").items]


def books():
    return custom.get_namespaced_custom_object(*GROUP, "k").get("status", {}).get("books")


threading.Thread(target=lambda: kopf.run(standalone=True, namespaces=["default"]), daemon=True).start()
shelf = {"apiVersion": "example.com/v1", "kind": "Shelf", "metadata": {"name": "k"}, "spec": {"size": 2}}
custom.create_namespaced_custom_object(*GROUP, shelf)
until("the operator makes its ConfigMap", lambda: "shelf-k" in names())
until("the operator writes the status", lambda: books() == 20)
custom.patch_namespaced_custom_object(*GROUP, "k", {"spec": {"size": 3}})
until("the operator follows a change", lambda: books() == 30)
custom.delete_namespaced_custom_object(*GROUP, "k")
until("the operator sees the deletion", lambda: "gone-k" in names())
until("the owned ConfigMap is collected", lambda: "shelf-k" not in names())
# Everything was seen. An orderly end would wait for threads of the operator's that may never end outside the main thread.
os._exit(0)
