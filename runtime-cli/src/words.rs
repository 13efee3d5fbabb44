//! Runs in: RUNTIME. What the plain words of a command mean: a container's id, a signal.

use std::ffi::{OsStr, OsString};
use std::str::FromStr;

use nix::sys::signal::Signal;
use runtime_core::{ContainerId, Error, ErrorKind, Result};

/// A container's id.
pub(crate) fn container_id(word: Option<&OsString>) -> Result<ContainerId> {
    let word = word.ok_or_else(|| Error::new(ErrorKind::Invalid, "container id cannot be empty"))?;
    // What is not UTF-8 gets a replacement character, which no id may hold.
    ContainerId::new(word.to_string_lossy())
}

/// A signal by number, or by name in any case, with or without SIG; real-time signals as RTMIN+n and RTMAX-n.
pub(crate) fn signal(word: &OsStr) -> Result<i32> {
    let word = word.to_string_lossy();
    let unknown = || Error::new(ErrorKind::Invalid, format!("unknown signal \"{word}\""));
    if let Ok(number) = word.parse::<i32>() {
        let known = (0..=RTMAX).contains(&number);
        return known.then_some(number).ok_or_else(unknown);
    }
    let name = word.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name {
        // Second names (signal(7)).
        "IOT" => Some(libc::SIGABRT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        _ => real_time_signal(name).or_else(|| {
            let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
            Some(signal as i32)
        }),
    };
    number.ok_or_else(unknown)
}

/// The first and the last real-time signal by name, as in glibc and Go. musl keeps one more for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

fn real_time_signal(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign| match rest.strip_prefix(sign) {
        None => rest.is_empty().then_some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        Some(_) => None,
    };
    let (first, last) = (RTMIN, RTMAX);
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => first.checked_add(offset(rest, '+')?)?,
        (_, Some(rest)) => last.checked_sub(offset(rest, '-')?)?,
        (None, None) => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_by_name() {
        for (word, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SigTerm", 15),
            ("0", 0),
            ("64", 64),
            ("iot", 6),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(signal(OsStr::new(word)).unwrap(), number, "{word}");
        }
        for word in [
            "",
            "FOO",
            "65",
            "-1",
            "SIGSIGKILL",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RT",
        ] {
            assert!(signal(OsStr::new(word)).is_err(), "{word}");
        }
    }
}
