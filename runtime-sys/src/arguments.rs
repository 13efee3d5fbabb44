//! Runs in: RUNTIME. The arguments of a program whose `main` the C library calls.

use core::ffi::{CStr, c_char, c_int};

/// The arguments from the program's name on.
#[derive(Debug, Clone, Copy)]
pub struct Arguments {
    next: *const *const c_char,
    left: usize,
}

impl Arguments {
    /// From what the C library has given to `main`.
    ///
    /// # Safety
    /// There are `count` addresses of C strings, and all stays unchanged as long as the program runs.
    pub unsafe fn new(count: c_int, first: *const *const c_char) -> Self {
        Self {
            next: first,
            left: usize::try_from(count).unwrap_or(0),
        }
    }
}

impl Iterator for Arguments {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: one was left, as `new` was promised.
        let argument = unsafe { *self.next };
        self.next = self.next.wrapping_add(1);
        // SAFETY: a C string that stays, as `new` was promised.
        Some(unsafe { CStr::from_ptr(argument) })
    }
}
