//! The server over real sockets on the loopback device, with upstreams that the tests play.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::DNSClass;
use hickory_proto::rr::rdata::A;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::*;

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    _tasks: JoinSet<()>,
}

/// A free port of both protocols.
async fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
}

async fn start(zone: Zone, upstreams: Vec<SocketAddr>) -> Running {
    let shared = SharedZone::default();
    *shared.write() = zone;
    let metrics = Arc::new(Metrics::default());
    let server = Server {
        domain: wire::domain("cluster.local").unwrap(),
        own: None,
        zone: shared,
        forwarder: Forwarder::new(upstreams, metrics.clone()),
        metrics: metrics.clone(),
    };
    let address = free_address().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        server::serve(Arc::new(server), vec![address], CancellationToken::new()).await.unwrap();
    });
    let running = Running { address, metrics, _tasks: tasks };
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    running
}

/// An upstream that answers with what `reply` makes of the query; `None` is silence.
async fn upstream(
    reply: impl Fn(&Message, bool) -> Option<Message> + Send + Sync + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let address = free_address().await;
    let udp = UdpSocket::bind(address).await.unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let reply = Arc::new(reply);
    let mut tasks = JoinSet::new();
    let by_udp = reply.clone();
    tasks.spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (len, client) = udp.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..len]).unwrap();
            if let Some(answer) = by_udp(&query, false) {
                udp.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes).unwrap();
            if let Some(answer) = reply(&query, true) {
                let bytes = answer.to_vec().unwrap();
                stream.write_u16(bytes.len() as u16).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    (address, tasks)
}

fn reply_to(query: &Message) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.queries.clone_from(&query.queries);
    answer
}

fn address_of(query: &Message, last: u8) -> Message {
    let mut answer = reply_to(query);
    let name = query.queries[0].name().clone();
    answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, last)))));
    answer
}

fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = edns {
        message.set_edns(Edns::new().set_max_payload(payload).clone());
    }
    message
}

async fn exchange_bytes(server: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let len = tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await.ok()?.unwrap();
    buffer.truncate(len);
    Some(buffer)
}

async fn udp(server: &Running, message: &Message) -> (usize, Message) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server.address).await.unwrap();
    let mut buffer = vec![0; 4096];
    let len = tokio::time::timeout(Duration::from_secs(9), socket.recv(&mut buffer)).await.unwrap().unwrap();
    let answer = Message::from_vec(&buffer[..len]).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (message.metadata.id, &message.queries));
    assert_eq!(answer.edns.is_some(), message.edns.is_some());
    (len, answer)
}

async fn tcp(server: &Running, messages: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut answers = Vec::new();
    for message in messages {
        let bytes = message.to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
    for _ in messages {
        let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut bytes).await.unwrap();
        answers.push(Message::from_vec(&bytes).unwrap());
    }
    answers
}

fn texts(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(data).collect()
}

