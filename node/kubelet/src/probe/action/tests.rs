use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::runtime::Fake;

/// Answers every connection with `answer`, after it has read something.
async fn server(answer: &'static str) -> u16 {
    server_at("127.0.0.1:0", answer).await
}

async fn server_at(address: &str, answer: &'static str) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            if answer == "hang" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

async fn attempt(probe: Value, ip: &str) -> Outcome {
    let container = json!({"name": "c", "ports": [{"name": "web", "containerPort": 1}]});
    let target = Target {
        pod: Arc::default(),
        container: Arc::new(serde_json::from_value(container).unwrap()),
        container_id: "c".into(),
        ip: ip.into(),
    };
    let fake = Fake::new([10, 0, 0, 1].into());
    run(&*fake, &serde_json::from_value(probe).unwrap(), &target, Duration::from_millis(300)).await
}

async fn check(probe: Value, want: &str) {
    check_at(probe, "127.0.0.1", want).await;
}

async fn check_at(probe: Value, ip: &str, want: &str) {
    let text = match attempt(probe.clone(), ip).await {
        Outcome::Success => "success".to_owned(),
        Outcome::Failure(why) => format!("failure: {why}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
    };
    assert!(text.starts_with(want), "{probe}: {text}, want {want}");
}

#[tokio::test]
async fn answers_become_outcomes() {
    let ok = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let moved = server("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").await;
    let broken = server("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
    let hang = server("hang").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let http = |port: Value| json!({"httpGet": {"port": port, "path": "healthz", "httpHeaders": [{"name": "X-A", "value": "b"}]}});
    check(http(json!(ok)), "success").await;
    check(http(json!(moved)), "success").await;
    check(http(json!(broken)), "failure: HTTP probe failed with statuscode: 500").await;
    check(http(json!(hang)), &format!("failure: Get \"http://127.0.0.1:{hang}/healthz\": context deadline exceeded"))
        .await;
    check(
        http(json!(closed)),
        &format!("failure: Get \"http://127.0.0.1:{closed}/healthz\": dial tcp 127.0.0.1:{closed}: "),
    )
    .await;
    check(http(json!("web")), "failure: Get \"http://127.0.0.1:1/healthz\"").await;
    check(http(json!("absent")), "failure: couldn't find port").await;
    check(json!({"tcpSocket": {"port": ok}}), "success").await;
    check(json!({"tcpSocket": {"port": closed}}), &format!("failure: dial tcp 127.0.0.1:{closed}: ")).await;
    check(json!({"exec": {"command": ["true"]}}), "success").await;
    check(json!({"grpc": {"port": closed}}), &format!("failure: service 127.0.0.1:{closed}: ")).await;
    check(json!({}), "unknown: missing probe handler").await;
}

fn check_frame(service_bytes: usize, start: &[u8]) {
    let service = "s".repeat(service_bytes);
    let frame = health_check_request(&service);
    assert_eq!(frame, [start, service.as_bytes()].concat(), "{service_bytes} bytes");
}

#[test]
fn a_service_of_any_length_is_asked_for() {
    check_frame(0, &[0, 0, 0, 0, 0]);
    check_frame(1, &[0, 0, 0, 0, 3, 0x0a, 1]);
    check_frame(127, &[0, 0, 0, 0, 129, 0x0a, 127]);
    check_frame(128, &[0, 0, 0, 0, 131, 0x0a, 0x80, 0x01]);
    check_frame(300, &[0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    check_frame(1 << 14, &[0, 0, 0, 0x40, 4, 0x0a, 0x80, 0x80, 0x01]);
}

#[tokio::test]
async fn pods_are_probed_at_ipv6_addresses() {
    let ok = server_at("[::1]:0", "HTTP/1.1 204 No Content\r\n\r\n").await;
    let closed = TcpListener::bind("[::1]:0").await.unwrap().local_addr().unwrap().port();
    check_at(json!({"httpGet": {"port": ok}}), "::1", "success").await;
    check_at(json!({"tcpSocket": {"port": ok}}), "::1", "success").await;
    let refused = format!("failure: Get \"http://[::1]:{closed}/\": dial tcp [::1]:{closed}: ");
    check_at(json!({"httpGet": {"port": closed}}), "::1", &refused).await;
    check_at(json!({"grpc": {"port": closed}}), "::1", &format!("failure: service [::1]:{closed}: ")).await;
}
