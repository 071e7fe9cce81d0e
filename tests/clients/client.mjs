// The JavaScript client: calls, an informer, server-side apply, errors.
import assert from "node:assert/strict";
import * as k8s from "@kubernetes/client-node";

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = "javascript";
await core.createNamespace({ body: { metadata: { name: namespace } } });

const path = `/api/v1/namespaces/${namespace}/configmaps`;
const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }));
const added = new Promise((resolve) =>
  informer.on("add", (object) => object.metadata.name === "c" && resolve(object)),
);
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "c" }, data: { a: "1" } } });
assert.deepEqual((await added).data, { a: "1" });
await informer.stop();

const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "applied", namespace }, data: { x: "y" } };
const applied = await objects.patch(body, undefined, undefined, "js", true, k8s.PatchStrategy.ServerSideApply);
assert.equal(applied.metadata.managedFields[0].manager, "js");

await assert.rejects(core.readNamespacedPod({ namespace, name: "none" }), (error) => error.code === 404);
await core.deleteNamespace({ name: namespace });
process.exit(0);
