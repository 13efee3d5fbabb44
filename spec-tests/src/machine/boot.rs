//! Runs in: SUITE. Starts QEMU, reads what the machine sends, and ends it: a machine never outlives the
//! suite.

use super::{Kind, archive::Archive, image::Images, results::Outcomes};
use crate::children::{self, Exit};
use nix::sys::signal::Signal;
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The longest silence of a machine: the boot, or one test with all its time-outs.
pub(crate) const SILENCE: Duration = Duration::from_secs(240);
/// Where one test makes hundreds of faults, each of which has its own time-out.
pub(crate) const SILENCE_OF_ALL_FAULTS: Duration = Duration::from_secs(1800);
/// How much of the console a failure shows.
const CONSOLE_LINES: usize = 40;

/// Disks of every machine, by serial number, with their sizes. `work` has a file system, which becomes /tmp:
/// a tmpfs cannot be id-mapped before Linux 6.3.
const DISKS: [(&str, u64); 3] = [("scratch", 64 << 20), ("swap", 128 << 20), ("work", 1 << 30)];

/// A machine that is ready to boot.
#[derive(Debug)]
pub(crate) struct Machine {
    kind: Kind,
    qemu: Command,
    dir: PathBuf,
    silence: Duration,
}

/// The command line of QEMU, but for the console.
fn qemu(kind: Kind, images: &Images, dir: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        // With a thread for each processor the kernel's patching of itself races with QEMU's cache of
        // translations.
        "-accel",
        "tcg,thread=single",
        // cx16: QEMU 7.2 corrupts the flags in cmpxchg16b, and the kernel does without.
        "-cpu",
        "max,-cx16",
        "-smp",
        "2",
        "-m",
        if kind == Kind::Engines { "4096" } else { "2048" },
        "-nic",
        "none",
        "-no-reboot",
        "-nodefaults",
        "-display",
        "none",
    ]);
    command.arg("-kernel").arg(images.kernel.join("vmlinuz"));
    command.arg("-initrd").arg(dir.join("initrd"));
    // no_timer_check: the kernel gives the timer a moment to tick, and panics if a busy host has left the
    // machine no time in it.
    command.args([
        "-append",
        &format!(
            "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check systemd.show_status=false \
             machine={} {}",
            kind.name(),
            kind.kernel_options()
        ),
    ]);
    let mut disk = |id: &str, file: &Path, options: &str| {
        command.arg("-drive");
        command.arg(format!(
            "file={},format=raw,if=none,id={id}{options}",
            file.display()
        ));
        command.args(["-device", &format!("virtio-blk-pci,drive={id},serial={id}")]);
    };
    if let Some(root) = &images.root {
        disk("root", &root.join("root.ext4"), ",snapshot=on");
    }
    if let Some(validation) = &images.validation {
        disk("validation", &validation.join("programs.ext4"), ",snapshot=on");
    }
    for (name, _) in DISKS {
        disk(name, &dir.join(name), ",cache=unsafe");
    }
    command.args([
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=result,name=result",
    ]);
    command
        .arg("-chardev")
        .arg(format!("file,id=result,path={}", dir.join("result").display()));
    command
}

impl Machine {
    /// Writes into `dir` what the machine boots from.
    pub(crate) fn new(kind: Kind, images: &Images, dir: &Path, archive: Archive) -> io::Result<Self> {
        archive.write(&dir.join("initrd"))?;
        for (disk, size) in DISKS {
            File::create_new(dir.join(disk))?.set_len(size)?;
        }
        make_file_system(&dir.join("work"))?;
        File::create_new(dir.join("result"))?;
        Ok(Self {
            kind,
            qemu: qemu(kind, images, dir),
            dir: dir.to_owned(),
            silence: SILENCE,
        })
    }

