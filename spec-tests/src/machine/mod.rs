//! Runs in: SUITE. The virtual machines: which there are, what each has, and one run of tests in one of them.
//! QEMU emulates the processor (TCG), so that it works on every build host, also without /dev/kvm.

mod archive;
mod boot;
mod image;
mod results;
mod shell;

pub(crate) use self::{image::Images, results::Sender, shell::shell};

use self::{archive::Archive, results::Outcomes};
use crate::{
    need::{Need, SELINUX_STATUS},
    report::Record,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// One of the machines. The host part of the suite and the machines run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An initramfs with static programs: seconds to user space.
    Fast,
    /// A Debian root with systemd as process 1.
    Systemd,
    /// As the first, with a kernel that has been told to do without some controllers.
    Bare,
    /// As the first, with SELinux instead of AppArmor, and a policy of our own that is enforced.
    Selinux,
    /// As the second, of Debian's newest suite and with the engines. No test of the suite runs in it: see
    /// `engines/`.
    Engines,
}

/// The kernels of Debian's releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    V6_1,
    V6_12,
    Newest,
}

const CONTROLLERS: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

/// What the kernel of the bare machine is told to do without (`cgroup_disable=`).
const DISABLED: &[&str] = &["memory", "cpu", "pids"];

/// What the root of the systemd machine has in PATH, see `machine/root.sh`.
const PROGRAMS: &[&str] = &[
    "apparmor_parser",
    "busctl",
    "containerd",
    "criu",
    "crun",
    "ctr",
    "ip",
    "loginctl",
    "newgidmap",
    "newuidmap",
    "nsenter",
    "runc",
    "runuser",
    "setpriv",
    "systemctl",
    "systemd-run",
    "unshare",
];

impl Kind {
    /// Where tests run, in the order in which a place is looked for.
    pub(crate) const ALL: [Self; 4] = [Self::Fast, Self::Systemd, Self::Bare, Self::Selinux];

    /// As options and the kernel command line spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Systemd => "systemd",
            Self::Bare => "bare",
            Self::Selinux => "selinux",
            Self::Engines => "engines",
        }
    }

    /// As results spell it.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Fast => "fast machine",
            Self::Systemd => "systemd machine",
            Self::Bare => "bare machine",
            Self::Selinux => "SELinux machine",
            Self::Engines => "engines machine",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|k| k.name() == name).ok_or(format!(
            "no such machine: {name:?} (fast, systemd, bare, selinux)"
        ))
    }

    /// As [`Self::from_name`], of all that one can have a shell in.
    pub(crate) fn of_a_shell(name: &str) -> Result<Self, String> {
        match name {
            "engines" => Ok(Self::Engines),
            _ => Self::from_name(name)
                .map_err(|_| format!("no such machine: {name:?} (fast, systemd, bare, selinux, engines)")),
        }
    }

    /// Whether it has a Debian root, with systemd; otherwise all of it is in the initramfs.
    pub(crate) fn has_root(self) -> bool {
        matches!(self, Self::Systemd | Self::Engines)
    }

    /// What it adds to the kernel's command line.
    fn kernel_options(self) -> String {
        const APPARMOR: &str = "apparmor=1 security=apparmor";
        match self {
            Self::Bare => format!("{APPARMOR} cgroup_disable={}", DISABLED.join(",")),
            Self::Selinux => "selinux=1 security=selinux enforcing=1".to_owned(),
            Self::Fast | Self::Systemd | Self::Engines => APPARMOR.to_owned(),
        }
    }

    /// Whether the machine has what a test needs; the test itself looks again when it is there.
    pub(crate) fn offers(self, kernel: Kernel, need: Need) -> bool {
        let systemd = self.has_root();
        let is_disabled = |name: &str| self == Self::Bare && DISABLED.contains(&name);
        let has_controller = |name: &str| CONTROLLERS.contains(&name) && !is_disabled(name);
        match need {
            Need::Controller(name) => has_controller(name),
            Need::NoController(name) => !has_controller(name),
            Need::Systemd | Need::User => systemd,
            Need::Program(name) => systemd && PROGRAMS.contains(&name),
            Need::Criu(_) | Need::Path(_) => systemd,
            Need::Kernel(major, minor) => kernel.version() >= (major, minor),
            Need::NoPath("/run/systemd/system") => !systemd,
            Need::NoPath(SELINUX_STATUS) | Need::AppArmor => self != Self::Selinux,
            Need::SELinux => self == Self::Selinux,
            Need::NoPath(_)
            | Need::Alone
            | Need::CapSysResource
            | Need::ScratchDisk
            | Need::SecondCpu
            | Need::Swap
            | Need::ValidationPrograms => true,
        }
    }
}

