//! A client certificate expires while its client is connected.

use crate::harness::Cluster;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use xebec_client::connection::{Auth, Connection};
use xebec_client::identity::Identity;
use xebec_client::{Api, Client};
use xebec_types::core::Node;

const GROUP: &str = "system:masters";

/// A connection outlives the certificate that it was made with, unless somebody closes it: a node's is never idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_seen_on_a_busy_connection() {
    let cluster = Cluster::start(0).await;
    let first = cluster.lives_for(Duration::from_secs(8), "admin", GROUP);
    let renewing = Arc::new(Identity::from_pem(&first).expect("an identity"));
    let (client, stale) = (client(&cluster, &renewing), client(&cluster, &identity(&first)));
    assert!(is_known(&client).await && is_known(&stale).await, "the certificate is good");
    renewing.replace(&cluster.lives_for(Duration::from_secs(600), "admin", GROUP)).expect("replaced");
    assert!(is_known(&client).await, "the first one is still good");
    let expired = identity(&first);
    cluster.until("expiry", || async { expired.is_expired(SystemTime::now()).then_some(()) }).await;
    cluster.until("the new certificate", || async { is_known(&client).await.then_some(()) }).await;
    for _ in 0..5 {
        assert!(is_known(&client).await, "it stays");
        assert!(!is_known(&stale).await, "an expired certificate is refused, however often it connects");
    }
}

fn identity(pem: &str) -> Arc<Identity> {
    Arc::new(Identity::from_pem(pem).expect("an identity"))
}

fn client(cluster: &Cluster, identity: &Arc<Identity>) -> Client {
    let auth = Auth::Certificate(Arc::clone(identity));
    Connection { auth, ..cluster.dial(&[cluster.url()]) }.client().expect("a client")
}

/// Whether the server takes the client for whom it says it is.
async fn is_known(client: &Client) -> bool {
    Api::<Node>::all(client.clone()).get_opt("n1").await.is_ok()
}
