//! The wall clock as one thing: what looks at the dates of certificates and tokens is given it, so that a test can show
//! months in a moment.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::sync::watch;

/// How soon it is noticed that the system's clock was set, or that the machine slept.
const LOOK: Duration = Duration::from_secs(600);

/// The system's wall clock, unless a test has moved it. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead: Arc<watch::Sender<Duration>>,
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + *self.ahead.borrow()
    }

    /// Moves this clock forward. For tests: the time between is not seen by anybody.
    pub fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead += by);
    }

    /// Returns when `at` has come, by this clock. A sleep of weeks would miss that the machine slept too.
    pub async fn sleep_until(&self, at: SystemTime) {
        let mut moves = self.ahead.subscribe();
        while let Ok(left) = at.duration_since(self.now())
            && !left.is_zero()
        {
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                // The sender is in this clock.
                _ = moves.changed() => {}
            }
        }
    }
}

/// For the verification of peers' certificates.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_sees_the_clock_move() {
        let clock = Clock::default();
        let (start, before) = (tokio::time::Instant::now(), clock.now());
        let moved = clock.clone();
        let sleeper = clock.sleep_until(before + 90 * DAY);
        let mover = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                moved.advance(30 * DAY);
            }
        };
        tokio::join!(sleeper, mover);
        assert!(clock.now() >= before + 90 * DAY);
        assert_eq!(start.elapsed(), Duration::from_secs(3), "it did not wait for ninety days, nor for the next look");
        clock.sleep_until(before).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3), "what has been is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_is_looked_at_again_and_again() {
        // Tokio's clock is ahead of the system's here, as that of a machine whose wall clock was set back would be.
        let clock = Clock::default();
        let sleeper = clock.sleep_until(clock.now() + DAY);
        assert!(tokio::time::timeout(3 * DAY, sleeper).await.is_err(), "not before the wall clock says so");
    }
}
