//! Runs in: RUNTIME. What the process of `exec` is to be: the container's own, or that of a file, with the
//! caller's options on top. No I/O but reading that file.

use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, Process, User,
};
use rustix::thread::CpuSet;

use crate::error::{CallResult, ErrorResult};
use crate::ops::container;
use crate::ops::options::ExecOptions;
use crate::parent::attributes::allow_all_cpus;
use crate::parent::child::pid_of;
use crate::{Error, ErrorKind, Result, spec};

/// The process: from the file, or the container's own with the options on top.
pub(super) fn process_of(
    config: &spec::Config,
    options: &ExecOptions,
) -> Result<(Process, spec::ProcessExtra)> {
    let own = config.spec.process().clone();
    let mut own = own.ok_or_else(|| Error::invalid("process", "missing"))?;
    let (mut process, extra) = match &options.process {
        Some(document) => {
            let json = document.json(&options.cancel)?;
            process_of_file(config, &json).map_err(|error| document.blamed(error))?
        }
        None => {
            // What the container's own process does with its terminal is not for others.
            own.set_terminal(Some(false));
            own.set_console_size(None);
            own.set_args(None);
            (own, config.extra.process.clone())
        }
    };
    override_process(&mut process, options)?;
    Ok((process, extra))
}

/// What `--process` says, and for the rest what the container's own process has.
pub(crate) fn process_of_file(config: &spec::Config, json: &[u8]) -> Result<(Process, spec::ProcessExtra)> {
    let (mut process, mut extra) = spec::parse_process(json)?;
    let own = config.spec.process().clone();
    inherit(
        &mut process,
        own.ok_or_else(|| Error::invalid("process", "missing"))?,
    );
    extra.exec_cpu_affinity = extra
        .exec_cpu_affinity
        .or_else(|| config.extra.process.exec_cpu_affinity.clone());
    Ok((process, extra))
}

/// What confines the container's own process, where the file says nothing of it: what is not mentioned must
/// not be what is not confined. As runc has it: `rlimits` and `noNewPrivileges` are what the file says, or
/// none and false.
fn inherit(process: &mut Process, own: Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    let is_empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if is_empty(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if is_empty(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
}

fn override_process(process: &mut Process, options: &ExecOptions) -> Result<()> {
    let text = |word: &std::ffi::OsString, what: &'static str| {
        word.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid(what, "is not UTF-8"))
    };
    if !options.args.is_empty() {
        let args = options.args.iter().map(|word| text(word, "process.args"));
        process.set_args(Some(args.collect::<Result<_>>()?));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &options.env {
        env.push(text(entry, "process.env")?);
    }
    process.set_env(Some(env));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    if options.tty {
        process.set_terminal(Some(true));
    }
    // An empty name is none, as with runc.
    if let Some(user) = options.user.as_deref().filter(|user| !user.is_empty()) {
        set_user(process, user)?;
    }
    if !options.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&options.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if let Some(label) = &options.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &options.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(wanted) = options.no_new_privs {
        process.set_no_new_privileges(Some(wanted));
    }
    add_capabilities(process, &options.capabilities)
}

/// `UID[:GID]`, nothing else: a name taken for 0 would be root (CVE-2026-30892). Other groups are of the
/// other user.
fn set_user(process: &mut Process, text: &str) -> Result<()> {
    let wrong = || {
        Error::invalid(
            "process.user",
            format!("{text:?}: not UID or UID:GID, in numbers"),
        )
    };
    let number = |part: &str| {
        let is_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_digits
            .then(|| part.parse::<u32>().ok())
            .flatten()
            .ok_or_else(wrong)
    };
    let mut user: User = process.user().clone();
    match text.split_once(':') {
        Some((uid, gid)) => {
            user.set_uid(number(uid)?);
            user.set_gid(number(gid)?);
        }
        None => drop(user.set_uid(number(text)?)),
    }
    process.set_user(user);
    Ok(())
}

type Set = fn(&LinuxCapabilities) -> &Option<Capabilities>;

/// Never the inheritable set: a program without privileges could get them back by execve (CVE-2022-29162).
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let added: Capabilities = names.iter().filter_map(|name| capability(name)).collect();
    // Without capabilities there are none; the crate's default are three.
    let own = process.capabilities();
    let set = |set: Set| own.as_ref().and_then(|own| set(own).clone());
    let with = |of: Set| {
        set(of)
            .into_iter()
            .flatten()
            .chain(added.iter().copied())
            .collect::<Capabilities>()
    };
    let inheritable = set(LinuxCapabilities::inheritable);
    // What is inheritable: that alone the kernel takes.
    let mut ambient = set(LinuxCapabilities::ambient).unwrap_or_default();
    ambient.extend(added.iter().filter(|capability| {
        inheritable
            .as_ref()
            .is_some_and(|inheritable| inheritable.contains(*capability))
    }));
    let sets: LinuxCapabilities = LinuxCapabilitiesBuilder::default()
        .bounding(with(LinuxCapabilities::bounding))
        .effective(with(LinuxCapabilities::effective))
        .permitted(with(LinuxCapabilities::permitted))
        .inheritable(inheritable.unwrap_or_default())
        .ambient(ambient)
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    process.set_capabilities(Some(sets));
    Ok(())
}

