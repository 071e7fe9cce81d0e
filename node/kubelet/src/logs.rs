//! Container logs in CRI's format: `<RFC 3339 time> <stream> <F|P> <text>`.

pub(crate) mod rotation;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use xebec_types::time::{self, Timestamp};

/// `kubectl logs` as the API gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<usize>,
    pub limit_bytes: Option<u64>,
    pub since: Option<Timestamp>,
}

impl LogOptions {
    /// From the query; the error is what a client reads.
    pub fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in query {
            let number = || value.parse::<u64>().map_err(|_| format!("invalid {key}: {value:?}"));
            let flag = || matches!(value.as_str(), "true" | "1" | "");
            match key.as_str() {
                "follow" => options.follow = flag(),
                "previous" => options.previous = flag(),
                "timestamps" => options.timestamps = flag(),
                "tailLines" => options.tail_lines = usize::try_from(number()?).ok(),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    options.since =
                        time::now().as_second().checked_sub(seconds).and_then(|s| Timestamp::from_second(s).ok());
                }
                "sinceTime" => {
                    options.since = Some(value.parse().map_err(|_| format!("invalid sinceTime: {value:?}"))?)
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// One line of a log file.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    stamp: &'a str,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (stamp, _stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Line {
        stamp: std::str::from_utf8(stamp).ok()?,
        partial: tag.starts_with(b"P"),
        text: parts.next().unwrap_or_default(),
    })
}

/// Turns lines of the file into what the client asked for.
struct Writer {
    options: LogOptions,
    sender: mpsc::Sender<Bytes>,
    left: Option<u64>,
    /// The last line had no end: its continuation gets no timestamp.
    in_line: bool,
}

impl Writer {
    /// False when nobody wants more.
    async fn write(&mut self, line: &[u8]) -> bool {
        let Some(line) = parse(line) else { return true };
        if let Some(since) = self.options.since
            && line.stamp.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return true;
        }
        let mut out = Vec::with_capacity(line.text.len() + 32);
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(line.stamp.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.in_line = line.partial;
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        self.sender.send(out.into()).await.is_ok() && self.left != Some(0)
    }
}

/// Where a followed container is: it answers whether there is more to come.
pub(crate) type Alive = Box<dyn Fn() -> futures::future::BoxFuture<'static, bool> + Send + Sync>;

const POLL: Duration = Duration::from_millis(50);
/// How many polls without news pass before the runtime is asked whether the container still runs.
const POLLS_PER_ASK: u32 = 8;

/// Sends the log to `sender`, to its end or, followed, to the container's end.
pub(crate) async fn stream(
    path: PathBuf,
    options: LogOptions,
    alive: Alive,
    sender: mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut file = File::open(&path).await?;
    let start = match options.tail_lines {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(std::io::SeekFrom::Start(start)).await?;
    let follow = options.follow;
    let mut writer = Writer { left: options.limit_bytes, options, sender, in_line: false };
    if writer.left == Some(0) {
        return Ok(());
    }
    let mut buffer: Vec<u8> = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let (mut ended, mut quiet) = (false, 0);
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            if !follow || ended {
                break;
            }
            if writer.sender.is_closed() {
                return Ok(());
            }
            if rotated(&path, &file).await {
                file = File::open(&path).await?;
                continue;
            }
            tokio::time::sleep(POLL).await;
            quiet += 1;
            // Once more after the end: its last lines may have come meanwhile.
            ended = quiet % POLLS_PER_ASK == 0 && !alive().await;
            continue;
        }
        quiet = 0;
        buffer.extend_from_slice(&chunk[..read]);
        let mut from = 0;
        while let Some(end) = buffer[from..].iter().position(|b| *b == b'\n') {
            if !writer.write(&buffer[from..from + end]).await {
                return Ok(());
            }
            from += end + 1;
        }
        buffer.drain(..from);
    }
    Ok(())
}

/// A new file has taken the name of the one that is open.
async fn rotated(path: &Path, open: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (open.metadata().await, tokio::fs::metadata(path).await) {
        (Ok(open), Ok(named)) => open.ino() != named.ino(),
        _ => false,
    }
}

/// The offset of the last `lines` lines, read backwards in blocks.
async fn tail_offset(file: &mut File, lines: usize) -> std::io::Result<u64> {
    const BLOCK: u64 = 32 << 10;
    let mut end = file.metadata().await?.len();
    let (mut found, mut first) = (0, true);
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.seek(std::io::SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        for (i, byte) in block.iter().enumerate().rev() {
            // The end of the last line does not begin another.
            let last = first && i + 1 == block.len();
            if *byte == b'\n' && !last {
                found += 1;
                if found == lines {
                    return Ok(start + i as u64 + 1);
                }
            }
        }
        first = false;
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
