//! Runs in: SHIM. What a container uses, from the library's statistics into containerd's message.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
};
use containerd_shim_protos::protobuf::MessageField;
use runtime_core::stats::{CgroupStats, Pressure, Stall};

/// The name of the message, with its package.
pub(crate) const NAME: &str = "io.containerd.cgroups.v2.Metrics";

/// `oom_kills`: processes that the kernel has killed for want of memory.
pub(crate) fn of(stats: &CgroupStats, oom_kills: u64) -> Metrics {
    Metrics {
        pids: MessageField::some(PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..PidsStat::default()
        }),
        cpu: MessageField::some(cpu(stats)),
        memory: MessageField::some(memory(stats)),
        io: MessageField::some(IOStat {
            usage: io(stats),
            psi: stats.blkio.psi.map(pressure).into(),
            ..IOStat::default()
        }),
        hugetlb: huge_pages(stats),
        memory_events: MessageField::some(MemoryEvents {
            oom_kill: oom_kills,
            ..MemoryEvents::default()
        }),
        ..Metrics::default()
    }
}

/// From nanoseconds.
fn microseconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1000
}

fn cpu(stats: &CgroupStats) -> CPUStat {
    let (usage, throttling) = (stats.cpu.usage, stats.cpu.throttling);
    CPUStat {
        usage_usec: microseconds(usage.total),
        user_usec: microseconds(usage.user),
        system_usec: microseconds(usage.kernel),
        nr_periods: throttling.periods,
        nr_throttled: throttling.throttled_periods,
        throttled_usec: microseconds(throttling.throttled_time),
        psi: stats.cpu.psi.map(pressure).into(),
        ..CPUStat::default()
    }
}

fn memory(stats: &CgroupStats) -> MemoryStat {
    let raw = |key: &str| stats.memory.raw.get(key).copied().unwrap_or_default();
    let (usage, swap) = (stats.memory.usage, stats.memory.swap);
    MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: raw("workingset_refault_anon")
            + raw("workingset_refault_file")
            + raw("workingset_refault"),
        workingset_activate: raw("workingset_activate_anon")
            + raw("workingset_activate_file")
            + raw("workingset_activate"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: usage.usage,
        usage_limit: usage.limit,
        max_usage: usage.max,
        // The library adds memory to swap, as runc's `events` does.
        swap_usage: swap.usage.saturating_sub(usage.usage),
        swap_limit: match swap.limit {
            u64::MAX => u64::MAX,
            limit => limit.saturating_sub(usage.limit),
        },
        psi: stats.memory.psi.map(pressure).into(),
        ..MemoryStat::default()
    }
}

/// Reads and writes of a device in one entry.
fn io(stats: &CgroupStats) -> Vec<IOEntry> {
    let mut devices: BTreeMap<(u64, u64), IOEntry> = BTreeMap::new();
    let mut add = |major, minor, set: &dyn Fn(&mut IOEntry)| {
        let entry = devices.entry((major, minor)).or_insert_with(|| IOEntry {
            major,
            minor,
            ..IOEntry::default()
        });
        set(entry);
    };
    for bytes in &stats.blkio.bytes {
        add(bytes.major, bytes.minor, &|entry| match bytes.op {
            "Read" => entry.rbytes = bytes.value,
            "Write" => entry.wbytes = bytes.value,
            _ => {}
        });
    }
    for requests in &stats.blkio.requests {
        add(requests.major, requests.minor, &|entry| match requests.op {
            "Read" => entry.rios = requests.value,
            "Write" => entry.wios = requests.value,
            _ => {}
        });
    }
    devices.into_values().collect()
}

fn huge_pages(stats: &CgroupStats) -> Vec<HugeTlbStat> {
    let entries = stats.hugetlb.iter().map(|(size, pages)| HugeTlbStat {
        current: pages.usage,
        failcnt: pages.failcnt,
        pagesize: size.clone(),
        ..HugeTlbStat::default()
    });
    entries.collect()
}

fn pressure(pressure: Pressure) -> PSIStats {
    PSIStats {
        some: MessageField::some(stall(pressure.some)),
        full: MessageField::some(stall(pressure.full)),
        ..PSIStats::default()
    }
}

fn stall(stall: Stall) -> PSIData {
    PSIData {
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
        total: stall.total,
        ..PSIData::default()
    }
}
