//! Runs in: RUNTIME. The allocator of the program where the C library is musl, whose own asks the kernel for
//! nearly every growth.

use std::alloc::{GlobalAlloc, Layout};

use dlmalloc::GlobalDlmalloc;

/// dlmalloc, asked once more if there is no memory: one refused mmap(2) must not end a program that has a
/// container half made. (glibc's goes from brk(2) to mmap(2) then.)
pub(crate) struct Allocator;

// SAFETY: every method hands the caller's contract on to GlobalDlmalloc, and gives back what that has given.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, whose size is not 0.
        let first = unsafe { GlobalDlmalloc.alloc(layout) };
        if !first.is_null() {
            return first;
        }
        // SAFETY: as above.
        unsafe { GlobalDlmalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, whose size is not 0.
        let first = unsafe { GlobalDlmalloc.alloc_zeroed(layout) };
        if !first.is_null() {
            return first;
        }
        // SAFETY: as above.
        unsafe { GlobalDlmalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's block, which one of these methods gave with this layout; the new size is not
        // 0.
        let first = unsafe { GlobalDlmalloc.realloc(block, layout, new_size) };
        if !first.is_null() {
            return first;
        }
        // SAFETY: as above: a block that could not grow is as it was.
        unsafe { GlobalDlmalloc.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block, which one of these methods gave with this layout.
        unsafe { GlobalDlmalloc.dealloc(block, layout) }
    }
}
