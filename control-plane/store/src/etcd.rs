//! The store of several servers: an etcd cluster (3.4 and newer).

mod error;
mod maintain;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, GetResponse, Identity, KeyValue, KvClient,
    TlsOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse,
};
use tokio::{sync::Notify, task::JoinSet, time};

use crate::{Entry, Error, EventStream, Expect, List, ListOptions, Op, Outcome, PREFIX, Result, Revision, Store, Txn};
use error::{Failure, unavailable};

/// Files for TLS to etcd, named as upstream's `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long superseded versions stay readable; as upstream's `--etcd-compaction-interval`.
    pub history_age: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { history_age: Duration::from_secs(300), request_timeout: Duration::from_secs(5) }
    }
}

/// A list of everything comes in pages, but a page of large objects exceeds the default of 4 MiB.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Read by everyone, written to make a revision pass through the watch.
const NUDGE: &str = "/registry/.progress";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// etcd closes connections that ping more often than every 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
const RETRY: Duration = Duration::from_millis(50);

/// See the module.
pub struct Etcd {
    client: Client,
    kv: KvClient,
    options: Options,
    out_of_space: Arc<Notify>,
    _tasks: JoinSet<()>,
}

/// Connects to the cluster of these endpoints (`http://…` or `https://…`). TLS is used for `https`.
pub async fn connect(endpoints: &[String], tls: Option<Tls>) -> Result<Etcd> {
    connect_with(endpoints, tls, Options::default()).await
}

pub async fn connect_with(endpoints: &[String], tls: Option<Tls>, options: Options) -> Result<Etcd> {
    let connect_options = connect_options(endpoints, tls)?;
    let connected = Client::connect(endpoints, Some(connect_options.clone())).await;
    let client = connected.map_err(|error| unavailable("connect to etcd", error))?;
    let kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let out_of_space = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(maintain::run(client.clone(), endpoints.to_vec(), connect_options, options, out_of_space.clone()));
    let etcd = Etcd { client, kv, options, out_of_space, _tasks: tasks };
    // The client connects lazily: find out here whether anyone answers.
    etcd.current_revision().await?;
    Ok(etcd)
}

fn connect_options(endpoints: &[String], tls: Option<Tls>) -> Result<ConnectOptions> {
    if endpoints.is_empty() {
        return Err(Error::InvalidOption { what: "endpoints", value: "none are given".to_owned() });
    }
    for endpoint in endpoints {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::InvalidOption { what: "endpoint (http:// or https://)", value: endpoint.clone() });
        }
    }
    let options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_require_leader(true);
    let secure = endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
    match secure {
        0 => Ok(options),
        _ if secure == endpoints.len() => Ok(options.with_tls(tls_options(tls.unwrap_or_default())?)),
        _ => Err(Error::InvalidOption { what: "endpoints (all http:// or all https://)", value: endpoints.join(",") }),
    }
}

