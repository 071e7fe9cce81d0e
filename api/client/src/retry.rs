//! Exponential back-off.

use std::time::Duration;

/// Doubles from `first` to `cap`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// For a connection to the API server. It is usually back within a second of a restart, so the
    /// cap is far under client-go's 30 s.
    #[must_use]
    pub fn reconnect() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(3))
    }

    /// The wait after one more failure. Up to a fifth is added so that clients spread out.
    pub fn next_delay(&mut self) -> Duration {
        let delay = exponential(self.first, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 + rand::random::<f64>() / 5.0)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `first * 2^failures`, at most `cap`.
#[must_use]
pub fn exponential(first: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    first.checked_mul(factor).map_or(cap, |delay| delay.min(cap))
}
