//! Percentiles and medians of samples.

use std::time::Duration;

/// Sorts and picks: `percentile(&mut samples, 0.99)`.
pub fn percentile(samples: &mut [Duration], fraction: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * fraction).round() as usize).copied().unwrap_or_default()
}

pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle value; zero of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// 50 000 as 50k.
pub fn short(count: u32) -> String {
    if count >= 1_000 && count.is_multiple_of(1_000) { format!("{}k", count / 1_000) } else { count.to_string() }
}