#[tokio::test]
async fn cluster_names_are_answered_by_both_protocols() {
    let server = start(zone(), vec![]).await;
    let (_, answer) = udp(&server, &query("WeB.demo.svc.cluster.local.", T::A, None)).await;
    assert_eq!(texts(&answer), ["10.96.0.7"]);
    assert_eq!(answer.answers[0].name.to_string(), "WeB.demo.svc.cluster.local.");
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available && answer.metadata.recursion_desired);
    let pipelined =
        [query("db-0.db.demo.svc.cluster.local.", T::A, Some(4096)), query("no.demo.svc.cluster.local.", T::A, None)];
    let answers = tcp(&server, &pipelined).await;
    assert_eq!(texts(&answers[0]), ["10.244.1.6"]);
    assert_eq!(answers[1].metadata.response_code, NXDomain);
    assert_eq!(answers[1].authorities.len(), 1);
    let (_, answer) = udp(&server, &query("alias.demo.svc.cluster.local.", T::A, None)).await;
    assert_eq!(texts(&answer), ["CNAME web.demo.svc.cluster.local.", "10.96.0.7"]);
    let (_, answer) = udp(&server, &query("loop.demo.svc.cluster.local.", T::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let text = server.metrics.render();
    assert!(text.contains("xebec_dns_responses_total{rcode=\"NXDOMAIN\"} 1\n"), "{text}");
    assert!(text.contains("xebec_dns_queries_total{transport=\"tcp\"} 2\n"), "{text}");
}

#[tokio::test]
async fn large_answers_are_cut_to_what_the_client_takes() {
    let many: Vec<Endpoint> = (0..200).map(|n| endpoint(&format!("10.244.3.{n}"), None, &[])).collect();
    let mut zone = zone();
    zone.put(record("many", Kind::Headless, &[], &many));
    let server = start(zone, vec![]).await;
    for (edns, limit) in [(None, 512), (Some(256), 512), (Some(1024), 1024), (Some(65_000), 1232)] {
        let (len, answer) = udp(&server, &query("many.demo.svc.cluster.local.", T::A, edns)).await;
        assert!(answer.metadata.truncation, "{edns:?}");
        assert!(len <= limit && len > limit - 40, "{len} of {limit}");
        assert!(!answer.answers.is_empty());
    }
    let answers = tcp(&server, &[query("many.demo.svc.cluster.local.", T::A, Some(512))]).await;
    assert_eq!((answers[0].answers.len(), answers[0].metadata.truncation), (200, false));
}

#[tokio::test]
async fn other_names_are_forwarded_and_kept_for_a_while() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (good, _tasks) = upstream(move |query, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Some(address_of(query, 1))
    })
    .await;
    let server = start(zone(), vec![good]).await;
    for name in ["example.org.", "example.org.", "EXAMPLE.org."] {
        let (_, answer) = udp(&server, &query(name, T::A, Some(1232))).await;
        assert_eq!(texts(&answer), ["192.0.2.1"]);
        assert!(!answer.metadata.authoritative && answer.answers[0].ttl <= 60);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let (_, answer) = udp(&server, &query("out.demo.svc.cluster.local.", T::A, None)).await;
    assert_eq!(texts(&answer), ["CNAME Example.org.", "192.0.2.1"]);
    let answers = tcp(&server, &[query("other.org.", T::A, None)]).await;
    assert_eq!(texts(&answers[0]), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_silent_upstream_is_passed_over() {
    let (silent, _first) = upstream(|_, _| None).await;
    let (good, _second) = upstream(|query, _| Some(address_of(query, 2))).await;
    let server = start(zone(), vec![silent, good]).await;
    let (_, answer) = udp(&server, &query("example.org.", T::A, None)).await;
    assert_eq!(texts(&answer), ["192.0.2.2"]);
}

#[tokio::test]
async fn answers_to_other_questions_are_not_believed() {
    let (liar, _tasks) = upstream(|query, _| {
        let mut answer = address_of(query, 66);
        answer.metadata.id = query.metadata.id.wrapping_add(1);
        Some(answer)
    })
    .await;
    let server = start(zone(), vec![liar]).await;
    let (_, answer) = udp(&server, &query("example.org.", T::A, None)).await;
    assert_eq!((answer.metadata.response_code, texts(&answer)), (ResponseCode::ServFail, vec![]));
}

#[tokio::test]
async fn answers_that_were_cut_off_are_asked_for_by_tcp() {
    let (cut, _tasks) = upstream(|query, tcp| {
        let mut answer = if tcp { address_of(query, 3) } else { reply_to(query) };
        answer.metadata.truncation = !tcp;
        Some(answer)
    })
    .await;
    let server = start(zone(), vec![cut]).await;
    let (_, answer) = udp(&server, &query("example.org.", T::A, None)).await;
    assert_eq!(texts(&answer), ["192.0.2.3"]);
}

#[tokio::test]
async fn without_upstreams_failures_are_quick() {
    let server = start(zone(), vec![]).await;
    let started = tokio::time::Instant::now();
    let (_, answer) = udp(&server, &query("example.org.", T::A, None)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let (_, answer) = udp(&server, &query("9.9.244.10.in-addr.arpa.", T::PTR, None)).await;
    assert_eq!(answer.metadata.response_code, NXDomain);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn malformed_questions_get_the_right_code_or_silence() {
    let server = start(zone(), vec![]).await;
    let mut status = query("a.", T::A, None);
    status.metadata.op_code = OpCode::Status;
    let mut chaos = query("version.bind.", T::TXT, None);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut two = query("a.", T::A, None);
    two.add_query(two.queries[0].clone());
    let mut version = query("a.", T::A, Some(1232));
    version.edns.as_mut().unwrap().set_version(1);
    for (message, code) in [
        (status, ResponseCode::NotImp),
        (chaos, ResponseCode::Refused),
        (two, ResponseCode::FormErr),
        (version, ResponseCode::BADVERS),
    ] {
        let bytes = exchange_bytes(server.address, &message.to_vec().unwrap()).await.unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        // By number: 16 is BADVERS here and BADSIG elsewhere.
        let seen = (answer.metadata.id, u16::from(answer.metadata.response_code));
        assert_eq!(seen, (message.metadata.id, u16::from(code)));
    }
    let mut garbage = query("a.demo.svc.cluster.local.", T::A, None).to_vec().unwrap();
    garbage.truncate(20);
    let answer = exchange_bytes(server.address, &garbage).await.unwrap();
    assert_eq!((&answer[..2], answer[3] & 0x0f), (&garbage[..2], 1));
    assert_eq!(exchange_bytes(server.address, b"short").await, None);
    let response = reply_to(&query("a.", T::A, None)).to_vec().unwrap();
    assert_eq!(exchange_bytes(server.address, &response).await, None);
}

/// Prints what a question costs (`--no-capture`); asserts nothing about time.
#[tokio::test]
async fn questions_in_a_row() {
    let server = start(zone(), vec![]).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.address).await.unwrap();
    let bytes = query("web.demo.svc.cluster.local.", T::A, None).to_vec().unwrap();
    let mut buffer = [0; 512];
    let count = 2000;
    let started = tokio::time::Instant::now();
    for _ in 0..count {
        socket.send(&bytes).await.unwrap();
        socket.recv(&mut buffer).await.unwrap();
    }
    println!("{:?} for a question and its answer", started.elapsed() / count);
}

/// The API is away and this process is new: it answers from the snapshot, and not before there is one.
#[tokio::test]
async fn a_restart_without_the_api_answers_from_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zone.json");
    let shared = SharedZone::default();
    *shared.write() = zone();
    for (snapshot, code) in [(false, ResponseCode::ServFail), (true, NoError)] {
        if snapshot {
            snapshot::save(&path, &shared).unwrap();
        }
        let away = tower::service_fn(|_: http::Request<xebec_client::kube::client::Body>| async {
            Err::<http::Response<xebec_client::kube::client::Body>, _>(std::io::Error::other("no route to the API"))
        });
        let informers = Informers::new(xebec_client::Client::new(away, "default"));
        let address = free_address().await;
        let config = Config {
            listen: vec![address],
            cluster_domain: "cluster.local".to_owned(),
            upstreams: Vec::new(),
            snapshot: Some(path.clone()),
        };
        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        let body = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
            let running = Running { address, metrics: metrics.clone(), _tasks: JoinSet::new() };
            let (_, answer) = udp(&running, &query("web.demo.svc.cluster.local.", T::A, None)).await;
            assert_eq!(answer.metadata.response_code, code);
            stop.cancel();
        };
        let (served, ()) = tokio::join!(run(config, &informers, metrics.clone(), stop.clone()), body);
        served.unwrap();
    }
}
