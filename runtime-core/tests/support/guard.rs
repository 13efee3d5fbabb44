//! An allocator that only the process which armed it may use. Another one, a child after `clone3` or `fork`,
//! is ended at its first call, with a line on standard error and a mark in memory that it shares with its
//! parent.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// Exit status of a process that was ended.
pub(crate) const CAUGHT: i32 = 86;
/// What it prints.
pub(crate) const MARK: &str = "GUARD: the heap was used in a child process\n";

/// The process that may allocate; 0: all may.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Counts the processes that were ended, across processes.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

pub(crate) struct Guard;

// SAFETY: each method passes its arguments on to the system's allocator unchanged, or does not return.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The kernel's answer each time: a copy of an earlier one would be copied to the child too.
fn check() {
    let owner = OWNER.load(Ordering::Relaxed);
    // SAFETY: getpid(2) takes nothing and cannot fail.
    if owner == 0 || unsafe { libc::syscall(libc::SYS_getpid) } == libc::c_long::from(owner) {
        return;
    }
    let count = COUNT.load(Ordering::Relaxed);
    // SAFETY: null, or the shared page of `shared_count`, which is never unmapped.
    if let Some(count) = unsafe { count.as_ref() } {
        count.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: the buffer is the constant's, of that length.
    unsafe { libc::syscall(libc::SYS_write, 2, MARK.as_ptr(), MARK.len()) };
    // SAFETY: ends the process; nothing of it is needed.
    unsafe { libc::_exit(CAUGHT) }
}

/// Arms the guard for this process. Any thread may, any number of times.
pub(crate) fn arm() {
    if COUNT.load(Ordering::SeqCst).is_null() {
        count_in(shared_count());
    }
    OWNER.store(rustix::process::getpid().as_raw_pid(), Ordering::SeqCst);
}

/// A counter that this process and the children it will have see alike.
pub(crate) fn shared_count() -> &'static AtomicU32 {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED, "mmap");
    // SAFETY: a whole page of zeroes, aligned, never unmapped, and only used as an atomic.
    unsafe { &*page.cast::<AtomicU32>() }
}

/// From here on this process counts there: for a child that is meant to be caught.
pub(crate) fn count_in(count: &'static AtomicU32) {
    COUNT.store(std::ptr::from_ref(count).cast_mut(), Ordering::SeqCst);
}

/// How many processes were ended so far.
pub(crate) fn caught() -> u32 {
    let count = COUNT.load(Ordering::SeqCst);
    // SAFETY: null, or the shared page of `shared_count`, which is never unmapped.
    unsafe { count.as_ref() }.map_or(0, |count| count.load(Ordering::SeqCst))
}
