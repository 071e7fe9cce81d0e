//! Answers of upstreams, for as long as they may be kept.

use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::time::Instant;

/// A node-local cache takes load off the upstreams; it is not there to outlive their changes.
const LIFETIME_MAX: Duration = Duration::from_secs(30);

/// How long an expired answer may stand in when no upstream answers.
const STALE_MAX: Duration = Duration::from_secs(3600);

const ENTRIES_MAX: usize = 10_000;

/// What clients have an upstream of their own answer with is not kept, if it is longer: it would be most of the memory.
const MESSAGE_BYTES_MAX: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// In lower case.
    pub name: String,
    pub kind: RecordType,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

#[derive(Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
}

struct Entry {
    message: Message,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// With the time it has been here taken off its TTLs.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key).filter(|entry| now < entry.expires)?;
        let age = now.duration_since(entry.stored).as_secs() as u32;
        let mut message = entry.message.clone();
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in section {
                record.decrement_ttl(age);
            }
        }
        Some(message)
    }

    /// Whatever there is, to be asked for again in a second.
    pub fn get_stale(&self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key).filter(|entry| now < entry.expires + STALE_MAX)?;
        let mut message = entry.message.clone();
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            for record in section {
                record.ttl = 1;
            }
        }
        Some(message)
    }

    /// `bytes` is how many the message had.
    pub fn put(&mut self, key: Key, message: &Message, bytes: usize, now: Instant) {
        let Some(lifetime) = lifetime(message).filter(|_| bytes <= MESSAGE_BYTES_MAX) else { return };
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now < entry.expires);
        }
        if self.entries.len() < ENTRIES_MAX {
            self.entries.insert(key, Entry { message: message.clone(), stored: now, expires: now + lifetime });
        }
    }
}

/// `None`: not to be kept.
fn lifetime(message: &Message) -> Option<Duration> {
    if message.metadata.truncation {
        return None;
    }
    let seconds = match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => {
            message.answers.iter().map(|record| record.ttl).min()?
        }
        // The lesser of the SOA's own TTL and its minimum (RFC 2308, 5).
        ResponseCode::NoError | ResponseCode::NXDomain => {
            message.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })?
        }
        _ => return None,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LIFETIME_MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, Record};

    use super::*;

    #[test]
    fn long_messages_are_not_kept() {
        let name: Name = "a.example.com.".parse().expect("a name");
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.answers = vec![Record::from_rdata(name.clone(), 30, RData::A(A(Ipv4Addr::LOCALHOST)))];
        let key = Key { name: name.to_ascii(), kind: RecordType::A, dnssec_ok: false, checking_disabled: false };
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key.clone(), &message, MESSAGE_BYTES_MAX + 1, now);
        assert_eq!(cache.get(&key, now), None);
        cache.put(key.clone(), &message, MESSAGE_BYTES_MAX, now);
        assert_eq!(cache.get(&key, now), Some(message));
    }
}
