//! Runs in: RUNTIME. `update`: changes the limits of a container.

use clap::Arg;
use runtime_core::Result;

use super::{Definition, Invocation, command};
use crate::flags::{path, value};

pub(crate) const COMMAND: Definition =
    command("update", "change the resource limits of a container", flags, run);

fn flags() -> Vec<Arg> {
    let limit = |name, help| value(name).value_name("number").help(help);
    let text = |name, help| value(name).help(help);
    let ignored = |name| {
        value(name)
            .hide(true)
            .help("accepted for old callers, without effect")
    };
    vec![
        path("resources")
            .short('r')
            .help("file with new linux.resources as JSON, or - for standard input; other limits are then not looked at"),
        limit("blkio-weight", "weight of disk access, 10 to 1000"),
        limit("cpu-period", "period of the CPU quota, in microseconds"),
        limit("cpu-quota", "CPU time in each period, in microseconds; -1 for no limit"),
        limit("cpu-burst", "CPU time that may be saved up, in microseconds"),
        limit("cpu-share", "relative weight of CPU time (1024 is usual)"),
        limit("cpu-rt-period", "period of real-time scheduling, in microseconds (cgroup v1 only)"),
        limit("cpu-rt-runtime", "real-time CPU time in each period, in microseconds (cgroup v1 only)"),
        limit("cpu-idle", "1: run only when nobody else wants to"),
        text("cpuset-cpus", "CPUs to run on, as in 0-3,7"),
        text("cpuset-mems", "memory nodes to use, as in 0-3,7"),
        ignored("kernel-memory"),
        ignored("kernel-memory-tcp"),
        text("memory", "memory limit in bytes, or with k, m, g; -1 for no limit"),
        text("memory-reservation", "memory that is not taken away, in bytes, or with k, m, g"),
        text("memory-swap", "memory and swap together, in bytes, or with k, m, g; -1 for no limit"),
        limit("pids-limit", "most processes at a time; -1 for no limit"),
        text("l3-cache-schema", "Intel RDT: L3 cache schema"),
        text("mem-bw-schema", "Intel RDT: memory bandwidth schema"),
    ]
}

fn run(call: &Invocation) -> Result<u8> {
    Err(call.not_in_this_version("update"))
}
