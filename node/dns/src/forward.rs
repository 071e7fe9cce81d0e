//! Names that are not the cluster's.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::Metrics;
use crate::cache::{Cache, Key};

/// Resolvers of clients wait 5 s: two upstreams get their chance in that time.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Beyond this many questions at once the upstreams are not keeping up: more would only queue.
const CONCURRENT_MAX: usize = 1000;

/// What upstreams may send us by UDP; over the internet larger datagrams get lost.
const UDP_PAYLOAD: u16 = 1232;

pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    cache: Mutex<Cache>,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

impl Forwarder {
    pub fn new(upstreams: Vec<SocketAddr>, metrics: Arc<Metrics>) -> Self {
        Self { upstreams, cache: Mutex::default(), permits: Semaphore::new(CONCURRENT_MAX), metrics }
    }

    pub fn has_upstreams(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// The answer to one question, from the cache or an upstream. `None`: nobody answered.
    pub async fn resolve(&self, name: &Name, kind: RecordType, query: &Message) -> Option<Message> {
        let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let checking_disabled = query.metadata.checking_disabled;
        let key = Key { name: name.to_lowercase().to_ascii(), kind, dnssec_ok, checking_disabled };
        if let Some(message) = self.cache().get(&key, Instant::now()) {
            Metrics::count(&self.metrics.cache_hits);
            return Some(message);
        }
        if let Some((message, bytes)) = self.ask_all(name, &key).await {
            self.cache().put(key, &message, bytes, Instant::now());
            return Some(message);
        }
        Metrics::count(&self.metrics.forward_failures);
        let stale = self.cache().get_stale(&key, Instant::now());
        if stale.is_some() {
            Metrics::count(&self.metrics.stale_answers);
        }
        stale
    }

    async fn ask_all(&self, name: &Name, key: &Key) -> Option<Received> {
        let _permit = self.permits.try_acquire().ok()?;
        for upstream in &self.upstreams {
            Metrics::count(&self.metrics.forwarded);
            match ask(*upstream, name, key).await {
                Ok(received) => return Some(received),
                Err(error) => tracing::debug!(%upstream, %name, %error, "upstream did not answer"),
            }
        }
        None
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, and how many bytes it had.
type Received = (Message, usize);

/// By UDP, and again by TCP where the answer was cut off.
async fn ask(upstream: SocketAddr, name: &Name, key: &Key) -> io::Result<Received> {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.checking_disabled;
    message.add_query(Query::query(name.clone(), key.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(key.dnssec_ok);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = timeout(ATTEMPT, ask_udp(upstream, &message, &bytes)).await??;
    if answer.0.metadata.truncation {
        return timeout(ATTEMPT, ask_tcp(upstream, &message, &bytes)).await?;
    }
    Ok(answer)
}

/// A socket per question: its random port and the random id are what an off-path attacker has to guess (RFC 5452).
async fn ask_udp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Received> {
    let any: SocketAddr =
        if upstream.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What is no answer to it may be anybody's.
        if let Some(Ok(answer)) = buffer.get(..len).map(|bytes| parse(query, bytes)) {
            return Ok((answer, len));
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Received> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    parse(query, &buffer).map(|answer| (answer, buffer.len()))
}

/// The answer to a query in what an upstream sent.
pub fn parse(query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let answer = Message::from_vec(bytes).map_err(io::Error::other)?;
    let is_answer = answer.metadata.id == query.metadata.id && answer.queries == query.queries;
    if is_answer { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
}
