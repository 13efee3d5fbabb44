//! Runs in: RUNTIME. Why this host may not let an ordinary user make user namespaces, and what to do about
//! it. Asked only after a failure.

/// What forbids new user namespaces, as a hint; `None` if nothing known does.
pub(crate) fn obstacle() -> Option<&'static str> {
    obstacle_of(|path| std::fs::read_to_string(path).ok())
}

fn obstacle_of(read: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let says = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    if says("/proc/sys/user/max_user_namespaces", "0") {
        return Some("user namespaces are disabled: sysctl -w user.max_user_namespaces=15000");
    }
    if says("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some(
            "user namespaces are disabled for ordinary users: sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return Some(
            "AppArmor takes the capabilities away in user namespaces of ordinary users: give this program a profile \
             with the rule \"userns,\", or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_is_told_with_its_remedy() {
        for (path, value, remedy) in [
            (
                "/proc/sys/user/max_user_namespaces",
                "0\n",
                "user.max_user_namespaces=",
            ),
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let found = obstacle_of(|asked| (asked == path).then(|| value.to_owned()));
            assert!(found.unwrap().contains(remedy), "{path}");
        }
        assert_eq!(obstacle_of(|_| None), None);
        assert_eq!(obstacle_of(|_| Some("63000".to_owned())), None);
    }
}
