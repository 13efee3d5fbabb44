//! What the kernel can do, for tests whose outcome depends on it.

/// Whether how a process has ended is known to whoever has its pidfd after somebody else has reaped it
/// (`PIDFD_INFO_EXIT`): since Linux 6.15.
pub(crate) fn keeps_the_status() -> bool {
    let release = rustix::system::uname().release().to_str().unwrap().to_owned();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = [numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap()];
    version >= [6, 15]
}
