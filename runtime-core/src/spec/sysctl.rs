//! Runs in: RUNTIME. The names of kernel parameters in `linux.sysctl`: their two spellings, the namespace
//! they belong to, their path. Pure; what writes them is elsewhere.

use std::borrow::Cow;

use runtime_sys::namespace::Kinds;

/// The name with dots between its parts. A name may also come with slashes between them; then the first
/// separator in it is a slash, and a dot stands for itself: `net/ipv4/conf/eth0.1/rp_filter` is
/// `net.ipv4.conf.eth0/1.rp_filter` (sysctl.d(5)).
pub fn dotted(name: &str) -> Cow<'_, str> {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => Cow::Owned(swap_separators(name)),
        _ => Cow::Borrowed(name),
    }
}

/// The path below /proc/sys of a name in dotted form. `None` if the name has a part that is empty, `.` or
/// `..`, and so would lead somewhere else.
pub fn path(dotted: &str) -> Option<String> {
    let path = swap_separators(dotted);
    let sound = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    sound.then_some(path)
}

/// The namespace that a parameter (in dotted form) is private to; `None` if it acts on the whole host.
pub fn namespace(dotted: &str) -> Option<Kinds> {
    match dotted {
        "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni"
        | "kernel.sem"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced" => Some(Kinds::IPC),
        "kernel.domainname" | "kernel.hostname" => Some(Kinds::UTS),
        _ if dotted.starts_with("fs.mqueue.") => Some(Kinds::IPC),
        _ if dotted.starts_with("net.") => Some(Kinds::NETWORK),
        _ if dotted.starts_with("user.") => Some(Kinds::USER),
        _ => None,
    }
}

fn swap_separators(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_have_one_path() {
        for name in [
            "net/ipv4/conf/eth0.100/rp_filter",
            "net.ipv4.conf.eth0/100.rp_filter",
        ] {
            let dotted = dotted(name);
            assert_eq!(dotted, "net.ipv4.conf.eth0/100.rp_filter");
            assert_eq!(path(&dotted).as_deref(), Some("net/ipv4/conf/eth0.100/rp_filter"));
        }
    }

    #[test]
    fn a_name_cannot_climb() {
        // With dots as separators a slash is a dot: this is net/../vm/swappiness.
        assert_eq!(path("net.//.vm.swappiness"), None);
        assert_eq!(path(&dotted("net/../vm/swappiness")), None);
        assert_eq!(path("net..core"), None);
        assert_eq!(path(""), None);
        assert_eq!(path("net./.core"), None);
    }

    #[test]
    fn parameters_belong_to_namespaces() {
        assert_eq!(namespace("kernel.sem"), Some(Kinds::IPC));
        assert_eq!(namespace("fs.mqueue.msg_max"), Some(Kinds::IPC));
        assert_eq!(namespace("net.core.somaxconn"), Some(Kinds::NETWORK));
        assert_eq!(namespace("user.max_user_namespaces"), Some(Kinds::USER));
        assert_eq!(namespace("kernel.domainname"), Some(Kinds::UTS));
        assert_eq!(namespace("kernel.core_pattern"), None);
        assert_eq!(namespace("networking.x"), None);
    }
}
