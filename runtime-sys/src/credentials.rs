//! Ids and capabilities of the calling thread: the raw calls, since libc's would signal the host program's
//! threads.

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Call, Named, Result, checked};

/// `setresuid(uid, uid, uid)`.
pub fn setresuid(uid: u32) -> Result<()> {
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).named(Call::Setresuid)
}

/// `getuid`.
pub fn real_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// `setresuid(uid, -1, -1)`: the real user alone.
pub fn set_real_uid(uid: u32) -> Result<()> {
    // SAFETY: takes integers only, and is called in a process with a single thread.
    let raw = unsafe { libc::syscall(libc::SYS_setresuid, uid, u32::MAX, u32::MAX) };
    checked(Call::Setresuid, raw).map(drop)
}

/// `setresgid(gid, gid, gid)`.
pub fn setresgid(gid: u32) -> Result<()> {
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).named(Call::Setresgid)
}

/// `setgroups(2)`.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the number of 4-byte group ids belong to one live slice, which is only read.
    let raw = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    checked(Call::Setgroups, raw).map(drop)
}

/// Keeps the permitted set across the change of user from root.
pub fn set_keep_capabilities(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).named(Call::Prctl)
}

/// `capset(2)`, bit n for capability n.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets).named(Call::Capset)
}

/// Whether all of these capabilities are in the effective set.
pub fn has_effective(capabilities: u64) -> Result<bool> {
    let sets = rustix::thread::capabilities(None).named(Call::Capget)?;
    Ok(sets.effective.bits() & capabilities == capabilities)
}

/// Takes one capability, by number, out of the bounding set.
pub fn drop_from_bounding_set(capability: u32) -> Result<()> {
    // SAFETY: takes integers only.
    let raw = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    checked(Call::Prctl, raw).map(drop)
}

/// Puts one capability, by number, into the ambient set.
pub fn raise_ambient(capability: u32) -> Result<()> {
    let (option, raise) = (libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE);
    // SAFETY: takes integers only.
    let raw = unsafe { libc::syscall(libc::SYS_prctl, option, raise, capability, 0, 0) };
    checked(Call::Prctl, raw).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    rustix::thread::clear_ambient_capability_set().named(Call::Prctl)
}

/// Whether the kernel treats ids and capabilities as usual (capabilities(7), "The securebits flags").
pub fn has_usual_securebits() -> Result<bool> {
    let bits = rustix::thread::capabilities_secure_bits().named(Call::Prctl)?;
    Ok(bits.is_empty())
}

/// Has it do so; needs CAP_SETPCAP.
pub fn set_usual_securebits() -> Result<()> {
    rustix::thread::set_capabilities_secure_bits(rustix::thread::CapabilitiesSecureBits::empty())
        .named(Call::Prctl)
}

/// `PR_SET_NO_NEW_PRIVS`.
pub fn set_no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).named(Call::Prctl)
}

/// `umask(2)`.
pub fn umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_bits_retain(mask));
}