/// One that is not known is left out, as in config.json (config.md, `capabilities`).
fn capability(name: &str) -> Option<Capability> {
    let known = match name.starts_with("CAP_") {
        true => serde_json::from_value(name.into()).ok(),
        false => None,
    };
    if known.is_none() {
        container::warn_of_capabilities(&[name.to_owned()]);
    }
    known
}

/// `process.execCPUAffinity`: the CPUs while the process is set up, and those that its program gets.
pub(super) struct Affinity {
    pub(super) initial: Option<CpuSet>,
    pub(super) last: Option<CpuSet>,
}

impl Affinity {
    pub(super) fn of(extra: &spec::ProcessExtra) -> Result<Self> {
        let Some(affinity) = &extra.exec_cpu_affinity else {
            return Ok(Self {
                initial: None,
                last: None,
            });
        };
        Ok(Self {
            initial: cpus(affinity.initial.as_deref(), "process.execCPUAffinity.initial")?,
            last: cpus(affinity.last.as_deref(), "process.execCPUAffinity.final")?,
        })
    }

    /// For the time of the set-up. Without a word of config.json about it the program gets the container's
    /// cpuset, and not what the caller is confined to.
    pub(super) fn begin(&self, pid: i32) -> Result<()> {
        match (&self.initial, &self.last) {
            (Some(cpus), _) => set(cpus, pid),
            (None, Some(_)) => Ok(()),
            (None, None) => {
                allow_all_cpus(pid);
                Ok(())
            }
        }
    }

    /// For the program. Where only the set-up is spoken of, it stays as it is (config.md, `execCPUAffinity`).
    pub(super) fn settle(&self, pid: i32) -> Result<()> {
        match &self.last {
            Some(cpus) => set(cpus, pid),
            None => Ok(()),
        }
    }
}

fn set(cpus: &CpuSet, pid: i32) -> Result<()> {
    rustix::thread::sched_setaffinity(Some(pid_of(pid)?), cpus)
        .call("sched_setaffinity")
        .field("process.execCPUAffinity")
}

fn cpus(list: Option<&str>, field: &'static str) -> Result<Option<CpuSet>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let wrong = || Error::invalid(field, format!("{list:?}: not a list of CPUs, as in 0-3,7"));
    let mut cpus = CpuSet::new();
    for cpu in spec::parse_ranges(list).ok_or_else(wrong)?.into_iter().flatten() {
        let cpu = usize::try_from(cpu)
            .ok()
            .filter(|cpu| *cpu < CpuSet::MAX_CPU)
            .ok_or_else(wrong)?;
        cpus.set(cpu);
    }
    Ok(Some(cpus))
}
