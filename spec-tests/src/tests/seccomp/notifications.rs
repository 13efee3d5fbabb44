//! config-linux.md seccomp: notifications. The suite plays the agent.

use crate::{
    case::Case,
    outcome::{Check, Stop, contains, ensure, fail, same},
    pty::FdSocket,
    schema::Schemas,
    tests::{
        namespaces::{Holder, UNSHARE},
        seccomp::{GETPRIORITY, calls, filter, getpgid, refused},
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

tests! {
    seccomp/notify_in_a_joined_pid_namespace: UNSHARE,
}

tests! {
    seccomp/notify_agent_gets_state_and_answers,
    seccomp/notify_wait_killable,
    seccomp/notify_connection_is_closed,
    seccomp/listener_without_notify_is_ignored,
    seccomp/notify_exec,
    seccomp/notify_exec_without_no_new_privileges,
    seccomp/notify_exec_of_calls_of_the_runtime,
    seccomp/notify_without_listener_path_is_refused,
    seccomp/notify_without_agent_is_refused,
    seccomp/notify_to_what_is_no_listener_is_refused,
}

/// Answers one notification on `fd` with this value; returns the number of the call.
fn answer(fd: &OwnedFd, value: i64) -> Check<i32> {
    let notification = take(fd)?;
    send(fd, &notification, value)?;
    Ok(notification.call)
}

/// One call that waits for an answer.
struct Notification {
    cookie: u64,
    /// As the suite sees it.
    thread: i32,
    call: i32,
}

/// Takes one notification, without an answer yet.
fn take(fd: &OwnedFd) -> Check<Notification> {
    const RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    let mut notification = [0_u64; 10];
    // SAFETY: struct seccomp_notif is 80 bytes, zeroed as the kernel demands.
    if unsafe { libc::ioctl(fd.as_raw_fd(), RECV, notification.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(Notification {
        cookie: notification[0],
        thread: (notification[1] & 0xffff_ffff) as i32,
        call: (notification[2] & 0xffff_ffff) as i32,
    })
}

/// The call returns `value`. ENOENT: nobody waits for it any more.
fn send(fd: &OwnedFd, notification: &Notification, value: i64) -> Check {
    respond(fd, [notification.cookie, value as u64, 0])
}

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE, after an error of 0.
const CONTINUE: u64 = 1 << 32;

fn respond(fd: &OwnedFd, mut response: [u64; 3]) -> Check {
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    // SAFETY: struct seccomp_notif_resp is 24 bytes: id, value, error and flags.
    if unsafe { libc::ioctl(fd.as_raw_fd(), SEND, response.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

fn wait_for_notification(fd: &OwnedFd) -> Check {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(fd), PollFlags::POLLIN)];
    if poll(&mut fds, 10_000_u16)? == 0 {
        return fail("no notification for 10 s");
    }
    Ok(())
}

fn notify_filter(c: &mut Case) -> Check<FdSocket> {
    let socket = FdSocket::new(c.dir.join("agent.sock"))?;
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.linux().seccomp().listener_path(socket.path_text());
    c.linux().seccomp().listener_metadata("some metadata");
    Ok(socket)
}

/// What is in every message; returns pid, and pid of the state.
fn check_message(c: &Case, payload: &[u8], status: &str) -> Check<(i64, i64)> {
    let text = String::from_utf8_lossy(payload).into_owned();
    let message: Value = serde_json::from_str(text.trim_end_matches('\0'))
        .map_err(|e| Stop::Fail(format!("ContainerProcessState: not JSON ({e}): {text:?}")))?;
    same("fds", json!(["seccompFd"]), message["fds"].clone())?;
    same("metadata", json!("some metadata"), message["metadata"].clone())?;
    let version = message["ociVersion"].as_str().unwrap_or_default();
    contains("ociVersion", version, "1.")?;
    let state = &message["state"];
    let faults = Schemas::load().or_else(fail)?.check("state-schema.json", state);
    same("faults of state by its schema", Vec::<String>::new(), faults)?;
    let bundle = c.bundle.to_string_lossy();
    for (key, wish) in [("id", c.id.as_str()), ("status", status), ("bundle", &bundle)] {
        same(key, wish, state[key].as_str().unwrap_or_default())?;
    }
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    Ok((number(&message["pid"]), number(&state["pid"])))
}

/// The pid in the innermost namespace of process `pid`.
fn inner_pid(pid: i64) -> Check<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("NSpid:"));
    let last = line.and_then(|line| line.split_whitespace().last());
    Ok(last.and_then(|word| word.parse().ok()).unwrap_or(0))
}

fn notify_agent_gets_state_and_answers(c: &mut Case) -> Check {
    let socket = notify_filter(c)?;
    let call = format!("{GETPRIORITY}:0:0");
    c.args(&["/bin/probe", "--syscall", &call]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let received = socket.receive()?;
    let (pid, of_state) = check_message(c, &received.payload, "creating")?;
    same("pid inside of the process of the message", 1, inner_pid(pid)?)?;
    same("pid of the state", pid, of_state)?;
    let fd = match received.fds.as_slice() {
        [fd] => fd,
        other => return fail(format!("wish one descriptor, reality {other:?}")),
    };
    wait_for_notification(fd)?;
    same("number of the call", GETPRIORITY, i64::from(answer(fd, 4242)?))?;
    let report = live.finish()?.ok()?.seen()?;
    same("result of the call", Some(4242), report.syscall[&call])
}

fn notify_exec(c: &mut Case) -> Check {
    let socket = notify_filter(c)?;
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("run", &["-d"], &c.id)?)?;
    let _of_init = socket.receive()?;
    live.finish()?.ok()?;
    let call = format!("{GETPRIORITY}:0:0");
    let live = c.spawn(&["exec", &c.id, "/bin/probe", "--syscall", &call])?;
    let received = socket.receive()?;
    let (pid, of_state) = check_message(c, &received.payload, "running")?;
    same("pid of the state", i64::from(c.pid()?), of_state)?;
    let Some(fd) = received.fds.first() else {
        return fail("no descriptor came");
    };
    wait_for_notification(fd)?;
    let notification = take(fd)?;
    same(
        "pid of the message: the process of exec, which makes the call",
        i64::from(notification.thread),
        pid,
    )?;
    send(fd, &notification, 77)?;
    same(
        "result of the call",
        Some(77),
        live.finish()?.ok()?.seen()?.syscall[&call],
    )
}

/// The runtime loads the filter while it still has privileges, perhaps in another process than the one that
/// it is for.
fn notify_exec_without_no_new_privileges(c: &mut Case) -> Check {
    c.process().no_new_privileges(false);
    notify_exec(c)
}

fn notify_in_a_joined_pid_namespace(c: &mut Case) -> Check {
    let holder = Holder::start(c, None)?;
    c.join_namespace("pid", Some(&holder.path("pid")));
    c.process().no_new_privileges(false);
    let socket = notify_filter(c)?;
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("run", &["-d"], &c.id)?)?;
    let received = socket.receive()?;
    let (pid, of_state) = check_message(c, &received.payload, "creating")?;
    live.finish()?.ok()?;
    same("pid of the message", i64::from(c.pid()?), pid)?;
    same("pid of the state", pid, of_state)?;
    c.delete()
}

/// Calls that the runtime itself makes under the filter are the agent's to answer, who must have the listener
/// by then.
fn notify_exec_of_calls_of_the_runtime(c: &mut Case) -> Check {
    c.process().no_new_privileges(false);
    let socket = notify_filter(c)?;
    c.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["capset", "clone", "clone3"]);
    c.args(&["/bin/sleep", "1000"]);
    let create = c.spawn(&c.bundle_args("run", &["-d"], &c.id)?)?;
    let of_init = socket.receive()?;
    let agent = Agent::start(of_init.fds)?;
    create.finish()?.ok()?;
    let exec = c.spawn(&["exec", &c.id, "/bin/true"])?;
    let of_exec = Agent::start(socket.receive()?.fds)?;
    exec.finish()?.ok()?;
    agent.stop()?;
    of_exec.stop()
}

/// Lets every call go on.
struct Agent {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Check>,
}

impl Agent {
    fn start(fds: Vec<OwnedFd>) -> Check<Self> {
        let Some(fd) = fds.into_iter().next() else {
            return fail("no descriptor came");
        };
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
                let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(20u8))?;
                let [listener] = &fds;
                if listener
                    .revents()
                    .is_some_and(|events| events.contains(PollFlags::POLLIN))
                {
                    respond(&fd, [take(&fd)?.cookie, 0, CONTINUE])?;
                }
            }
            Ok(())
        });
        Ok(Self { ends, thread })
    }

    fn stop(self) -> Check {
        self.ends.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => fail("the agent panicked"),
        }
    }
}