impl Kernel {
    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "6.1" => Ok(Self::V6_1),
            "6.12" => Ok(Self::V6_12),
            "newest" => Ok(Self::Newest),
            _ => Err(format!("no such kernel: {name:?} (6.1, 6.12, newest)")),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The Debian release that it comes from.
    fn suite(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Newest => "sid",
        }
    }

    /// At least this; sid only grows.
    fn version(self) -> (u32, u32) {
        match self {
            Self::V6_1 => (6, 1),
            Self::V6_12 => (6, 12),
            Self::Newest => (7, 2),
        }
    }
}

/// What is to run in a machine.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) tests: Vec<&'static str>,
    pub(crate) runtime: PathBuf,
    /// A list of known failures of the user's: `--expected`.
    pub(crate) expected: Option<PathBuf>,
    /// Options of the suite that hold in the machine as well.
    pub(crate) options: Vec<String>,
    /// The tests take long, each.
    pub(crate) makes_all_faults: bool,
}

/// A machine that is ready to boot for an [`Order`].
#[derive(Debug)]
pub(crate) struct Ready(boot::Machine);

/// A machine at work on an [`Order`].
#[derive(Debug)]
pub(crate) struct Machine {
    kind: Kind,
    outcomes: Arc<Outcomes>,
}

impl Ready {
    /// Makes `dir` and in it all that the machine boots from.
    pub(crate) fn new(order: &Order, images: &Images, dir: &Path) -> io::Result<Self> {
        fs::create_dir(dir)?;
        let mut archive = base_archive(order.kind, images)?;
        let runtime = format!("payload/runtime/{}", archive::name_of(&order.runtime)?);
        archive.program(&order.runtime, &runtime)?;
        archive.data("payload/tests", 0o644, order.tests.join("\n").as_bytes())?;
        let mut command = format!(
            "cd /\nexec /payload/spec-tests --runtime /{runtime} --inside {} --tests /payload/tests --results \
             \"$RESULT\" --color never {}",
            order.kind.name(),
            order.options.join(" "),
        );
        match &order.expected {
            None => {}
            Some(file) if file == Path::new("none") => command += " --expected none",
            Some(file) => {
                archive.data("payload/expected", 0o644, &fs::read(file)?)?;
                command += " --expected /payload/expected";
            }
        }
        archive.data("payload/command", 0o644, format!("{command}\n").as_bytes())?;
        let images = images.for_kind(order.kind);
        let silence = match order.makes_all_faults {
            true => boot::SILENCE_OF_ALL_FAULTS,
            false => boot::SILENCE,
        };
        let machine = boot::Machine::new(order.kind, &images, dir, archive)?;
        Ok(Self(machine.with_silence(silence)))
    }

    /// Boots and returns at once.
    pub(crate) fn start(self) -> io::Result<Machine> {
        let kind = self.0.kind();
        let outcomes = Arc::new(Outcomes::default());
        let delivered = Arc::clone(&outcomes);
        thread::Builder::new()
            .name(kind.place().into())
            .spawn(move || self.0.run(&delivered))?;
        Ok(Machine { kind, outcomes })
    }
}

impl Machine {
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Waits for the test of this name.
    pub(crate) fn outcome(&self, name: &str) -> Record {
        self.outcomes.wait_for(name)
    }

    /// Waits for the end of the machine.
    pub(crate) fn wait(&self) {
        self.outcomes.wait_for_end();
    }
}

/// Everything but the payload's command: kernel modules, busybox, scripts, the suite itself.
fn base_archive(kind: Kind, images: &Images) -> io::Result<Archive> {
    let mut archive = Archive::default();
    archive.data("init", 0o755, image::INIT)?;
    archive.data("payload/start", 0o755, image::START)?;
    archive.data("payload/main", 0o755, image::MAIN)?;
    archive.file(Path::new("/bin/busybox"), "bin/busybox")?;
    archive.folder(&images.kernel.join("modules"), "modules")?;
    archive.program(&std::env::current_exe()?, "payload/spec-tests")?;
    let criu = images.kernel.join("criu.tar");
    if kind == Kind::Systemd && criu.exists() {
        archive.file(&criu, "payload/criu.tar")?;
    }
    if kind == Kind::Selinux {
        archive.data("payload/selinux.policy", 0o644, &image::selinux_policy()?)?;
    }
    if !kind.has_root() {
        // Tests start hooks with names of their own, which a busybox would take for an applet, and need a
        // program with a dynamic loader.
        archive.program(Path::new("/usr/bin/dash"), "payload/root/usr/bin/dash")?;
        archive.program(Path::new("/usr/bin/env"), "payload/root/usr/bin/env")?;
        archive.link("payload/root/usr/bin/sh", "dash")?;
    }
    Ok(archive)
}
