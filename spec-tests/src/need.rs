//! Runs in: SUITE. What a test needs of the place it runs in, and whether this place has it. Which machine
//! has what is in `machine`; a test without needs runs everywhere.

use crate::host::{self, Host};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// One thing that a test needs and that not every place has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "the vocabulary of tests; a word may have no test for a while"
)]
pub(crate) enum Need {
    /// This cgroup controller in the cgroup2 tree of the run.
    Controller(&'static str),
    /// A cgroup2 tree without this controller: what a runtime says to a limit that cannot be set.
    NoController(&'static str),
    /// CAP_SYS_RESOURCE: raising a hard limit, lowering oom_score_adj, quotas.
    CapSysResource,
    /// systemd is process 1 and its D-Bus socket answers.
    Systemd,
    /// The account [`Host::USER`] with subordinate ids, `newuidmap`, and (in the systemd machine) a user
    /// manager.
    User,
    /// AppArmor is enabled in the kernel.
    AppArmor,
    /// SELinux is enabled, and enforces a policy that has the labels of containers.
    SELinux,
    /// A disk that tests may write to, see [`Host::scratch_disk`].
    ScratchDisk,
    /// Swap is on.
    Swap,
    /// At least two processors are online.
    SecondCpu,
    /// No other test of the same place runs at the same time: for measurements.
    Alone,
    /// This program is in PATH (`criu`, an engine).
    Program(&'static str),
    /// A criu that works on this kernel, with this feature of `criu check --feature` (empty: none in
    /// particular).
    Criu(&'static str),
    /// This path is there: a device.
    Path(&'static str),
    /// This path is absent: hardware or a security module that would change the outcome.
    NoPath(&'static str),
    /// The kernel is at least this version.
    Kernel(u32, u32),
    /// The validation programs of the OCI's runtime-tools, which machines bring along:
    /// [`VALIDATION_PROGRAMS`].
    ValidationPrograms,
}

/// Where SELinux says whether it enforces its policy; absent without SELinux.
pub(crate) const SELINUX_STATUS: &str = "/sys/fs/selinux/enforce";

/// The folder of [`Need::ValidationPrograms`].
pub(crate) const VALIDATION_PROGRAMS: &str = "/payload/validation";

impl Need {
    /// Whether the place where this process runs has it.
    pub(crate) fn is_met(self, host: &Host) -> bool {
        match self {
            Self::Controller(name) => host.has_controller(name),
            Self::NoController(name) => !host.has_controller(name),
            Self::CapSysResource => host::has_capability(host::CAP_SYS_RESOURCE),
            Self::Systemd => {
                Path::new("/run/systemd/system").is_dir() && Path::new("/run/dbus/system_bus_socket").exists()
            }
            Self::User => {
                let starts = |file| {
                    let text = fs::read_to_string(file).unwrap_or_default();
                    text.lines().any(|l| l.split(':').next() == Some(Host::USER))
                };
                starts("/etc/passwd") && starts("/etc/subuid") && host::in_path("newuidmap")
            }
            Self::AppArmor => host::file_says("/sys/module/apparmor/parameters/enabled", "Y"),
            Self::SELinux => host::file_says(SELINUX_STATUS, "1"),
            Self::ScratchDisk => Host::scratch_disk().is_some(),
            Self::Swap => fs::read_to_string("/proc/swaps").is_ok_and(|t| t.lines().count() > 1),
            Self::SecondCpu => std::thread::available_parallelism().is_ok_and(|n| n.get() > 1),
            Self::Alone => true,
            Self::Program(name) => host::in_path(name),
            Self::Criu(feature) => criu_has(feature),
            Self::Path(path) => Path::new(path).exists(),
            Self::NoPath(path) => !Path::new(path).exists(),
            Self::Kernel(major, minor) => kernel_version() >= (major, minor),
            Self::ValidationPrograms => Path::new(VALIDATION_PROGRAMS).join("runtimetest").exists(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(name) => write!(f, "cgroup controller {name}"),
            Self::NoController(name) => write!(f, "absence of the controller {name}"),
            Self::CapSysResource => f.write_str("CAP_SYS_RESOURCE"),
            Self::Systemd => f.write_str("systemd"),
            Self::User => write!(f, "user {}", Host::USER),
            Self::AppArmor => f.write_str("AppArmor"),
            Self::SELinux => f.write_str("SELinux"),
            Self::ScratchDisk => f.write_str("scratch disk"),
            Self::Swap => f.write_str("swap"),
            Self::SecondCpu => f.write_str("second CPU"),
            Self::Alone => f.write_str("nothing else running"),
            Self::Program(name) => write!(f, "program {name}"),
            Self::Criu("") => f.write_str("a criu that works here"),
            Self::Criu(feature) => write!(f, "criu with {feature}"),
            Self::Path(path) => f.write_str(path),
            Self::NoPath(path) => write!(f, "absence of {path}"),
            Self::Kernel(major, minor) => write!(f, "Linux {major}.{minor}"),
            Self::ValidationPrograms => f.write_str("the validation programs of the OCI"),
        }
    }
}

/// `needs` in words, for a list or a reason.
pub(crate) fn words(needs: &[Need]) -> String {
    needs.iter().map(Need::to_string).collect::<Vec<_>>().join(", ")
}

/// Asked once for each feature: criu takes its time.
fn criu_has(feature: &'static str) -> bool {
    static ANSWERS: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    *answers.entry(feature).or_insert_with(|| {
        let mut command = Command::new("criu");
        command.arg("check").env("PATH", host::PATH);
        if !feature.is_empty() {
            command.args(["--feature", feature]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Asked before there is a thread that reaps; without such a program it is no.
        command.status().is_ok_and(|status| status.success())
    })
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version_of(&release)
}

fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Need, version_of, words};

    #[test]
    fn kernel_versions_are_numbers() {
        assert_eq!(version_of("6.12.48+deb13-cloud-amd64\n"), (6, 12));
        assert!(version_of("6.1.0-40") < version_of("6.12.1"));
        assert_eq!(version_of(""), (0, 0));
    }

    #[test]
    fn needs_read_as_words() {
        let needs = [Need::Controller("memory"), Need::Kernel(6, 12)];
        assert_eq!(words(&needs), "cgroup controller memory, Linux 6.12");
    }
}
