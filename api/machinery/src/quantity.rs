//! Resource quantities: `100m`, `1.5Gi`, `12e6`, with apimachinery's canonical form.
//!
//! A quantity is an exact count of nanos, so sums never lose anything; what is finer than a nano rounds up, as upstream. What exceeds 2^63-1 is capped if it
//! is written with a binary suffix, otherwise only what exceeds the range of the count, 5 x 10^28.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// Half of what fits, so that a sum of two does.
const MAX: i128 = 50_000_000_000_000_000_000_000_000_000 * NANO;

/// How a quantity likes to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// An exact amount. Comparison ignores the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub fn from_value(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    pub fn from_nanos(nanos: i64) -> Self {
        Self { nanos: i128::from(nanos), format: Format::DecimalSi }
    }

    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// The amount in whole units, rounded up (away from zero, as upstream's `Value`).
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded up.
    pub fn as_milli(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    fn scaled(self, unit: i128) -> i64 {
        let scaled = div_away(self.nanos, unit);
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }

    fn map(self, other: Self, f: impl FnOnce(i128, i128) -> i128) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: f(self.nanos, other.nanos).clamp(-MAX, MAX), format }
    }
}

/// Division that rounds away from zero.
fn div_away(n: i128, unit: i128) -> i128 {
    let (quotient, rest) = (n / unit, n % unit);
    quotient + rest.signum()
}

/// The suffix as a multiplier: (mantissa base, exponent, format).
fn suffix(text: &str) -> Result<(u32, i32, Format), ParseError> {
    let decimal = |exponent| Ok((10, exponent, Format::DecimalSi));
    let binary = |exponent| Ok((2, exponent, Format::BinarySi));
    match text {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = text.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            exponent.parse().map(|e| (10, e, Format::DecimalExponent)).map_err(|_| ParseError::Suffix)
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(ParseError::Format);
        }
        if !unit.bytes().all(|b| b.is_ascii_digit() || b"eEinumkKMGTP+-".contains(&b)) {
            return Err(ParseError::Format);
        }
        let (base, exponent, format) = suffix(unit)?;
        let mut nanos = nanos(whole, fraction, base, exponent);
        if format == Format::BinarySi {
            nanos = nanos.min(BINARY_MAX);
        }
        Ok(Self { nanos: if text.starts_with('-') { -nanos } else { nanos }, format })
    }
}

/// `whole.fraction * base^exponent` in nanos, rounded up and capped.
fn nanos(whole: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    // Digits past the 27th behind the point only say that something is left over.
    let kept = fraction.get(..27).unwrap_or(fraction);
    let rest = fraction[kept.len()..].bytes().any(|b| b != b'0');
    let mut digits: i128 = 0;
    for b in whole.bytes().chain(kept.bytes()) {
        match digits.checked_mul(10).and_then(|d| d.checked_add(i128::from(b - b'0'))) {
            Some(more) => digits = more,
            None => return MAX,
        }
    }
    if digits == 0 {
        return i128::from(rest);
    }
    let places = i32::try_from(kept.len()).unwrap_or(27);
    let (shift, twos) =
        if base == 10 { (exponent.saturating_add(9 - places), 0) } else { (9 - places, exponent.unsigned_abs()) };
    let Some(mut scaled) = 1i128.checked_shl(twos).and_then(|p| digits.checked_mul(p)) else {
        return MAX;
    };
    if shift >= 0 {
        match 10i128.checked_pow(shift.unsigned_abs()).and_then(|p| scaled.checked_mul(p)) {
            Some(exact) => scaled = exact,
            None => return MAX,
        }
    } else {
        // 10^38 is the largest power that fits: below that everything rounds up to one nano.
        scaled = 10i128.checked_pow(shift.unsigned_abs()).map_or(1, |p| div_away(scaled, p));
    }
    scaled.saturating_add(i128::from(rest && shift <= 0)).min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // Small or broken amounts are shown in decimal, so that nothing is lost.
        if self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0 {
            let mut number = self.nanos / NANO;
            let mut power = 0;
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let mut number = self.nanos;
        let mut power = 0;
        // The largest suffix is E; an exponent has no largest.
        let last = if self.format == Format::DecimalExponent { usize::MAX } else { 9 };
        while number % 1000 == 0 && power < last {
            number /= 1000;
            power += 1;
        }
        match (self.format, power) {
            (Format::DecimalExponent, 3) => write!(f, "{number}"),
            // A usize below ten: the difference fits.
            (Format::DecimalExponent, _) => write!(f, "{number}e{}", 3 * (i64::try_from(power).unwrap_or(0) - 3)),
            _ => write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.map(other, |a, b| a + b)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.map(other, |a, b| a - b)
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, q| sum + q)
    }
}

#[cfg(test)]
mod tests;
