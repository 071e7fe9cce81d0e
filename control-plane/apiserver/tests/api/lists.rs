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
    check(
        &cluster,
        "fieldSelector=data.a%3D1",
        Err((
            400,
            "\\\"data.a\\\" is not a known field selector: only \\\"metadata.name\\\", \\\"metadata.namespace\\\"",
        )),
    )
    .await;
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
    for (include, kind) in [("None", Value::Null), ("Object", "ConfigMap".into()), ("", "PartialObjectMetadata".into())]
    {
        let path = format!("{CONFIG_MAPS}?includeObject={include}");
        let table = cluster.send("GET", &path, &[("accept", as_table)], "").await.expect(200);
        assert_eq!(table["rows"][0]["object"]["kind"], kind, "{include}");
    }
    cluster.send("GET", &format!("{CONFIG_MAPS}?includeObject=All"), &[("accept", as_table)], "").await.refused(
        422,
        "Invalid",
        "includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty",
    );
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
    let mut object = config_map("huge");
    object["data"]["blob"] = "x".repeat(200_000).into();
    cluster.post(CONFIG_MAPS, &object).await.expect(201);
    for accept in ["application/json", "application/vnd.kubernetes.protobuf"] {
        let headers = [("accept-encoding", "gzip"), ("accept", accept)];
        let zipped = cluster.send("GET", &format!("{CONFIG_MAPS}/huge"), &headers, "").await;
        assert_eq!((zipped.code, &zipped.headers["content-encoding"]), (200, &http::HeaderValue::from_static("gzip")));
        let small = cluster.send("GET", &format!("{CONFIG_MAPS}/big1"), &headers, "").await;
        assert!(small.headers.get("content-encoding").is_none());
    }
    let protobuf = cluster.send("GET", CONFIG_MAPS, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(protobuf.text.starts_with("k8s\0"));
}

/// `expected`: how many items and whether more follow, or the code and part of the message.
async fn check_page(cluster: &Cluster, query: &str, expected: Result<(usize, Option<u64>), (u16, &str)>) {
    let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
    let (count, remaining) = match expected {
        Ok(page) => page,
        Err(_) => return check(cluster, query, expected.map(|(count, _)| count)).await,
    };
    let page = answer.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    assert_eq!(page["metadata"]["remainingItemCount"].as_u64(), remaining, "{query}");
    assert_eq!(page["metadata"]["continue"].is_string(), remaining.is_some(), "{query}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_a_list_is_what_the_client_asked_for() {
    let cluster = filled(3).await;
    let first = cluster.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    let (version, token) = (&first["metadata"]["resourceVersion"], &first["metadata"]["continue"]);
    let (version, token) = (version.as_str().unwrap(), token.as_str().unwrap());
    cluster.post(CONFIG_MAPS, &config_map("later")).await.expect(201);
    let match_rule = "resourceVersionMatch";
    let too_large = Err((504, "Too large resource version: 999999, current: "));
    // The table of "resourceVersion Parameter" in Kubernetes' API concepts.
    let cases = [
        (String::new(), Ok((4, None))),
        ("limit=2".to_owned(), Ok((2, Some(2)))),
        ("limit=4".to_owned(), Ok((4, None))),
        ("limit=9".to_owned(), Ok((4, None))),
        ("resourceVersion=0".to_owned(), Ok((4, None))),
        ("resourceVersion=0&limit=3".to_owned(), Ok((3, Some(1)))),
        (format!("resourceVersion=0&{match_rule}=NotOlderThan"), Ok((4, None))),
        (format!("resourceVersion={version}"), Ok((4, None))),
        (format!("resourceVersion={version}&{match_rule}=NotOlderThan"), Ok((4, None))),
        (format!("resourceVersion={version}&{match_rule}=NotOlderThan&limit=1"), Ok((1, Some(3)))),
        (format!("resourceVersion={version}&{match_rule}=Exact"), Ok((3, None))),
        (format!("resourceVersion={version}&{match_rule}=Exact&limit=1"), Ok((1, Some(2)))),
        (format!("resourceVersion={version}&limit=1"), Ok((1, Some(2)))),
        (format!("continue={token}&limit=1"), Ok((1, Some(1)))),
        (format!("continue={token}"), Ok((2, None))),
        (format!("continue={token}&resourceVersion=0"), Ok((2, None))),
        (
            format!("continue={token}&resourceVersion={version}"),
            Err((400, "specifying resource version is not allowed when using continue")),
        ),
        (
            format!("continue={token}&resourceVersion={version}&{match_rule}=Exact"),
            Err((422, "resourceVersionMatch is forbidden when continue is provided")),
        ),
        ("resourceVersion=999999".to_owned(), too_large),
        (format!("resourceVersion=999999&{match_rule}=Exact"), too_large),
    ];
    for (query, expected) in cases {
        check_page(&cluster, &query, expected).await;
    }
    let late = cluster.get(&format!("{CONFIG_MAPS}/c000?resourceVersion=999999")).await;
    assert_eq!(late.headers["retry-after"], "1");
    assert_eq!(late.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    late.refused(504, "Timeout", "Too large resource version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_many_follow_is_not_said_of_a_selection() {
    let cluster = filled(6).await;
    let page = cluster.get(&format!("{CONFIG_MAPS}?limit=2&labelSelector=even%3Dtrue")).await.expect(200);
    assert!(page["metadata"].get("remainingItemCount").is_none());
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.get(&format!("{CONFIG_MAPS}?limit=2&labelSelector=even%3Dtrue&continue={token}")).await;
    let rest = rest.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest["metadata"].get("continue").is_none());
}

/// Conformance: "should support continue listing from the last key if the original version has been compacted away,
/// though the list is inconsistent".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_whose_version_is_gone_may_go_on_in_the_present() {
    let cluster = filled(6).await;
    let first = cluster.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    cluster.post(CONFIG_MAPS, &config_map("c999")).await.expect(201);
    // A new server has no history, so what the store forgets is gone.
    let cluster = cluster.restart().await;
    cluster.post(CONFIG_MAPS, &config_map("c998")).await.expect(201);
    let now = cluster.store.current_revision().await.unwrap();
    cluster.store.compact(now).await.unwrap();
    let expired = cluster.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    let token = expired.body["metadata"]["continue"].as_str().unwrap().to_owned();
    expired.refused(410, "Expired", "Continuing with the provided token results in an inconsistent list");
    let second = cluster.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    let name = |at: usize| second["items"][at]["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!((name(0), name(1)), ("c002".into(), "c003".into()));
    // From here on the list is consistent again.
    let token = second["metadata"]["continue"].as_str().unwrap();
    cluster.post(CONFIG_MAPS, &config_map("c997")).await.expect(201);
    let third = cluster.get(&format!("{CONFIG_MAPS}?continue={token}")).await.expect(200);
    assert_eq!(third["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    assert_eq!(third["items"].as_array().unwrap().len(), 4);
}
