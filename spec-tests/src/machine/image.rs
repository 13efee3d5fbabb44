//! Runs in: SUITE. The kernels and the root that machines boot from: built by the scripts in `machine/`, kept
//! in the user's cache under a name that contains a hash of the recipe.

use super::{Kernel, Kind};
use nix::fcntl::{Flock, FlockArg};
use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

pub(crate) const INIT: &[u8] = include_bytes!("../../machine/init");
pub(crate) const START: &[u8] = include_bytes!("../../machine/start");
pub(crate) const MAIN: &[u8] = include_bytes!("../../machine/main");
const SELINUX_POLICY: &str = include_str!("../../machine/selinux.cil");
const PACKAGES_SCRIPT: &str = include_str!("../../machine/packages.sh");
const KERNEL_SCRIPT: &str = include_str!("../../machine/kernel.sh");
const ROOT_SCRIPT: &str = include_str!("../../machine/root.sh");
const VALIDATION_SCRIPT: &str = include_str!("../../machine/validation.sh");
const TAP: &str = include_str!("../../machine/tap.go");

/// What building and booting need, with the Debian package of each.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("ldd", "libc-bin"),
];

/// The same for the machine with SELinux alone.
const POLICY_COMPILER: (&str, &str) = ("secilc", "secilc");

/// An image of an older recipe that nobody has made for so long is removed.
const OLD: Duration = Duration::from_secs(14 * 24 * 3600);

/// Folders with what to boot from.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    /// `vmlinuz` and `modules`, and `criu.tar` if the root's criu is too old for it.
    pub(crate) kernel: PathBuf,
    /// `root.ext4`, for a machine with systemd.
    pub(crate) root: Option<PathBuf>,
    /// `programs.ext4`, where a test needs the validation programs of the OCI.
    pub(crate) validation: Option<PathBuf>,
}

impl Images {
    /// Takes from the cache what these machines boot from, or builds it, which takes minutes.
    pub(crate) fn ready(kernel: Kernel, kinds: &[Kind], with_validation: bool) -> io::Result<Self> {
        let policy = kinds.contains(&Kind::Selinux).then_some(&POLICY_COMPILER);
        let missing: Vec<&str> = TOOLS
            .iter()
            .chain(policy)
            .filter(|(tool, _)| !crate::host::in_path(tool))
            .map(|(_, package)| *package)
            .collect();
        if !missing.is_empty() {
            return Err(io::Error::other(format!(
                "the machines need Debian's {} (`--machine none` runs only what the host can)",
                missing.join(", ")
            )));
        }
        let cache = cache()?;
        let suite = kernel.suite();
        let name = format!("kernel-{}", kernel.name());
        let kernel = ready(&cache, &name, &[("kernel.sh", KERNEL_SCRIPT)], &[suite])?;
        let root = match kinds.iter().find(|kind| kind.has_root()) {
            Some(kind) => {
                let name = if *kind == Kind::Engines {
                    "root-engines"
                } else {
                    "root"
                };
                Some(ready(&cache, name, &[("root.sh", ROOT_SCRIPT)], &[kind.name()])?)
            }
            None => None,
        };
        let recipe = [("validation.sh", VALIDATION_SCRIPT), ("tap.go", TAP)];
        let validation = match with_validation {
            true => Some(ready(&cache, "validation", &recipe, &[])?),
            false => None,
        };
        Ok(Self {
            kernel,
            root,
            validation,
        })
    }

    /// Without the root where the machine has none.
    pub(crate) fn for_kind(&self, kind: Kind) -> Self {
        let mut images = self.clone();
        if !kind.has_root() {
            images.root = None;
        }
        images
    }
}

