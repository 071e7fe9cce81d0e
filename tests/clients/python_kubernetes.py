"""The official Python client: typed and dynamic calls, a watch, a patch of each type, a custom resource."""

from kubernetes import client, config, dynamic, watch

config.load_kube_config()
core, apps, custom = client.CoreV1Api(), client.AppsV1Api(), client.CustomObjectsApi()
namespace = "python"
core.create_namespace({"metadata": {"name": namespace}})

created = core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}, "data": {"a": "1"}})
events = watch.Watch().stream(
    core.list_namespaced_config_map,
    namespace,
    resource_version=created.metadata.resource_version,
    timeout_seconds=20,
)
core.patch_namespaced_config_map("c", namespace, {"data": {"b": "2"}})
event = next(events)
assert (event["type"], event["object"].data) == ("MODIFIED", {"a": "1", "b": "2"}), event

labels = {"app": "web"}
template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "xebec-demo:1"}]}}
spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
apps.create_namespaced_deployment(namespace, {"metadata": {"name": "web"}, "spec": spec})
scale = apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 1}})
assert scale.spec.replicas == 1 and scale.status.selector == "app=web", scale

try:
    core.read_namespaced_pod("none", namespace)
    raise SystemExit("a pod that does not exist was read")
except client.ApiException as error:
    assert (error.status, "NotFound" in error.body) == (404, True), error

deployments = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="apps/v1", kind="Deployment")
applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"paused": True}}
applied = deployments.server_side_apply(body=applied, name="web", namespace=namespace, field_manager="python")
assert applied.spec.paused is True, applied

shelf = {"apiVersion": "example.com/v1", "kind": "Shelf", "metadata": {"name": "s"}, "spec": {"size": 3}}
shelf = custom.create_namespaced_custom_object("example.com", "v1", namespace, "shelves", shelf)
assert shelf["spec"]["label"] == "plain", shelf
shelves = custom.list_namespaced_custom_object("example.com", "v1", namespace, "shelves")
assert [item["metadata"]["name"] for item in shelves["items"]] == ["s"], shelves
core.delete_namespace(namespace)
