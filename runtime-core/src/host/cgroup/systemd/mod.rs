//! Runs in: RUNTIME. The driver that has systemd make the cgroup: a transient scope, to which systemd moves
//! the container's process, so after `clone3` and before `Go`. Limits go to systemd and into the cgroup's
//! files; the device filter is ours alone ([ADR 15](../../../../../docs/adr/0015-systemd.md)).
//!
//! ```text
//! UnitPlan ──find──► UnitLocation ──prepare──► Unit ──adopt(pid)──► Unit with its cgroup
//! (pure)             (connected, path known)   (nothing made yet)   (StartTransientUnit, limits, filter)
//! ```
//!
//! A slice takes no processes from systemd, so it is started at once, and the process is born in it.

mod bus;
pub(crate) mod message;
mod service_manager;
mod unit;

pub(crate) use bus::Manager;
pub(crate) use unit::{Unit, UnitLocation, UnitReference};
