//! What reads bytes of others, for those who try it with bytes that nobody meant.

use std::time::Duration;

use hickory_proto::op::Message;
use tokio::time::Instant;

use crate::cache::{Cache, Key};
use crate::wire::Transport;
use crate::{Answer, forward, wire};

/// An upstream's answer to whatever it says it was asked, as it is kept and passed on: the bytes for clients by UDP and
/// TCP, with what each may take.
pub fn upstream(bytes: &[u8]) -> Vec<(Vec<u8>, u16)> {
    let Ok(said) = Message::from_vec(bytes) else { return Vec::new() };
    let mut query = Message::query();
    query.metadata.id = said.metadata.id;
    query.queries = said.queries;
    let Ok(answer) = forward::parse(&query, bytes) else { return Vec::new() };
    let mut messages = vec![answer.clone()];
    if let Some(question) = query.queries.first() {
        let name = question.name().to_lowercase().to_ascii();
        let key = Key { name, kind: question.query_type(), dnssec_ok: false, checking_disabled: false };
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key.clone(), &answer, bytes.len(), now);
        messages.extend(cache.get(&key, now + Duration::from_secs(1)));
        messages.extend(cache.get_stale(&key, now + Duration::from_secs(60)));
    }
    let all = messages.into_iter().map(Answer::from).flat_map(|answer| {
        [Transport::Udp, Transport::Tcp].map(|transport| {
            let bytes = wire::encode(&query, &answer, false, transport).ok()?;
            Some((bytes, wire::limit(&query, transport)))
        })
    });
    all.flatten().collect()
}
