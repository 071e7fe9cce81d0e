//! One field of a schedule.

/// The bounds of a field, and names that stand for numbers.
pub(super) struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

pub(super) const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds {
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// The values that match, as bits. Whether it was a star decides how days combine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    bits: u64,
    pub(super) star: bool,
}

/// Why a text is no field, in the words of `robfig/cron`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidField {
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    #[error("negative number ({number}) not allowed: {number}")]
    Negative { number: i64 },
    #[error("beginning of range ({start}) below minimum ({min}): {text}")]
    BelowMinimum { start: u32, min: u32, text: String },
    #[error("end of range ({end}) above maximum ({max}): {text}")]
    AboveMaximum { end: u32, max: u32, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: u32, end: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

impl Field {
    pub(super) fn has(self, value: u32) -> bool {
        self.bits & (1 << value) != 0
    }
}

impl Bounds {
    /// Ranges with commas between them.
    pub(super) fn field(&self, text: &str) -> Result<Field, InvalidField> {
        let mut field = Field { bits: 0, star: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let range = self.range(part)?;
            field.bits |= range.bits;
            field.star |= range.star;
        }
        Ok(field)
    }

    /// `number | number-number [/number]`, or a star, which `?` is too. A star with a step is none.
    fn range(&self, text: &str) -> Result<Field, InvalidField> {
        let (range, step) = match text.split('/').collect::<Vec<_>>()[..] {
            [range] => (range, None),
            [range, step] => (range, Some(step)),
            _ => return Err(InvalidField::Slashes(text.to_owned())),
        };
        let ends: Vec<&str> = range.split('-').collect();
        let star = ["*", "?"].contains(&ends[0]);
        let (start, end) = match ends[..] {
            _ if star => (self.min, self.max),
            [low] => {
                let low = self.number(low)?;
                // `N/step` is from N on.
                (low, if step.is_some() { self.max } else { low })
            }
            [low, high] => (self.number(low)?, self.number(high)?),
            _ => return Err(InvalidField::Hyphens(text.to_owned())),
        };
        let step = step.map_or(Ok(1), integer)?;
        let text = || text.to_owned();
        if start < self.min {
            return Err(InvalidField::BelowMinimum { start, min: self.min, text: text() });
        }
        if end > self.max {
            return Err(InvalidField::AboveMaximum { end, max: self.max, text: text() });
        }
        if start > end {
            return Err(InvalidField::Backwards { start, end, text: text() });
        }
        if step == 0 {
            return Err(InvalidField::Step(text()));
        }
        let bits = (start..=end).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
        Ok(Field { bits, star: star && step == 1 })
    }

    fn number(&self, text: &str) -> Result<u32, InvalidField> {
        let named = self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map_or_else(|| integer(text), |(_, value)| Ok(value))
    }
}

fn integer(text: &str) -> Result<u32, InvalidField> {
    let number: i64 = text.parse().map_err(|_| InvalidField::Number(text.to_owned()))?;
    if number < 0 {
        return Err(InvalidField::Negative { number });
    }
    // Beyond every bound, however large.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}
