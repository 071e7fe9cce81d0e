//! Header blocks: counted names and values, compressed with one zlib stream for each direction that starts from a dictionary of the protocol.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Headers;

/// The dictionary's words that carry their length (draft-mbelshe-httpbis-spdy-00, section 2.6.10.1).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow \
authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 \
content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
keep-alive origin";

/// What follows them without lengths.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative \
Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// A block is a few short fields; more is an attack.
const BLOCK_BYTES_MAX: usize = 64 << 10;

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ').map(|word| word.replace('_', " ")) {
        bytes.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
}

fn failed(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY header block: {error}"))
}

pub(super) struct Compressor(Compress);

impl Compressor {
    pub fn new() -> io::Result<Self> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&dictionary()).map_err(|error| failed(&error))?;
        Ok(Self(zlib))
    }

    pub fn encode(&mut self, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let number = |n: usize| u32::try_from(n).unwrap_or_default().to_be_bytes();
        let mut plain = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(number(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        self.0.compress_vec(&plain, &mut block, FlushCompress::Sync).map_err(|error| failed(&error))?;
        Ok(block)
    }
}

pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(4096);
        let start = self.0.total_in();
        loop {
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(block.len());
            let before = plain.len();
            match self.0.decompress_vec(&block[consumed..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|error| failed(&error))?;
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            }
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(block.len());
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(failed(&"too large"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(4096);
            } else if consumed >= block.len() || plain.len() == before {
                return Ok(plain);
            }
        }
    }
}

pub(super) fn parse(plain: &[u8]) -> io::Result<Headers> {
    let head = plain.first_chunk::<4>().ok_or_else(|| failed(&"it ends early"))?;
    let count = u32::from_be_bytes(*head);
    let mut headers = Headers::new();
    let mut at = 4;
    for _ in 0..count {
        let name = text(plain, &mut at)?;
        let value = text(plain, &mut at)?;
        headers.insert(name.to_lowercase(), value);
    }
    Ok(headers)
}

fn text(plain: &[u8], at: &mut usize) -> io::Result<String> {
    let early = || failed(&"it ends early");
    let length =
        plain.get(*at..*at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes).ok_or_else(early)?;
    let end = usize::try_from(length).ok().and_then(|length| (*at + 4).checked_add(length)).ok_or_else(early)?;
    let bytes = plain.get(*at + 4..end).ok_or_else(early)?;
    *at = end;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let mut zlib = Compress::new(Compression::default(), true);
        // Its Adler-32, which every SPDY/3 header block begins with.
        assert_eq!(zlib.set_dictionary(&dictionary()).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_survive_the_wire_one_after_another() {
        let (mut compressor, mut decompressor) = (Compressor::new().unwrap(), Decompressor::new());
        for port in ["80", "8080"] {
            let block = compressor.encode(&[("streamtype", "data"), ("port", port)]).unwrap();
            let headers = decompressor.decode(&block).unwrap();
            assert_eq!((headers["streamtype"].as_str(), headers["port"].as_str()), ("data", port));
        }
        assert_eq!(decompressor.decode(&compressor.encode(&[]).unwrap()).unwrap(), Headers::new());
        assert!(Decompressor::new().decode(b"nonsense").is_err());
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        for plain in [&[][..], &[0, 0, 0, 1], &[0, 0, 0, 1, 255, 255, 255, 255], &[0, 0, 0, 1, 0, 0, 0, 1, b'a']] {
            assert!(parse(plain).is_err(), "{plain:?}");
        }
    }
}
