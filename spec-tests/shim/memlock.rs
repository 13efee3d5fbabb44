//! LD_PRELOAD shim for peers only: crun 1.8.1 insists on an unlimited RLIMIT_MEMLOCK before it loads a BPF
//! program, which needs CAP_SYS_RESOURCE and has been pointless since Linux 5.11 (BPF memory is charged to
//! the memory cgroup). On a host without that capability this makes exactly that one call succeed without
//! effect.
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

#[cfg(target_arch = "x86_64")]
const SYS_PRLIMIT64: i64 = 302;
#[cfg(not(target_arch = "x86_64"))]
const SYS_PRLIMIT64: i64 = 261;
const RLIMIT_MEMLOCK: u32 = 8;

/// Replaces libc's setrlimit.
///
/// # Safety
/// `limit` points to a `struct rlimit`, as for libc's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setrlimit(resource: u32, limit: *const [u64; 2]) -> i32 {
    // SAFETY: the caller's pointer is passed on unchanged; the kernel only reads it.
    let result = unsafe { syscall(SYS_PRLIMIT64, 0, resource, limit, 0) };
    if result == 0 {
        return 0;
    }
    // SAFETY: the kernel has just read the same memory, and the caller promises it is a struct rlimit.
    let wanted = unsafe { *limit };
    if resource == RLIMIT_MEMLOCK && wanted == [u64::MAX, u64::MAX] { 0 } else { -1 }
}
