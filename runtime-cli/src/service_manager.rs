//! Runs in: RUNTIME. What a service manager has passed in the environment: where it wants to hear that the
//! container is ready (sd_notify(3)), and the sockets of socket activation (sd_listen_fds(3)).

use std::ffi::OsString;

/// The socket of the service manager that wants to hear when the container is ready.
pub(crate) fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

/// How many sockets have been passed to this process.
pub(crate) fn listen_fds() -> u32 {
    sockets(std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS"))
}

/// The names of that many sockets.
pub(crate) fn listen_names(count: u32) -> Option<String> {
    names(count, std::env::var_os("LISTEN_FDNAMES"))
}

fn sockets(pid: Option<OsString>, count: Option<OsString>) -> u32 {
    let own = std::process::id().to_string();
    if pid.is_none_or(|pid| pid != own.as_str()) {
        return 0;
    }
    count.and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0)
}

/// The names of `count` sockets. A list of another length is left out: sd_listen_fds_with_names(3) would
/// refuse it, where without one it gives the sockets.
fn names(count: u32, names: Option<OsString>) -> Option<String> {
    let names = names?.into_string().ok()?;
    let is_whole = count > 0 && names.split(':').count() == count as usize;
    is_whole.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_not_passed_on() {
        let own = OsString::from(std::process::id().to_string());
        assert_eq!(sockets(Some(own.clone()), Some("2".into())), 2);
        assert_eq!(sockets(Some("1".into()), Some("2".into())), 0);
        assert_eq!(sockets(None, Some("2".into())), 0);
        assert_eq!(sockets(Some(own), Some("x".into())), 0);
    }

    #[test]
    fn there_are_as_many_names_as_sockets_or_none() {
        let two = Some(OsString::from("http:admin"));
        assert_eq!(names(2, two.clone()).as_deref(), Some("http:admin"));
        assert_eq!(names(1, two.clone()), None);
        assert_eq!(names(0, two), None);
        assert_eq!(names(1, Some("".into())).as_deref(), Some(""));
        assert_eq!(names(2, None), None);
    }
}
