//! Signals to a runtime that stands in for its container's process: each gets through.

use crate::{case::Case, children, outcome::Check, runner::Live};
use nix::sys::signal::Signal;

tests! {
    run/forwards_each_signal => run,
    exec/forwards_each_signal => exec,
    run/forwards_the_change_of_a_window,
}

const SIGNALS: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
];

/// Says the name of each signal that comes; ends after the last of them.
fn script() -> String {
    let trap = |signal: &Signal| {
        let name = signal.as_str().trim_start_matches("SIG");
        let end = if *signal == Signal::SIGTERM {
            "; exit 9"
        } else {
            ""
        };
        format!("trap 'echo got {name}{end}' {name}; ")
    };
    let traps: String = SIGNALS.iter().map(trap).collect();
    traps + "echo ready; while true; do usleep 5000; done"
}

fn each_gets_through(c: &Case, live: Live) -> Check {
    let said = |words: &str| {
        let is_there = || Ok(live.output().lines().any(|line| line == words));
        c.wait_until(words, is_there)
    };
    said("ready")?;
    for signal in SIGNALS {
        children::signal(live.pid, signal);
        said(&format!("got {}", signal.as_str().trim_start_matches("SIG")))?;
    }
    live.finish()?.wants(9)?;
    Ok(())
}

fn run(c: &mut Case) -> Check {
    c.shell(&script());
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    each_gets_through(c, live)?;
    c.nothing_left()
}

fn exec(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let live = c.spawn(&["exec", &c.id, "/bin/sh", "-c", &script()])?;
    each_gets_through(c, live)
}

/// A program without a terminal of its own may well have the caller's.
fn forwards_the_change_of_a_window(c: &mut Case) -> Check {
    c.shell("trap 'echo got WINCH; exit 9' WINCH; echo ready; while true; do usleep 5000; done");
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    c.wait_until("ready", || Ok(live.output().contains("ready")))?;
    children::signal(live.pid, Signal::SIGWINCH);
    c.wait_until("got WINCH", || Ok(live.output().contains("got WINCH")))?;
    live.finish()?.wants(9)?;
    Ok(())
}
