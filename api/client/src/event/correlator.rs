//! client-go's `EventCorrelator`: equal events are counted, similar ones combined, floods dropped.

use super::{EventType, Report};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use xebec_types::time::{self, Timestamp};

/// Sources and events remembered (client-go: 4096, but this runs once for each component here).
const REMEMBERED: usize = 1024;
/// Similar events (all but the message equal) within the interval before they are combined.
const COMBINE_AFTER: usize = 10;
const COMBINE_INTERVAL: Duration = Duration::from_secs(600);
/// Events about one object at once, and then one every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Known {
    pub name: String,
    pub count: i32,
}

#[derive(PartialEq, Debug)]
pub(super) enum Verdict {
    Drop,
    Create { message: String },
    Count { known: Known, message: String },
}

#[derive(Default)]
pub(super) struct Correlator {
    written: HashMap<EqualKey, (Known, Timestamp)>,
    similar: HashMap<SimilarKey, Similar>,
    buckets: HashMap<ObjectKey, (f64, Timestamp)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct ObjectKey {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct SimilarKey {
    object: ObjectKey,
    field_path: Option<String>,
    kind: EventType,
    reason: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct EqualKey {
    similar: SimilarKey,
    /// `None` for the combined event.
    message: Option<String>,
}

struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

impl Correlator {
    pub(super) fn correlate(&mut self, report: &Report) -> Verdict {
        if !self.take_token(report) {
            return Verdict::Drop;
        }
        let combined = self.note_similar(report);
        let message = if combined {
            format!("(combined from similar events): {}", report.message)
        } else {
            report.message.clone()
        };
        match self.written.get(&equal_key(report, combined)) {
            Some((known, _)) => Verdict::Count { known: known.clone(), message },
            None => Verdict::Create { message },
        }
    }

    /// Remembers the event that now stands for `report`.
    pub(super) fn wrote(&mut self, report: &Report, known: Known) {
        let combined = self.is_combined(report);
        forget_oldest(&mut self.written, |(_, at)| *at);
        self.written.insert(equal_key(report, combined), (known, report.at));
    }

    fn take_token(&mut self, report: &Report) -> bool {
        forget_oldest(&mut self.buckets, |(_, at)| *at);
        let (tokens, last) = self.buckets.entry(object_key(report)).or_insert((BURST, report.at));
        let refill = time::since(*last, report.at).as_secs_f64() * REFILL_PER_SECOND;
        *tokens = (*tokens + refill).min(BURST);
        *last = report.at;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    fn note_similar(&mut self, report: &Report) -> bool {
        forget_oldest(&mut self.similar, |s| s.last);
        let fresh = || Similar { messages: HashSet::new(), last: report.at };
        let similar = self.similar.entry(similar_key(report)).or_insert_with(fresh);
        if time::since(similar.last, report.at) > COMBINE_INTERVAL {
            similar.messages.clear();
        }
        similar.last = report.at;
        if similar.messages.len() < COMBINE_AFTER {
            similar.messages.insert(report.message.clone());
        }
        similar.messages.len() >= COMBINE_AFTER
    }

    fn is_combined(&self, report: &Report) -> bool {
        let similar = self.similar.get(&similar_key(report));
        similar.is_some_and(|s| s.messages.len() >= COMBINE_AFTER)
    }
}

fn forget_oldest<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, at: impl Fn(&V) -> Timestamp) {
    if map.len() < REMEMBERED {
        return;
    }
    let mut times: Vec<Timestamp> = map.values().map(&at).collect();
    times.sort_unstable();
    let Some(median) = times.get(times.len() / 2).copied() else {
        return;
    };
    map.retain(|_, value| at(value) > median);
}

fn object_key(report: &Report) -> ObjectKey {
    ObjectKey {
        kind: report.object.kind.clone(),
        namespace: report.object.namespace.clone(),
        name: report.object.name.clone(),
        uid: report.object.uid.clone(),
    }
}

fn similar_key(report: &Report) -> SimilarKey {
    SimilarKey {
        object: object_key(report),
        field_path: report.object.field_path.clone(),
        kind: report.kind,
        reason: report.reason.clone(),
    }
}

fn equal_key(report: &Report, combined: bool) -> EqualKey {
    let message = (!combined).then(|| report.message.clone());
    EqualKey { similar: similar_key(report), message }
}

#[cfg(test)]
mod tests;