fn tls_options(tls: Tls) -> Result<TlsOptions> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(|source| Error::Io { operation: "read", path, source });
    let mut options = TlsOptions::new();
    if let Some(path) = tls.ca_file {
        options = options.ca_certificate(Certificate::from_pem(read(path)?));
    }
    match (tls.cert_file, tls.key_file) {
        (Some(cert), Some(key)) => Ok(options.identity(Identity::from_pem(read(cert)?, read(key)?))),
        (None, None) => Ok(options),
        (cert, key) => {
            let value = cert.or(key).unwrap_or_default().display().to_string();
            Err(Error::InvalidOption { what: "TLS files (certificate and key go together)", value })
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let mut response = self.read("get", key.as_bytes(), GetOptions::new()).await?;
        response.take_kvs().into_iter().next().map(entry).transpose()
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<List> {
        let start = match &options.start_after {
            Some(key) if key.as_str() >= prefix => [key.as_bytes(), b"\0"].concat(),
            _ => prefix.as_bytes().to_vec(),
        };
        let requested = options.revision.unwrap_or_default();
        let range = GetOptions::new()
            .with_range(prefix_end(prefix))
            .with_limit(options.limit as i64)
            .with_revision(requested.0 as i64);
        let mut response = self.read("list", &start, range).await.map_err(|error| error.about(requested))?;
        let newest = revision(response.header());
        let remaining = response.count() as u64 - response.kvs().len() as u64;
        let entries = response.take_kvs().into_iter().map(entry).collect::<Result<_>>()?;
        Ok(List { entries, revision: options.revision.unwrap_or(newest), more: remaining > 0, remaining })
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome> {
        let expected = match txn.expect {
            Expect::Absent => 0,
            Expect::Revision(revision) => revision.0 as i64,
        };
        let write = match &txn.op {
            Op::Put(value) => TxnOp::put(txn.key.as_str(), &value[..], None),
            Op::Delete => TxnOp::delete(txn.key.as_str(), None),
        };
        let request = EtcdTxn::new()
            .when([Compare::mod_revision(txn.key.as_str(), CompareOp::Equal, expected)])
            .and_then([write])
            .or_else([TxnOp::get(txn.key.as_str(), None)]);
        // Not repeated on failure: whether it took effect is unknown, and only the caller can tell what that means.
        let response = self.limited("txn", self.kv.clone().txn(request)).await.map_err(|failure| {
            if failure.is_out_of_space() {
                self.out_of_space.notify_one();
            }
            match &txn.op {
                Op::Put(value) => failure.about_value(&txn.key, value.len()),
                Op::Delete => failure.into(),
            }
        })?;
        if response.succeeded() {
            return Ok(Outcome::Committed(revision(response.header())));
        }
        let found = response.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().next(),
            _ => None,
        });
        Ok(Outcome::Conflict(found.map(entry).transpose()?))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<EventStream> {
        Ok(watch::follow(self.client.clone(), prefix, after))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        match self.limited("compact", self.kv.clone().compact(revision.0 as i64, None)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_compacted() => Ok(()),
            Err(failure) => Err(failure.about(revision)),
        }
    }

    async fn current_revision(&self) -> Result<Revision> {
        let response = self.read("read the revision", NUDGE.as_bytes(), GetOptions::new().with_count_only()).await?;
        Ok(revision(response.header()))
    }

    async fn nudge(&self) -> Result<()> {
        self.limited("write", self.kv.clone().put(NUDGE, "", None)).await?;
        Ok(())
    }
}

impl Etcd {
    /// A linearizable read, repeated while etcd is away.
    async fn read(&self, operation: &'static str, key: &[u8], options: GetOptions) -> Result<GetResponse, Failure> {
        let attempts = async {
            loop {
                match self.kv.clone().get(key, Some(options.clone())).await.map_err(|e| Failure::new(operation, e)) {
                    Err(failure) if failure.is_transient() => {
                        tracing::debug!(error = %failure, "etcd read is repeated");
                        time::sleep(RETRY).await;
                    }
                    result => return result,
                }
            }
        };
        match time::timeout(self.options.request_timeout, attempts).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout(operation)),
        }
    }

    async fn limited<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        match time::timeout(self.options.request_timeout, request).await {
            Ok(result) => result.map_err(|error| Failure::new(operation, error)),
            Err(_) => Err(Failure::timeout(operation)),
        }
    }
}

fn entry(kv: KeyValue) -> Result<Entry> {
    let (create, modified) = (kv.create_revision(), kv.mod_revision());
    let (key, value) = kv.into_key_value();
    let key = String::from_utf8(key).map_err(|error| unavailable("read a key that is not UTF-8", error))?;
    Ok(Entry {
        key: key.into(),
        value: Bytes::from(value),
        create_revision: Revision(create as u64),
        mod_revision: Revision(modified as u64),
    })
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision() as u64))
}

/// The first key after all that start with `prefix`.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0] // Every key.
}

const _: () = assert!(NUDGE.len() > PREFIX.len());
