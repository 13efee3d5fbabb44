//! Runs in: SUITE. Makes bundles: a rootfs from the host's static busybox plus the probe, and the default
//! config.json that tests edit.

use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));
const ATTACKER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attacker"));

const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "true", "false", "echo", "id", "sleep", "env", "pwd", "mount", "umount", "mkdir",
    "touch", "rm", "ln", "readlink", "stat", "stty", "test", "hostname", "head", "wc", "grep", "date",
    "mknod", "kill", "ps", "dd", "tty", "sync", "chmod", "printf", "tr", "usleep", "seq", "find", "cp", "mv",
    "trap", "setsid",
];

/// Puts busybox, the probe and the attacker into `base`, once per run; each rootfs hard-links them.
pub(crate) fn prepare_base(base: &Path) -> io::Result<()> {
    fs::create_dir_all(base)?;
    fs::copy("/bin/busybox", base.join("busybox"))
        .map_err(|e| io::Error::new(e.kind(), format!("/bin/busybox (Debian: busybox-static): {e}")))?;
    for (name, program) in [("probe", PROBE), ("attacker", ATTACKER)] {
        let mut file = fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o755)
            .open(base.join(name))?;
        file.write_all(program)?;
    }
    fs::set_permissions(base.join("busybox"), fs::Permissions::from_mode(0o755))
}

/// Makes a small root file system at `rootfs`.
pub(crate) fn make_rootfs(base: &Path, rootfs: &Path) -> io::Result<()> {
    for dir in [
        "bin", "etc", "proc", "sys", "dev", "tmp", "root", "home", "var", "mnt",
    ] {
        fs::create_dir_all(rootfs.join(dir))?;
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let bin = rootfs.join("bin");
    for program in ["busybox", "probe", "attacker"] {
        fs::hard_link(base.join(program), bin.join(program))?;
    }
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:alice:/home/alice:/bin/sh\n",
    )?;
    fs::write(
        rootfs.join("etc/group"),
        "root:x:0:\nalice:x:1000:\nextra:x:2000:alice\n",
    )?;
    fs::write(rootfs.join("etc/hostname"), "rootfs\n")
}

/// The capabilities of the default config, which are those of `runc spec`.
pub(crate) const DEFAULT_CAPS: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// A config.json like the one of `runc spec`, without a terminal and with a writable root.
pub(crate) fn default_config(cgroups_path: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": DEFAULT_CAPS, "effective": DEFAULT_CAPS, "permitted": DEFAULT_CAPS
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "spec-test",
        "mounts": default_mounts(),
        "linux": {
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn default_mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]}
    ])
}