    /// Nothing may be heard of it for so long.
    pub(crate) fn with_silence(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// From boot to end, results delivered as they come. To be called by the thread that lives as long.
    pub(crate) fn run(mut self, outcomes: &Outcomes) {
        let console = self.dir.join("console");
        let how = match self.start(&console) {
            Ok(pid) => self.watch(pid, outcomes),
            Err(error) => format!("qemu-system-x86_64: {error}"),
        };
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n  ");
        outcomes.end(self.kind.place(), format!("{how}; its console:\n  {tail}"));
    }

    fn start(&mut self, console: &Path) -> io::Result<i32> {
        self.qemu
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .stdout(File::create_new(self.dir.join("qemu"))?)
            .stderr(File::options().append(true).open(self.dir.join("qemu"))?);
        dies_with_us(&mut self.qemu);
        Ok(children::spawn(&mut self.qemu)?.id() as i32)
    }

    /// Reads results until QEMU ends; says how it ended.
    fn watch(&self, pid: i32, outcomes: &Outcomes) -> String {
        let mut lines = Lines::new(self.dir.join("result"));
        let mut heard = Instant::now();
        let mut status = None;
        loop {
            let exit = children::wait_for(pid, Duration::from_millis(20));
            // Read after the look at the process: what it wrote last is not lost.
            for line in lines.new_ones() {
                heard = Instant::now();
                status = outcomes.deliver(&line, self.kind.place()).or(status);
            }
            if let Some(exit) = exit {
                return self.ending(exit, status);
            }
            if heard.elapsed() > self.silence {
                children::signal(pid, Signal::SIGKILL);
                let _gone = children::wait_for(pid, Duration::from_secs(5));
                return format!("silent for {:?}, killed", self.silence);
            }
        }
    }

    fn ending(&self, exit: Exit, status: Option<i32>) -> String {
        let said = fs::read_to_string(self.dir.join("qemu")).unwrap_or_default();
        match status {
            Some(code) => format!("the suite in it ended with {code}"),
            None => format!("it ended before its tests did (QEMU: {exit:?} {})", said.trim()),
        }
    }

    /// A machine with the terminal as its console; waits for the end, returns the payload's exit status.
    pub(crate) fn interact(mut self) -> io::Result<Option<i32>> {
        // Keys go to the machine, Ctrl-C too; Ctrl-A X ends it.
        self.qemu
            .args([
                "-chardev",
                "stdio,id=console,signal=off,mux=on",
                "-serial",
                "chardev:console",
            ])
            .args(["-mon", "chardev=console,mode=readline"]);
        dies_with_us(&mut self.qemu);
        self.qemu.status()?;
        let text = fs::read_to_string(self.dir.join("result"))?;
        let mut codes = text.lines().filter_map(|l| l.strip_prefix("exit ")?.parse().ok());
        Ok(codes.next_back())
    }
}

fn make_file_system(disk: &Path) -> io::Result<()> {
    let output = Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-m",
            "0",
            "-E",
            "root_owner=0:0",
        ])
        .arg(disk)
        .env("PATH", crate::host::PATH)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "mke2fs {}: {}",
        disk.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// The kernel ends the child when the thread that starts it ends.
fn dies_with_us(command: &mut Command) {
    let parent = std::process::id();
    let set = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid().as_raw() as u32 != parent {
            return Err(io::Error::other("the suite has gone"));
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls and allocates only if one of them fails.
    unsafe { command.pre_exec(set) };
}

/// The complete lines of a file that grows.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Lines {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    fn new_ones(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        if let Err(error) = file.read_to_end(&mut self.rest) {
            eprintln!("spec-tests: {}: {error}", self.path.display());
        }
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use std::{fs, io::Write};

    #[test]
    fn half_a_line_waits_for_its_end() -> std::io::Result<()> {
        let path = std::env::temp_dir().join(format!("spec-tests-lines-{}", std::process::id()));
        let mut file = fs::File::create(&path)?;
        let mut lines = Lines::new(path.clone());
        file.write_all(b"one\ntw")?;
        assert_eq!(lines.new_ones(), ["one"]);
        assert!(lines.new_ones().is_empty());
        file.write_all(b"o\nthree\n")?;
        assert_eq!(lines.new_ones(), ["two", "three"]);
        fs::remove_file(path)
    }
}
