//! Sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, answer};
use crate::forward::Forwarder;
use crate::wire::{self, Parsed, Transport};
use crate::zone::SharedZone;
use crate::{Error, Metrics, Result};

/// How long a TCP client may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);

const TCP_CONNECTIONS_MAX: usize = 512;

/// CNAMEs followed for one question.
const CHASES_MAX: usize = 8;

const BIND_RETRY: Duration = Duration::from_millis(100);

pub struct Server {
    pub domain: Name,
    pub own: Option<IpAddr>,
    pub zone: SharedZone,
    pub forwarder: Forwarder,
    pub metrics: Arc<Metrics>,
}

/// Serves every address by UDP and TCP until `stop`.
pub async fn serve(server: Arc<Server>, listen: Vec<SocketAddr>, stop: CancellationToken) -> Result<()> {
    let mut tasks = JoinSet::new();
    for address in listen {
        let (udp, tcp) = tokio::select! {
            bound = bind(address) => bound?,
            () = stop.cancelled() => return Ok(()),
        };
        tracing::info!(%address, "serving DNS");
        tasks.spawn(serve_udp(server.clone(), Arc::new(udp)));
        tasks.spawn(serve_tcp(server.clone(), tcp));
    }
    stop.cancelled().await;
    Ok(())
}

/// Both protocols on one port. The gateway's address appears when the agent has made its device: it is waited for.
async fn bind(address: SocketAddr) -> Result<(UdpSocket, TcpListener)> {
    let failed = |protocol| move |source| Error::Listen { address, protocol, source };
    let mut told = false;
    loop {
        let bound = async {
            let udp = UdpSocket::bind(address).await.map_err(failed("udp"))?;
            let tcp = TcpListener::bind(udp.local_addr().map_err(failed("udp"))?).await.map_err(failed("tcp"))?;
            Ok((udp, tcp))
        };
        match bound.await {
            Err(Error::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrNotAvailable => {
                if !told {
                    tracing::info!(%address, "waiting for the address");
                }
                told = true;
                tokio::time::sleep(BIND_RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// The cluster's names are answered in the receiving loop; only forwarding takes a task.
async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut forwards = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        let (len, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    // ICMP errors of earlier answers arrive here; the socket itself stays good.
                    tracing::debug!(%error, "receive");
                    continue;
                }
            },
            Some(_) = forwards.join_next(), if !forwards.is_empty() => continue,
        };
        Metrics::count(&server.metrics.udp_queries);
        match server.local(buffer.get(..len).unwrap_or_default(), Transport::Udp) {
            Local::Answered(bytes) => send(&socket, &bytes, client).await,
            Local::Ignored => {}
            Local::Forward(question) => {
                let (server, socket) = (server.clone(), socket.clone());
                forwards.spawn(async move {
                    if let Some(bytes) = server.remote(*question, Transport::Udp).await {
                        send(&socket, &bytes, client).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "send");
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
                let server = server.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    // Clients hang up when they have their answer.
                    let _ = serve_stream(&server, stream).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    }
}

async fn serve_stream(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let len = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut bytes = vec![0; usize::from(len)];
        timeout(TCP_IDLE, stream.read_exact(&mut bytes)).await??;
        Metrics::count(&server.metrics.tcp_queries);
        let answer = match server.local(&bytes, Transport::Tcp) {
            Local::Answered(bytes) => Some(bytes),
            Local::Ignored => return Ok(()),
            Local::Forward(question) => server.remote(*question, Transport::Tcp).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(TCP_IDLE, stream.write_all(&[&len.to_be_bytes(), answer.as_slice()].concat())).await??;
    }
}

enum Local {
    Answered(Vec<u8>),
    /// What the cluster knows of it: perhaps CNAMEs to begin with.
    Forward(Box<(Message, Answer)>),
    Ignored,
}

impl Server {
    fn local(&self, bytes: &[u8], transport: Transport) -> Local {
        let query = match wire::parse(bytes) {
            Parsed::Query(query) => query,
            Parsed::Refused(bytes) => {
                Metrics::count(&self.metrics.malformed);
                return Local::Answered(bytes);
            }
            Parsed::Ignored => {
                Metrics::count(&self.metrics.malformed);
                return Local::Ignored;
            }
        };
        let Some(question) = query.queries.first() else { return Local::Ignored };
        let (mut name, kind) = (question.name().clone(), question.query_type());
        let mut chain: Vec<Record> = Vec::new();
        for _ in 0..CHASES_MAX {
            let Some(mut found) = self.cluster_answer(&name, kind) else {
                let partial = Answer { answers: chain, chase: Some(name), ..Answer::code(ResponseCode::NoError) };
                return Local::Forward(Box::new((query, partial)));
            };
            chain.append(&mut found.answers);
            match found.chase.take() {
                Some(target) => name = target,
                None => {
                    Metrics::count(&self.metrics.cluster_answers);
                    let whole = Answer { answers: chain, ..found };
                    return self.encode(&query, &whole, true, transport).map_or(Local::Ignored, Local::Answered);
                }
            }
        }
        let failed = self.encode(&query, &Answer::code(ResponseCode::ServFail), false, transport);
        failed.map_or(Local::Ignored, Local::Answered)
    }

    fn cluster_answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let turn = TURN.fetch_add(1, Relaxed);
        let zone = self.zone.read();
        let found = answer(&zone, &self.domain, self.own, name, kind, turn);
        if found.is_none() && !self.forwarder.has_upstreams() && name.parse_arpa_name().is_ok() {
            // Nobody else knows: a quick denial spares clients that look their peers up their timeouts.
            return Some(Answer::code(ResponseCode::NXDomain));
        }
        found
    }

    /// Asks an upstream for the end of the chain.
    async fn remote(&self, (query, partial): (Message, Answer), transport: Transport) -> Option<Vec<u8>> {
        let question = query.queries.first()?;
        let name = partial.chase.as_ref().unwrap_or(question.name());
        let resolved = self.forwarder.resolve(name, question.query_type(), &query).await;
        let mut answer = resolved.map_or_else(|| Answer::code(ResponseCode::ServFail), Answer::from);
        answer.answers.splice(..0, partial.answers);
        self.encode(&query, &answer, false, transport)
    }

    fn encode(&self, query: &Message, answer: &Answer, authoritative: bool, transport: Transport) -> Option<Vec<u8>> {
        self.metrics.code(answer.code);
        let bytes = wire::encode(query, answer, authoritative, transport);
        let bytes = bytes.or_else(|error| {
            tracing::warn!(%error, "encode an answer");
            wire::encode(query, &Answer::code(ResponseCode::ServFail), false, transport)
        });
        let bytes = bytes.ok()?;
        // The third byte's second bit is TC.
        if bytes.get(2).is_some_and(|flags| flags & 0x02 != 0) {
            Metrics::count(&self.metrics.truncated);
        }
        Some(bytes)
    }
}
