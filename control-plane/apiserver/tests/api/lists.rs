use serde_json::Value;

use crate::harness::{CONFIG_MAPS, Cluster, config_map};

async fn filled(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    for i in 0..count {
        let mut object = config_map(&format!("c{i:03}"));
        object["metadata"]["labels"] = serde_json::json!({ "even": (i % 2 == 0).to_string() });
        cluster.post(CONFIG_MAPS, &object).await.expect(201);
    }
    cluster
}

/// `expected`: how many items, or the code and part of the message.
async fn check(cluster: &Cluster, query: &str, expected: Result<usize, (u16, &str)>) {
    let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
    match expected {
        Ok(count) => assert_eq!(answer.expect(200)["items"].as_array().unwrap().len(), count, "{query}"),
        Err((code, message)) => {
            assert_eq!(answer.code, code, "{query}: {}", answer.text);
            assert!(answer.text.contains(message), "{query}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_select_and_refuse() {
    let cluster = filled(6).await;
    check(&cluster, "", Ok(6)).await;
    check(&cluster, "resourceVersion=0", Ok(6)).await;
    check(&cluster, "labelSelector=even%3Dtrue", Ok(3)).await;
    check(&cluster, "labelSelector=even%20notin%20(true)", Ok(3)).await;
    check(&cluster, "fieldSelector=metadata.name%3Dc001", Ok(1)).await;
    check(&cluster, "fieldSelector=metadata.name%21%3Dc001", Ok(5)).await;
    check(&cluster, "fieldSelector=data.a%3D1", Err((400, "field label not supported: data.a"))).await;
    check(&cluster, "labelSelector=a%20in", Err((400, "unable to parse requirement"))).await;
    check(
        &cluster,
        "resourceVersion=999999999&resourceVersionMatch=NotOlderThan",
        Err((504, "Too large resource version")),
    )
    .await;
    check(
        &cluster,
        "resourceVersionMatch=Exact",
        Err((422, "resourceVersionMatch is forbidden unless resourceVersion is provided")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_one_snapshot() {
    let cluster = filled(7).await;
    let mut names: Vec<Value> = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let page = cluster.get(&format!("{CONFIG_MAPS}?limit=3&continue={token}")).await.expect(200);
        names.extend(page["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].clone()));
        pages += 1;
        // What is created between pages is not in them.
        cluster.post(CONFIG_MAPS, &config_map(&format!("d{pages}"))).await.expect(201);
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (3, 7), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_metadata_are_lists_too() {
    let cluster = filled(2).await;
    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = cluster.send("GET", CONFIG_MAPS, &[("accept", as_table)], "").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "c000");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = cluster.send("GET", CONFIG_MAPS, &[("accept", partial)], "").await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][1]["metadata"]["name"], "c001");
    assert!(list["items"][1].get("data").is_none());
    let one = cluster.send("GET", &format!("{CONFIG_MAPS}/c000"), &[("accept", as_table)], "").await.expect(200);
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    cluster.send("GET", CONFIG_MAPS, &[("accept", "text/csv")], "").await.refused(
        406,
        "NotAcceptable",
        "application/json",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_lists_are_streamed_and_compressed() {
    let cluster = Cluster::start().await;
    for i in 0..30 {
        let mut object = config_map(&format!("big{i}"));
        object["data"]["blob"] = "x".repeat(20_000).into();
        cluster.post(CONFIG_MAPS, &object).await.expect(201);
    }
    check(&cluster, "", Ok(30)).await;
    let zipped = cluster.send("GET", CONFIG_MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let protobuf = cluster.send("GET", CONFIG_MAPS, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(protobuf.text.starts_with("k8s\0"));
}
