//! Runs in: the targets of `fuzz/`, which reach the inside by this. No promise to anybody else.

use runtime_sys as sys;
use rustix::fd::BorrowedFd;

/// The home directory of a user in a file like /etc/passwd, from where it is read now.
pub fn home_in<'a>(
    passwd: BorrowedFd<'_>,
    uid: u32,
    line: &'a mut [u8; 1024],
) -> sys::Result<Option<&'a [u8]>> {
    crate::environment::home_in(passwd, uid, line)
}
