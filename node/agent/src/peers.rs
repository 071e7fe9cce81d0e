//! Which of a few other nodes answer on the network, found out in two seconds: by ICMP echo, which their kernels answer
//! whether an agent runs there or not.

mod echo;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use echo::Socket;

/// Between two questions to one node.
const PERIOD: Duration = Duration::from_millis(500);
/// Between attempts to open the socket.
const RETRY: Duration = Duration::from_secs(30);
/// So many questions in a row without an answer make a node silent.
const SILENT_AFTER: u32 = 4;
/// So many answers in a row make it speak again: longer, so that a line that comes and goes moves nothing twice.
const SPEAKS_AFTER: u32 = 6;

/// Asks `asked` until nobody wants to know any more, and tells in `silent` which of them have stopped answering. One that
/// has never answered is not silent: it may not answer anybody.
pub async fn follow(mut asked: watch::Receiver<BTreeSet<IpAddr>>, silent: watch::Sender<BTreeSet<IpAddr>>) {
    let socket = open().await;
    let mut peers: BTreeMap<IpAddr, Health> = BTreeMap::new();
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u16;
    loop {
        if peers.is_empty() {
            // Nothing to ask until somebody wants to know.
            if asked.wait_for(|asked| !asked.is_empty()).await.is_err() {
                return;
            }
        }
        let wanted = asked.borrow_and_update().clone();
        peers.retain(|peer, _| wanted.contains(peer));
        for peer in wanted {
            peers.entry(peer).or_default();
        }
        round = round.wrapping_add(1);
        for peer in peers.keys() {
            socket.ask(*peer, round);
        }
        let answers = listen(&socket, round, &mut ticker).await;
        for (peer, health) in &mut peers {
            if health.note(answers.contains(peer)) {
                tracing::warn!(%peer, silent = health.silent, "a node's answers on the network changed");
            }
        }
        let now: BTreeSet<IpAddr> = peers.iter().filter(|(_, health)| health.silent).map(|(peer, _)| *peer).collect();
        silent.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
    }
}

/// As long as there is no socket, nobody is silent.
async fn open() -> Socket {
    loop {
        match Socket::open() {
            Ok(socket) => return socket,
            Err(error) => tracing::warn!(%error, "other nodes are not asked whether they are there"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Who answers in this round, until the next one begins.
async fn listen(socket: &Socket, round: u16, ticker: &mut tokio::time::Interval) -> BTreeSet<IpAddr> {
    let mut answers = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            answer = socket.answer() => match answer {
                Ok((peer, answered)) if answered == round => drop(answers.insert(peer)),
                Ok(_) => {}
                // The line may be down; the next round asks again.
                Err(error) => {
                    tracing::debug!(%error, "echo not received");
                    ticker.tick().await;
                    return answers;
                }
            },
            _ = ticker.tick() => return answers,
        }
    }
}

/// The last answers of one node.
#[derive(Default)]
struct Health {
    silent: bool,
    /// It has answered before.
    known: bool,
    /// Rounds in a row that speak against `silent` as it is.
    against: u32,
}

impl Health {
    /// Notes a round; true if it changed anything.
    fn note(&mut self, answered: bool) -> bool {
        self.known |= answered;
        if answered != self.silent || !self.known {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.silent { SPEAKS_AFTER } else { SILENT_AFTER };
        if self.against < enough {
            return false;
        }
        (self.silent, self.against) = (!self.silent, 0);
        true
    }
}

#[cfg(test)]
mod tests;