/// config-linux.md, Seccomp: without an action that notifies, the path is ignored.
fn listener_without_notify_is_ignored(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
    c.linux().seccomp().listener_path("/no/such/agent.sock");
    same("getpgid(0)", vec![-1], calls(c, &[getpgid(0)])?)
}

/// config-linux.md, listenerPath: one state a connection, and then it is closed. The state comes before the
/// first call that waits for an answer, so nothing else can hold the connection open.
fn notify_connection_is_closed(c: &mut Case) -> Check {
    let socket = notify_filter(c)?;
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("run", &["-d"], &c.id)?)?;
    let received = socket.receive_until_closed()?;
    same("descriptors", 1, received.fds.len())?;
    live.finish()?.ok()?;
    Ok(())
}

/// seccomp(2), since Linux 5.19: once the agent has the call, a signal with a handler does not break it off.
/// Without the flag the thread leaves with EINTR, and nobody waits for the answer.
fn notify_wait_killable(c: &mut Case) -> Check {
    let socket = notify_filter(c)?;
    c.linux()
        .seccomp()
        .flags(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    c.args(&["/bin/probe", "--in-a-thread", &format!("{GETPRIORITY}:0:0")]);
    let live = c.spawn(&c.bundle_args("run", &[], &c.id)?)?;
    let received = socket.receive()?;
    let (process, _) = check_message(c, &received.payload, "creating")?;
    let Some(fd) = received.fds.first() else {
        return fail("no descriptor came");
    };
    wait_for_notification(fd)?;
    let notification = take(fd)?;
    // SAFETY: takes numbers only; the thread waits for the answer, so its number is nobody else's.
    if unsafe { libc::syscall(libc::SYS_tgkill, process, notification.thread, libc::SIGUSR1) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // Time to break off, if it may: there is no event that says it does not.
    thread::sleep(std::time::Duration::from_millis(200));
    send(fd, &notification, 11)
        .or_else(|_| fail("nobody waits for the answer: the signal has broken the call off"))?;
    let report = live.finish()?.ok()?.json()?;
    same("result of the call", json!(11), report["result"].clone())?;
    same("signals handled then", json!(1), report["sigusr1"].clone())
}

fn notify_without_listener_path_is_refused(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    refused(c, "listenerPath")
}

fn notify_without_agent_is_refused(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.linux().seccomp().listener_path("/no/such/agent.sock");
    refused(c, "/no/such/agent.sock")
}

/// config-linux.md, listenerPath: whatever it is that keeps the state from being sent. When that is tried, at
/// create or at start, is left open.
fn notify_to_what_is_no_listener_is_refused(c: &mut Case) -> Check {
    let file = c.dir.join("file");
    fs::write(&file, "")?;
    let datagram = c.dir.join("datagram.sock");
    let _other_kind = std::os::unix::net::UnixDatagram::bind(&datagram)?;
    let closed = c.dir.join("closed.sock");
    drop(std::os::unix::net::UnixListener::bind(&closed)?);
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.shell("touch /ran");
    for path in [file, datagram, closed] {
        let path = path.to_string_lossy();
        c.linux().seccomp().listener_path(&path);
        c.run()?.refused_with(&path)?;
        c.nothing_left()?;
        ensure!(!c.rootfs("/ran").exists(), "{path}: the program has run");
    }
    Ok(())
}
