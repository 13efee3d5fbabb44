//! Runs in: RUNTIME. Random numbers of the kernel's, for what nobody may guess.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{Error, Result};

/// Random bytes.
///
/// # Errors
/// That of getrandom(2).
pub(crate) fn bytes<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("getrandom", errno)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::bytes::<16>().unwrap(), super::bytes::<16>().unwrap());
    }
}
