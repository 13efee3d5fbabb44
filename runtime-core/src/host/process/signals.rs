//! Runs in: RUNTIME. Signals in words: those of Go's `syscall` package, which runc prints and people search
//! for.

use std::borrow::Cow;

/// What has ended a process, in runc's words: `signal: bad system call`.
pub(crate) fn ended_by(signal: i32) -> String {
    format!("signal: {}", name(signal))
}

/// A signal in words; its number where there are none.
pub(crate) fn name(signal: i32) -> Cow<'static, str> {
    let words = match signal {
        libc::SIGABRT => "aborted",
        libc::SIGALRM => "alarm clock",
        libc::SIGBUS => "bus error",
        libc::SIGCHLD => "child exited",
        libc::SIGCONT => "continued",
        libc::SIGFPE => "floating point exception",
        libc::SIGHUP => "hangup",
        libc::SIGILL => "illegal instruction",
        libc::SIGINT => "interrupt",
        libc::SIGIO => "I/O possible",
        libc::SIGKILL => "killed",
        libc::SIGPIPE => "broken pipe",
        libc::SIGPROF => "profiling timer expired",
        libc::SIGPWR => "power failure",
        libc::SIGQUIT => "quit",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGSTKFLT => "stack fault",
        libc::SIGSTOP => "stopped (signal)",
        libc::SIGSYS => "bad system call",
        libc::SIGTERM => "terminated",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGTSTP => "stopped",
        libc::SIGTTIN => "stopped (tty input)",
        libc::SIGTTOU => "stopped (tty output)",
        libc::SIGURG => "urgent I/O condition",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGVTALRM => "virtual timer expired",
        libc::SIGWINCH => "window changed",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        other => return Cow::Owned(format!("signal {other}")),
    };
    Cow::Borrowed(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_words_or_its_number() {
        for signal in 1..=31 {
            assert!(!name(signal).starts_with("signal "), "{signal}");
        }
        assert_eq!(ended_by(31), "signal: bad system call");
        assert_eq!(ended_by(40), "signal: signal 40");
    }
}
