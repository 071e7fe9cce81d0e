use memchr::memchr2;

/// Walks over JSON that is known to be well-formed: it finds members, it does not validate.
/// On malformed input every method returns `None` or a harmless answer; none panics.
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub struct Object {
    /// Just after the opening brace.
    pub start: usize,
    pub empty: bool,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// Steps into the object that starts here.
    pub fn open_object(&mut self) -> Option<Object> {
        self.skip_space();
        self.eat(b'{')?;
        let start = self.at;
        self.skip_space();
        Some(Object { start, empty: self.peek()? == b'}' })
    }

    /// Inside an object before a key: moves to the value of the member called `name` and returns where its key starts,
    /// or `Some(None)` past the end of the object.
    pub fn find_member(&mut self, name: &str) -> Option<Option<usize>> {
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(None);
        }
        loop {
            self.skip_space();
            let start = self.at;
            let found = self.string_is(name)?;
            self.skip_space();
            self.eat(b':')?;
            self.skip_space();
            if found {
                return Some(Some(start));
            }
            self.skip_value()?;
            self.skip_space();
            match self.next()? {
                b',' => {}
                b'}' => return Some(None),
                _ => return None,
            }
        }
    }

    pub fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(),
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')) {
                    self.at += 1;
                }
                Some(())
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.eat(b'"')?;
        loop {
            self.at += memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.next()? == b'"' {
                return Some(());
            }
            self.at += 1; // The escaped byte; the digits of \uXXXX are ordinary.
        }
    }

    /// Skips the string that starts here and tells whether it is `expected`.
    fn string_is(&mut self, expected: &str) -> Option<bool> {
        let start = self.at;
        self.skip_string()?;
        let raw = self.bytes.get(start + 1..self.at - 1)?;
        if !raw.contains(&b'\\') {
            return Some(raw == expected.as_bytes());
        }
        let decoded: String = serde_json::from_slice(self.bytes.get(start..self.at)?).ok()?;
        Some(decoded == expected)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }
}
