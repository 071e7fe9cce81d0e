//! Starts a machine, and reads its console until it is done.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::console::Report;
use crate::sh;

/// A kernel with KVM says something within a second or two. Where virtual machines are nested without the processor's
/// help (`kvm_pvm`), KVM interprets a kernel that was not made for that: it is slower than QEMU's emulation by far, and
/// ends at the first `cmpxchg16b`; or QEMU gives up on an MSR that the host shows and does not take.
const KVM_PATIENCE: Duration = Duration::from_secs(30);

const TCG_ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Accel {
    Auto,
    Kvm,
    /// Software emulation: ten to twenty times slower, and everywhere
    Tcg,
}

pub struct Machine {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// Gets what the machine's console says.
    pub log: PathBuf,
    pub timeout: Duration,
}

impl Machine {
    /// Runs the machine to its end.
    ///
    /// # Errors
    /// When QEMU does not start, or the machine does not say that it is done within the timeout.
    pub fn boot(&self, accel: Accel) -> Result<Report> {
        let kvm = match accel {
            Accel::Kvm => true,
            Accel::Tcg => false,
            Accel::Auto => Path::new("/dev/kvm").exists(),
        };
        if kvm {
            let report = self.attempt(true, if accel == Accel::Auto { KVM_PATIENCE } else { self.timeout })?;
            if report.booted || accel == Accel::Kvm {
                return self.complete(report);
            }
            println!("vm: nothing boots with KVM here: software emulation it is");
        }
        let mut report = self.attempt(false, self.timeout)?;
        // Emulation sometimes trips over the code that a booting kernel rewrites.
        for _ in 1..TCG_ATTEMPTS {
            if report.booted {
                break;
            }
            println!("vm: the kernel did not come up: once more");
            report = self.attempt(false, self.timeout)?;
        }
        self.complete(report)
    }

    fn complete(&self, report: Report) -> Result<Report> {
        if !report.done {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n");
            bail!("the machine did not finish; its console ({}) ends with\n{end}", self.log.display());
        }
        Ok(report)
    }

    /// Boots once. `patience` is how long the machine may take to say its first word.
    fn attempt(&self, kvm: bool, patience: Duration) -> Result<Report> {
        let mut child = Qemu(self.command(kvm).spawn().context("start qemu-system-x86_64")?);
        let mut log = File::create(&self.log).with_context(|| format!("create {}", self.log.display()))?;
        let lines = console(&mut child.0)?;
        let (start, mut report) = (Instant::now(), Report::default());
        loop {
            let limit = if report.booted { self.timeout } else { patience };
            let left = limit.saturating_sub(start.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    if let Some(news) = report.read(&line) {
                        println!("vm: {:5.0} s  {news}", start.elapsed().as_secs_f64());
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(report),
            }
        }
    }

    fn command(&self, kvm: bool) -> Command {
        let mut qemu = sh::command("qemu-system-x86_64");
        if kvm {
            qemu.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            // The machine's clock counts its instructions: however slow or busy the host, no timeout in the machine knows.
            qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-cpu", "max"]);
        }
        qemu.args(["-M", "q35", "-smp", "1", "-m", "4096", "-no-reboot", "-nodefaults", "-display", "none"])
            .args(["-serial", "stdio", "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        qemu
    }
}

/// Ends with its value.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has ended, or is to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn console(qemu: &mut Child) -> Result<mpsc::Receiver<String>> {
    let mut from = BufReader::new(qemu.stdout.take().context("the machine's console")?);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // Firmware writes bytes that are not UTF-8.
        while from.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    Ok(lines)
}
