use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::*;

/// An API server that makes a numbered token with each request, for as long as is asked for.
fn issuer(clock: &Clock) -> (Client, Arc<AtomicU32>) {
    let made = Arc::new(AtomicU32::new(0));
    let (count, clock) = (Arc::clone(&made), clock.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (count, now) = (Arc::clone(&count), time::at(clock.now()));
        async move {
            let is_token = request.uri().path() == "/api/v1/namespaces/ns/serviceaccounts/default/token";
            let body = http_body_util::BodyExt::collect(request.into_body()).await.expect("a body").to_bytes();
            let answer = if is_token {
                let asked: TokenRequest = serde_json::from_slice(&body).expect("a TokenRequest");
                let seconds = asked.spec.and_then(|spec| spec.expiration_seconds).expect("seconds");
                let end = time::after(now, Duration::from_secs(seconds.try_into().expect("positive")));
                let token = format!("token-{}", count.fetch_add(1, Ordering::SeqCst));
                let status = json!({"token": token, "expirationTimestamp": time::time(end)});
                let kind = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
                let mut made = json!({"metadata": {}, "spec": {"audiences": []}, "status": status});
                made.as_object_mut().expect("an object").extend(kind.as_object().expect("an object").clone());
                Response::new(Body::from(made.to_string().into_bytes()))
            } else {
                let mut missing = Response::new(Body::empty());
                *missing.status_mut() = StatusCode::NOT_FOUND;
                missing
            };
            Ok::<_, Infallible>(answer)
        }
    });
    (Client::new(service, "default"), made)
}

/// What a projected volume is written from: its files are looked at with each sync of the pod.
#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let clock = Clock::default();
    let (client, made) = issuer(&clock);
    let objects = ApiObjects::new(client.clone(), &Informers::new(client), clock.clone());
    let pod = PodRef { namespace: "ns".into(), name: "p".into(), uid: "u".into() };
    let check = async |seconds: i64, expected: &str| {
        let spec =
            TokenSpec { service_account: "default".into(), audience: String::new(), expiration_seconds: seconds };
        assert_eq!(objects.token(&pod, &spec).await.expect("a token"), expected, "for {seconds} s");
    };
    check(3600, "token-0").await;
    clock.advance(Duration::from_secs(2870));
    check(3600, "token-0").await;
    clock.advance(Duration::from_secs(20));
    check(3600, "token-1").await;
    // A long one is renewed every day, as the account's rights may have changed hands.
    let year = 365 * 86_400;
    check(year, "token-2").await;
    clock.advance(Duration::from_secs(86_300));
    check(year, "token-2").await;
    clock.advance(Duration::from_secs(200));
    check(year, "token-3").await;
    for step in 0..60_u32 {
        clock.advance(Duration::from_secs(7 * 86_400));
        check(3600, &format!("token-{}", step + 4)).await;
    }
    assert_eq!(made.load(Ordering::SeqCst), 64, "one for each time that it was due");
}
