//! What a container uses: the parts of [`CgroupStats`].

pub use crate::host::cgroup::stats::{
    BlockIo, CgroupStats, Counter, Cpu, CpuSet, CpuUsage, Empty, HugePages, Memory, Pids, Pressure, Stall,
    Throttling, Transfer,
};