/// The policy of the machine with SELinux, in the form that the kernel loads. It takes no time, so that
/// nothing is kept.
pub(crate) fn selinux_policy() -> io::Result<Vec<u8>> {
    let dir = PathBuf::from(format!("/tmp/spec-tests-policy-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let result = compile_policy(&dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn compile_policy(dir: &Path) -> io::Result<Vec<u8>> {
    let (source, policy) = (dir.join("selinux.cil"), dir.join("policy"));
    fs::write(&source, SELINUX_POLICY)?;
    // 33 is the newest format that Linux 6.1 reads; the list of labels of files by path is nobody's here.
    let output = Command::new(POLICY_COMPILER.0)
        .args([
            "--mls",
            "true",
            "--policyvers",
            "33",
            "--filecontexts",
            "/dev/null",
            "--output",
        ])
        .arg(&policy)
        .arg(&source)
        .env("PATH", crate::host::PATH)
        .output()?;
    if output.status.success() {
        return fs::read(&policy);
    }
    Err(io::Error::other(format!(
        "the machine's SELinux policy: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// `SPEC_TESTS_CACHE`, or `spec-tests` in the user's cache folder.
fn cache() -> io::Result<PathBuf> {
    let folder = match (
        env::var_os("SPEC_TESTS_CACHE"),
        env::var_os("XDG_CACHE_HOME"),
        env::var_os("HOME"),
    ) {
        (Some(own), _, _) => PathBuf::from(own),
        (None, Some(cache), _) => Path::new(&cache).join("spec-tests"),
        (None, None, Some(home)) => Path::new(&home).join(".cache/spec-tests"),
        (None, None, None) => {
            return Err(io::Error::other(
                "no folder for the machines' images: none of SPEC_TESTS_CACHE, XDG_CACHE_HOME and HOME is set",
            ));
        }
    };
    fs::create_dir_all(&folder)
        .map_err(|e| io::Error::new(e.kind(), format!("cache {}: {e}", folder.display())))?;
    fs::canonicalize(folder)
}

/// A script, and the files that it wants beside it, with their names.
type Recipe<'a> = [(&'a str, &'a str)];

/// The folder of one artefact, built if need be. Two suites at once: the second waits for the first.
fn ready(cache: &Path, name: &str, recipe: &Recipe<'_>, arguments: &[&str]) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    PACKAGES_SCRIPT.hash(&mut hasher);
    for (_, text) in recipe {
        text.hash(&mut hasher);
    }
    arguments.hash(&mut hasher);
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    eprintln!(
        "spec-tests: building {} (once; it takes a while)",
        folder.display()
    );
    let half = cache.join(format!("{name}.half"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir(&half)?;
    let result = build(&half, recipe, arguments);
    if result.is_ok() {
        fs::rename(half.join("out"), &folder)?;
    }
    fs::remove_dir_all(&half)?;
    result?;
    remove_old(cache, name, &folder)?;
    Ok(folder)
}

fn build(half: &Path, recipe: &Recipe<'_>, arguments: &[&str]) -> io::Result<()> {
    for (name, text) in [("packages.sh", PACKAGES_SCRIPT)].iter().chain(recipe) {
        fs::write(half.join(name), text)?;
    }
    let script = recipe.first().map_or("", |(name, _)| name);
    let log = half.join("log");
    // A bootstrap mounts /proc in the new root; whatever happens to it, that stays in a mount namespace of
    // its own.
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "/bin/sh"])
        .arg(half.join(script))
        .arg(half.join("out"))
        .args(arguments)
        .env("PATH", crate::host::PATH)
        .env("LC_ALL", "C.UTF-8")
        .stdout(File::create_new(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n  ");
    Err(io::Error::other(format!(
        "building a machine's image failed: {script}: {status} (`--machine none` runs only what the host can)\n  {tail}"
    )))
}

/// Images of older recipes pile up otherwise. Others may be in use by a suite of another state of the source.
fn remove_old(cache: &Path, name: &str, newest: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let ours = file_name
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?);
        // A clock that went back makes an age of nothing: keep it.
        if ours && entry.path() != newest && age.is_ok_and(|age| age > OLD) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
