//! The bundles that all engines run, from `/bin/busybox` and the config that `onggi spec` writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;

const BUSYBOX: &str = "/bin/busybox";
const PROFILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../spec-tests/fixtures/seccomp-default.json"
);

/// Everything the engines and the floor are given.
pub(crate) struct Bundles {
    pub(crate) rootfs: PathBuf,
    /// Runs `true`.
    pub(crate) plain: PathBuf,
    /// Runs `true` under the engines' default seccomp profile.
    pub(crate) seccomp: PathBuf,
    /// Stays, for `exec` and `state`.
    pub(crate) staying: PathBuf,
    /// The profile compiled by onggi, for the floor.
    pub(crate) filter: PathBuf,
}

impl Bundles {
    pub(crate) fn make(work: &Path, onggi: &Path) -> Outcome<Self> {
        let rootfs = make_rootfs(work)?;
        let profile: Value = serde_json::from_slice(&fs::read(PROFILE)?)?;
        let mut config = written_by_onggi(work, onggi)?;
        // crun 1.8 refuses what is newer than itself.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["true"]);
        config["root"]["path"] = json!(rootfs);
        let plain = write(work, "plain", &config)?;
        let mut staying = config.clone();
        staying["process"]["args"] = json!(["sleep", "3600"]);
        let staying = write(work, "staying", &staying)?;
        config["linux"]["seccomp"] = profile;
        let seccomp = write(work, "seccomp", &config)?;
        let filter = work.join("filter.bpf");
        fs::write(&filter, compiled_filter()?)?;
        Ok(Self {
            rootfs,
            plain,
            seccomp,
            staying,
            filter,
        })
    }
}

fn make_rootfs(work: &Path) -> Outcome<PathBuf> {
    let rootfs = work.join("rootfs");
    for directory in ["bin", "proc", "dev", "sys"] {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    fs::copy(BUSYBOX, rootfs.join("bin/busybox"))
        .map_err(|error| format!("{BUSYBOX} (a static busybox is needed): {error}"))?;
    for applet in ["true", "sleep"] {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    Ok(rootfs)
}

fn written_by_onggi(work: &Path, onggi: &Path) -> Outcome<Value> {
    let bundle = work.join("spec");
    fs::create_dir(&bundle)?;
    let status = Command::new(onggi)
        .arg("spec")
        .arg("--bundle")
        .arg(&bundle)
        .status()?;
    if !status.success() {
        return Err(format!("onggi spec: {status}").into());
    }
    Ok(serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?)
}

fn write(work: &Path, name: &str, config: &Value) -> Outcome<PathBuf> {
    let bundle = work.join(name);
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(config)?)?;
    Ok(bundle)
}

fn compiled_filter() -> Outcome<Vec<u8>> {
    let profile = serde_json::from_slice(&fs::read(PROFILE)?)?;
    let plan = runtime_core::unstable::plan::seccomp::compile(&profile)?.ok_or("the profile is empty")?;
    let bytes = plan.program.iter().flat_map(|instruction| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[instruction.jt, instruction.jf]);
        bytes[4..].copy_from_slice(&instruction.k.to_ne_bytes());
        bytes
    });
    Ok(bytes.collect())
}

/// How long onggi takes from the parsed profile to the BPF program, without the start of a process.
pub(crate) fn seccomp_compile_times(rounds: usize) -> Outcome<Vec<Duration>> {
    let profile = serde_json::from_slice(&fs::read(PROFILE)?)?;
    times(rounds, || {
        std::hint::black_box(runtime_core::unstable::plan::seccomp::compile(&profile)?);
        Ok(())
    })
}

/// How long onggi takes to read config.json of this bundle and to judge it, without the start of a process.
pub(crate) fn config_times(bundle: &Path, rounds: usize) -> Outcome<Vec<Duration>> {
    let document = fs::read(bundle.join("config.json"))?;
    times(rounds, || {
        let config = runtime_core::unstable::spec::parse(document.clone())?;
        Ok(runtime_core::unstable::spec::validate(&config)?)
    })
}

fn times(rounds: usize, mut work: impl FnMut() -> Outcome<()>) -> Outcome<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    Ok(times)
}
