//! Durations as Go writes them: `1h30m`, `-1.5s`, `0`.

/// Nanoseconds in each unit that `time.ParseDuration` knows. Both micro signs are one.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Go drops digits of a fraction that do not fit its integers.
const FRACTION_DIGITS_MAX: usize = 18;

/// Why a text is no duration, as `time.ParseDuration` says it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidDuration {
    #[error("time: invalid duration {0:?}")]
    Format(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

/// The nanoseconds that `text` stands for. What does not fit 64 bits is refused, as in Go.
pub fn parse(text: &str) -> Result<i64, InvalidDuration> {
    let invalid = || InvalidDuration::Format(text.to_owned());
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(InvalidDuration::MissingUnit(text.to_owned()));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(InvalidDuration::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
        };
        nanos += amount(whole, fraction, *scale).filter(|n| nanos + n <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    i64::try_from(sign * nanos).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// None: more than 64 bits.
fn amount(whole: &str, fraction: &str, scale: i128) -> Option<i128> {
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok().map(i128::from) };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let parts = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(number(whole)? * scale + number(fraction)? * scale / parts)
}

#[cfg(test)]
mod tests;
