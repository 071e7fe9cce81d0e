/// An immutable, sorted list of (key, value) strings in one allocation: labels or selectable fields of an object.
///
/// Layout: for each pair, in key order, the byte lengths of key and value as LEB128, then key, then value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pairs(Box<[u8]>);

impl Pairs {
    pub fn new<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut out = Vec::with_capacity(pairs.iter().map(|(k, v)| k.as_ref().len() + v.as_ref().len() + 4).sum());
        for (key, value) in &pairs {
            write_length(&mut out, key.as_ref().len());
            write_length(&mut out, value.as_ref().len());
            out.extend_from_slice(key.as_ref().as_bytes());
            out.extend_from_slice(value.as_ref().as_bytes());
        }
        Self(out.into_boxed_slice())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let key = read_length(&mut rest)?;
            let value = read_length(&mut rest)?;
            let (pair, tail) = rest.split_at_checked(key + value)?;
            rest = tail;
            let (key, value) = pair.split_at(key);
            Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for Pairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn read_length(rest: &mut &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted() {
        let long = "v".repeat(300);
        let pairs = Pairs::new([("b", "2"), ("a", ""), ("c", long.as_str())]);
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2"), ("c", long.as_str())]);
        assert_eq!(pairs.get("b"), Some("2"));
        assert_eq!(pairs.get("d"), None);
        assert!(Pairs::default().is_empty());
    }
}
