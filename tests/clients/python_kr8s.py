"""kr8s: objects by their kind, scale, wait and labels."""

import kr8s
from kr8s.objects import ConfigMap, Deployment, Namespace

namespace = Namespace({"metadata": {"name": "kr8s"}})
namespace.create()
config = ConfigMap({"metadata": {"name": "c", "namespace": "kr8s"}, "data": {"a": "1"}})
config.create()
config.label({"tier": "web"})
config.patch({"data": {"b": "2"}})
found = list(kr8s.get("configmaps", namespace="kr8s", label_selector={"tier": "web"}))
assert [dict(item.data) for item in found] == [{"a": "1", "b": "2"}], found

labels = {"app": "web"}
container = {"name": "c", "image": "xebec-demo:1", "command": ["demo", "http", "8080"]}
web = Deployment({
    "metadata": {"name": "web", "namespace": "kr8s"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    },
})
web.create()
web.wait("condition=Available", timeout=60)
web.scale(2)
web.wait("jsonpath='{.status.readyReplicas}'=2", timeout=60)
assert len(web.pods()) == 2, web.pods()
namespace.delete()
