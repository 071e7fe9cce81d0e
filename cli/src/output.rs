//! What commands print. A reader that goes away (`xebec status | head`) ends the command, quietly.

use std::fmt;
use std::io::{self, Write};

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody reads any more: the command is over, and nothing went wrong.
    #[error("standard output was closed")]
    Closed,
    #[error("write to standard output")]
    Write(#[source] io::Error),
}

/// Prints a line, as `println!` does where a reader is certain.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// # Errors
/// [`Error::Closed`] when the reader is gone: to be handed on to `main`.
pub fn line(text: fmt::Arguments<'_>) -> Result<(), Error> {
    write(&mut io::stdout().lock(), text)
}

fn write(to: &mut impl Write, text: fmt::Arguments<'_>) -> Result<(), Error> {
    writeln!(to, "{text}").map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Write(error),
    })
}

/// True if a command ended for no other reason than that nobody reads its output.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(kind: io::ErrorKind, quiet: bool) {
        let failed = write(&mut Broken(kind), format_args!("a line")).map_err(anyhow::Error::from);
        assert_eq!(is_closed(&failed.expect_err("nothing was written")), quiet, "{kind:?}");
    }

    #[test]
    fn only_a_reader_that_is_gone_ends_a_command_quietly() {
        check(io::ErrorKind::BrokenPipe, true);
        check(io::ErrorKind::StorageFull, false);
    }
}
