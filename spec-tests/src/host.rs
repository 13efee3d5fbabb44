//! Runs in: SUITE. What the suite knows of the host and of the runtime under test, and the private mount
//! namespace with a pure cgroup2 tree that the whole run lives in.

use crate::faults::Extent;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const MEMLOCK_SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/memlock.so"));

/// The facts of this run; one per process, never changed.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) runtime: PathBuf,
    /// First word of the runtime's `--version`: runc, crun, onggi, ...
    pub(crate) runtime_name: String,
    /// Everything of this run lies below here.
    pub(crate) work: PathBuf,
    /// busybox and probe, to hard-link from.
    pub(crate) base: PathBuf,
    /// A copy of the runtime that every user can reach.
    pub(crate) for_users: PathBuf,
    /// Root of the cgroup2 tree as the suite sees it.
    pub(crate) cgroup2: PathBuf,
    /// How many random configurations are run, and the first of their seeds.
    pub(crate) cases: u32,
    pub(crate) seed: u64,
    pub(crate) faults: Extent,
    /// An empty cgroup that a container leaves is known of this runtime: see `expected.rs`.
    pub(crate) may_leave_cgroups: bool,
    preload: Option<PathBuf>,
    /// PATH of the runtime.
    pub(crate) path: String,
}

/// Where the runtime and the suite look for programs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Host {
    /// The unprivileged account that the machines have, see `need::Need::User`.
    pub(crate) const USER: &str = "spec-tests";

    /// The disk that tests may write to: the virtio disk with the serial number `scratch`, of 64 MiB.
    pub(crate) fn scratch_disk() -> Option<PathBuf> {
        let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let mut scratch = disks.filter(|d| file_says(&d.path().join("serial").to_string_lossy(), "scratch"));
        Some(Path::new("/dev").join(scratch.next()?.file_name()))
    }

    /// Whether this process is in a machine of the suite, where everything takes ten times as long.
    #[allow(clippy::unused_self, reason = "what a host is, is asked of the host")]
    pub(crate) fn is_emulated(&self) -> bool {
        Path::new("/payload/tests").exists()
    }

    /// Looks at the runtime and makes the work folder. `pure`: /sys/fs/cgroup is a pure cgroup2 tree.
    pub(crate) fn new(runtime: &Path, pure: bool) -> io::Result<Self> {
        let runtime = fs::canonicalize(runtime)
            .map_err(|e| io::Error::new(e.kind(), format!("--runtime {}: {e}", runtime.display())))?;
        let version = Command::new(&runtime).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let runtime_name = version.split_whitespace().next().unwrap_or("unknown").to_owned();
        let work = PathBuf::from(format!("/tmp/spec-tests-{}", std::process::id()));
        let base = work.join("base");
        fs::create_dir(&work)?;
        crate::bundle::prepare_base(&base)?;
        let for_users = crate::user::prepare(&base, &runtime)?;
        let cgroup2 = if pure {
            "/sys/fs/cgroup"
        } else {
            "/sys/fs/cgroup/unified"
        };
        let cgroup2 = if Path::new(cgroup2).exists() {
            cgroup2
        } else {
            "/sys/fs/cgroup"
        };
        Ok(Self {
            runtime,
            runtime_name,
            work,
            base,
            for_users,
            cgroup2: cgroup2.into(),
            cases: 0,
            seed: 0,
            faults: Extent::Sample,
            may_leave_cgroups: false,
            preload: None,
            path: PATH.to_owned(),
        })
    }

    /// Runs the runtime with the shim of shim/memlock.rs from now on.
    pub(crate) fn use_memlock_shim(&mut self) -> io::Result<()> {
        let path = self.base.join("memlock.so");
        fs::write(&path, MEMLOCK_SHIM)?;
        self.preload = Some(path);
        Ok(())
    }

    /// Gives criu an `iptables-restore` that does nothing: processes that are frozen send nothing either, and
    /// what comes from outside does not come into a network namespace of the tests.
    pub(crate) fn use_iptables_shim(&mut self) -> io::Result<()> {
        let dir = self.base.join("iptables");
        fs::create_dir(&dir)?;
        for name in ["iptables-restore", "ip6tables-restore"] {
            let path = dir.join(name);
            fs::write(&path, "#!/bin/sh\nwhile read -r line; do :; done\n")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        self.path = format!("{PATH}:{}", dir.display());
        Ok(())
    }

    /// The runtime in a small, known environment.
    pub(crate) fn runtime_command(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.env_clear().env("PATH", &self.path);
        if let Some(path) = &self.preload {
            command.env("LD_PRELOAD", path);
        }
        command
    }

    /// The same as words, for tests that start the runtime through a shell.
    pub(crate) fn runtime_words(&self) -> Vec<OsString> {
        let mut words = vec![
            OsString::from("/usr/bin/env"),
            "-i".into(),
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ];
        if let Some(path) = &self.preload {
            words.push(format!("LD_PRELOAD={}", path.display()).into());
        }
        words.push(self.runtime.clone().into());
        words
    }

    pub(crate) fn has_controller(&self, name: &str) -> bool {
        let controllers = fs::read_to_string(self.cgroup2.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|c| c == name)
    }
}

/// Whether this process has capability number `bit` in its effective set.
pub(crate) fn has_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .unwrap_or("0");
    u64::from_str_radix(line.trim(), 16).unwrap_or(0) & (1 << bit) != 0
}

/// CAP_SYS_RESOURCE: needed to raise a hard limit or lower oom_score_adj.
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;

/// Moves this (still single-threaded) process into a mount namespace of its own where /sys/fs/cgroup is
/// cgroup2. The host's own mounts stay as they are.
pub(crate) fn enter_pure_view() -> io::Result<()> {
    // The host name too, so that a runtime which sets it in the wrong place does no harm.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    take_own_null()?;
    let filesystem = nix::sys::statfs::statfs("/sys/fs/cgroup")?.filesystem_type();
    if filesystem == nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        return Ok(());
    }
    mount(
        Some("cgroup2"),
        "/sys/fs/cgroup",
        Some("cgroup2"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    Ok(())
}

/// crun 1.8 gives its standard input to the root of a container's user namespace, and that is /dev/null: the
/// host's would be another user's from then on, for all other tests too.
fn take_own_null() -> io::Result<()> {
    const NULL: &str = "/dev/null";
    let dir = std::env::temp_dir().join(format!("spec-tests-null-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let file = dir.join("null");
    let make = || -> io::Result<()> {
        mount(
            Some("tmpfs"),
            &dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )?;
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&file, SFlag::S_IFCHR, mode, makedev(1, 3))?;
        // The umask has taken something away.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        mount(Some(&file), NULL, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(umount2(&dir, MntFlags::MNT_DETACH)?)
    };
    let made = make();
    fs::remove_dir(&dir)?;
    made
}

/// Whether there is a program of this name where the runtime and the suite look.
pub(crate) fn in_path(program: &str) -> bool {
    PATH.split(':').any(|dir| Path::new(dir).join(program).exists())
}

/// Whether the trimmed text of `path` is `text`.
pub(crate) fn file_says(path: &str, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|t| t.trim() == text)
}
