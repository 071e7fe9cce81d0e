//! The wire format: fields of a number and a varint, eight bytes, or bytes.

use super::Error;

#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Four bytes: no Kubernetes type has any.
    Fixed32,
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::Malformed("wrong wireType for a length-delimited field")),
        }
    }

    pub(super) fn str(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Malformed("string field contains invalid UTF-8"))
    }

    pub(super) fn varint(self) -> Result<u64, Error> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Error::Malformed("wrong wireType for a varint field")),
        }
    }

    /// A signed integer, sign-extended to 64 bits on the wire.
    pub(super) fn int(self) -> Result<i64, Error> {
        self.varint().map(u64::cast_signed)
    }

    /// As Go does: the low 32 bits.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn int32(self) -> Result<i32, Error> {
        Ok(self.int()? as i32)
    }

    pub(super) fn double(self) -> Result<f64, Error> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Error::Malformed("wrong wireType for a double field")),
        }
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next field; none at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u16, Wire<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Error::Truncated)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed32)?,
            _ => return Err(Error::Malformed("illegal wireType")),
        };
        match key >> 3 {
            0 => Err(Error::Malformed("illegal tag 0")),
            // Numbers that no table has are skipped as unknown.
            tag => Ok(Some((u16::try_from(tag).unwrap_or(u16::MAX), value))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Error::Truncated } else { Error::Malformed("integer overflow") })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl From<Vec<u8>> for Writer {
    fn from(start: Vec<u8>) -> Self {
        Self(start)
    }
}

impl From<Writer> for Vec<u8> {
    fn from(writer: Writer) -> Self {
        writer.0
    }
}

impl Writer {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, tag: u16, wire: u64) {
        self.raw_varint(u64::from(tag) << 3 | wire);
    }

    pub(super) fn varint(&mut self, tag: u16, value: u64) {
        self.key(tag, 0);
        self.raw_varint(value);
    }

    pub(super) fn int(&mut self, tag: u16, value: i64) {
        self.varint(tag, value.cast_unsigned());
    }

    pub(super) fn double(&mut self, tag: u16, value: f64) {
        self.key(tag, 1);
        self.0.extend(value.to_bits().to_le_bytes());
    }

    pub(super) fn bytes(&mut self, tag: u16, value: &[u8]) {
        self.key(tag, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A nested message, written in place: the bytes behind are moved when the length needs more than one byte.
    pub(super) fn message<E>(&mut self, tag: u16, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.key(tag, 2);
        let start = self.0.len();
        self.0.push(0);
        write(self)?;
        let length = self.0.len() - start - 1;
        if let Ok(short @ 0..0x80) = u8::try_from(length) {
            self.0[start] = short;
        } else {
            let mut prefix = Self::default();
            prefix.raw_varint(length as u64);
            self.0.splice(start..=start, prefix.0);
        }
        Ok(())
    }
}
