//! Service managers: sd_notify(3) by a proxy socket, and socket activation. The suite plays systemd.

use crate::{
    case::Case,
    outcome::{Check, Stop, contains, ensure, fail, same},
    runner::{self, Live},
};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;
use std::{
    ffi::OsString,
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
    time::Duration,
};

tests! {
    notify/create_and_start,
    notify/start_waits_for_ready,
    notify/start_ends_with_the_container,
    notify/run_detached,
    notify/run_in_the_foreground,
    notify/only_ready_goes_on,
    notify/the_container_cannot_replace_the_socket,
    notify/without_the_variable_there_is_none,
    notify/nothing_left,
    notify/what_the_container_leaves_is_removed,
    notify/socket_of_the_manager_may_be_abstract,
    notify/ready_on_any_line_of_several_messages,
    notify/ready_said_twice_goes_on_once,
    notify/a_flood_of_messages_does_not_hold_up_the_end,
    notify/run_ends_with_a_container_that_is_never_ready,
    notify/manager_that_is_gone_is_an_error,
    notify/listening_socket_is_accepted_on_inside,
}

/// systemd's end.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(c: &Case) -> Check<Self> {
        let path = c.dir.join("systemd.sock");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { socket, path })
    }

    /// One message and its descriptors.
    fn receive(&self) -> Check<(String, Vec<OwnedFd>)> {
        let mut buffer = [0_u8; 4096];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
                fds.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let length = message.bytes;
        Ok((String::from_utf8_lossy(&buffer[..length]).trim().to_owned(), fds))
    }

    /// READY, MAINPID with this pid, and a barrier, which it lifts.
    fn wants_ready_of(&self, pid: i32) -> Check {
        same("first", "READY=1", &*self.receive()?.0)?;
        same("second", format!("MAINPID={pid}"), self.receive()?.0)?;
        let (text, fds) = self.receive()?;
        same("third", "BARRIER=1", &*text)?;
        same("descriptors of the barrier", 1, fds.len())
    }

    fn has_nothing(&self) -> Check {
        self.socket.set_nonblocking(true)?;
        match self.receive() {
            Err(_) => Ok(()),
            Ok((text, _)) => fail(format!("wish: no message, reality: {text:?}")),
        }
    }
}

fn spawn(c: &Case, manager: &Manager, words: &[OsString]) -> Check<Live> {
    let mut command = c.command();
    command.args(words).env("NOTIFY_SOCKET", &manager.path);
    runner::start(&mut command, &c.dir)
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Tells of being ready once `/go` is there, and stays.
fn service(c: &mut Case, text: &str) {
    c.shell(&format!(
        "while [ ! -e /go ]; do usleep 5000; done; /bin/probe --notify '{text}' > /said; exec sleep 1000"
    ));
}

fn go(c: &Case) -> Check {
    fs::write(c.rootfs("/go"), "")?;
    Ok(())
}

fn create_and_start(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    service(c, "STATUS=up\nREADY=1");
    c.shell("printf 'STATUS=up\\nREADY=1\\n' > /text; /bin/probe --notify \"$(cat /text)\" > /said; exec sleep 1000");
    spawn(c, &manager, &c.bundle_args("create", &[], &c.id)?)?
        .finish()?
        .ok()?;
    let pid = c.pid()?;
    let start = spawn(c, &manager, &words(&["start", &c.id]))?;
    manager.wants_ready_of(pid)?;
    start.finish()?.ok()?;
    same(
        "what the service has printed",
        "",
        &*fs::read_to_string(c.rootfs("/said"))?,
    )?;
    same("status", "running", &*c.status()?)
}

fn start_waits_for_ready(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    service(c, "READY=1");
    spawn(c, &manager, &c.bundle_args("create", &[], &c.id)?)?
        .finish()?
        .ok()?;
    let start = spawn(c, &manager, &words(&["start", &c.id]))?;
    c.wait_status("running")?;
    std::thread::sleep(Duration::from_millis(150));
    manager.has_nothing()?;
    manager.socket.set_nonblocking(false)?;
    go(c)?;
    manager.wants_ready_of(c.pid()?)?;
    start.finish()?.ok()?;
    Ok(())
}

fn start_ends_with_the_container(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell("exit 3");
    spawn(c, &manager, &c.bundle_args("create", &[], &c.id)?)?
        .finish()?
        .ok()?;
    spawn(c, &manager, &words(&["start", &c.id]))?.finish()?.ok()?;
    manager.has_nothing()
}

fn run_detached(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    service(c, "READY=1");
    go(c)?;
    let run = spawn(
        c,
        &manager,
        &c.bundle_args("run", &["--detach", "--pid-file", "pid"], &c.id)?,
    )?;
    c.wait_until("the pid file is there", || Ok(c.dir.join("pid").exists()))?;
    manager.wants_ready_of(fs::read_to_string(c.dir.join("pid"))?.parse()?)?;
    run.finish()?.ok()?;
    same("status", "running", &*c.status()?)
}

fn run_in_the_foreground(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell("/bin/probe --notify READY=1; while [ ! -e /go ]; do usleep 5000; done; exit 7");
    let run = spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?;
    same("message", "READY=1", &*manager.receive()?.0)?;
    go(c)?;
    run.finish()?.wants(7)?;
    c.nothing_left()
}

fn one_ready_of_create_and_start(c: &mut Case, manager: &Manager) -> Check {
    spawn(c, manager, &c.bundle_args("create", &[], &c.id)?)?
        .finish()?
        .ok()?;
    let start = spawn(c, manager, &words(&["start", &c.id]))?;
    manager.wants_ready_of(c.pid()?)?;
    start.finish()?.ok()?;
    manager.has_nothing()
}

fn only_ready_goes_on(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell(
        "for text in MAINPID=1 STOPPING=1 FDSTORE=1 READY=0 WATCHDOG=trigger; do /bin/probe --notify $text; done; \
         /bin/probe --notify READY=1; exec sleep 1000",
    );
    one_ready_of_create_and_start(c, &manager)
}

fn the_container_cannot_replace_the_socket(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell("echo $NOTIFY_SOCKET; rm $NOTIFY_SOCKET; touch ${NOTIFY_SOCKET%/*}/x; mount | grep notify");
    let run = spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?.finish()?;
    contains("stdout", &run.stdout, "/run/notify/notify.sock")?;
    same("refusals", 2, run.stderr.matches("Read-only file system").count())?;
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        contains("mount options", &run.stdout, option)?;
    }
    Ok(())
}

fn without_the_variable_there_is_none(c: &mut Case) -> Check {
    let report = c.probe(&["--stat", "/run/notify"])?;
    let env = report.env.join(" ");
    ensure!(!env.contains("NOTIFY_SOCKET"), "env: {env}");
    ensure!(report.stat["/run/notify"].kind.is_empty(), "{:?}", report.stat);
    Ok(())
}

fn nothing_left(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    service(c, "READY=1");
    go(c)?;
    let run = spawn(c, &manager, &c.bundle_args("run", &["--detach"], &c.id)?)?;
    manager.receive().map_err(|_| Stop::Fail("no READY".into()))?;
    drop(run);
    c.rt(&["delete", "--force", &c.id])?.ok()?;
    c.nothing_left()
}

fn socket_of_the_manager_may_be_abstract(c: &mut Case) -> Check {
    let name = format!("spec-tests-{}", c.id);
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name)?;
    let mut manager = Manager::new(c)?;
    manager.socket = UnixDatagram::bind_addr(&address)?;
    manager.socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    manager.path = format!("@{name}").into();
    c.shell("/bin/probe --notify READY=1; exec sleep 1000");
    let run = spawn(
        c,
        &manager,
        &c.bundle_args("run", &["--detach", "--pid-file", "pid"], &c.id)?,
    )?;
    c.wait_until("the pid file is there", || Ok(c.dir.join("pid").exists()))?;
    manager.wants_ready_of(fs::read_to_string(c.dir.join("pid"))?.parse()?)?;
    run.finish()?.ok()?;
    Ok(())
}

fn ready_on_any_line_of_several_messages(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell(
        "printf 'STATUS=nearly\\nMAINPID=1\\nREADY=1\\nSTATUS=up' > /text; /bin/probe --notify STATUS=begins; \
         /bin/probe --notify ''; /bin/probe --notify \"$(cat /text)\"; exec sleep 1000",
    );
    one_ready_of_create_and_start(c, &manager)
}

fn ready_said_twice_goes_on_once(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    // Nobody listens to the second one any more, and a program does not have to bear that.
    c.shell("/bin/probe --notify READY=1; /bin/probe --notify READY=1 2>/dev/null; exit 4");
    let run = spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?;
    same("message", "READY=1", &*manager.receive()?.0)?;
    run.finish()?.wants(4)?;
    manager.has_nothing()?;
    c.nothing_left()
}

/// Whoever waits must look at other things, too.
fn a_flood_of_messages_does_not_hold_up_the_end(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell(
        "for n in 1 2 3 4; do (while :; do /bin/probe --notify STATUS=$n; done) & done; trap 'exit 6' TERM; touch /ready; \
         while :; do usleep 10000; done",
    );
    let run = spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?;
    let ready = c.rootfs("/ready");
    c.wait_until("the program runs", || Ok(ready.exists()))?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(run.pid),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    run.finish_within(Duration::from_secs(20))?.wants(6)?;
    manager.has_nothing()?;
    c.nothing_left()
}

fn run_ends_with_a_container_that_is_never_ready(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell("/bin/probe --notify STATUS=dying; exit 3");
    spawn(c, &manager, &c.bundle_args("run", &["--detach"], &c.id)?)?
        .finish()?
        .ok()?;
    manager.has_nothing()?;
    c.wait_status("stopped")?;
    c.delete()?;
    spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?
        .finish()?
        .wants(3)?;
    manager.has_nothing()?;
    c.nothing_left()
}

fn manager_that_is_gone_is_an_error(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    c.shell("/bin/probe --notify READY=1; exec sleep 1000");
    spawn(c, &manager, &c.bundle_args("create", &[], &c.id)?)?
        .finish()?
        .ok()?;
    let path = manager.path.clone();
    drop(manager.socket);
    fs::remove_file(&path)?;
    let mut command = c.command();
    command.args(["start", &c.id]).env("NOTIFY_SOCKET", &path);
    runner::start(&mut command, &c.dir)?
        .finish()?
        .refused_with(&path.to_string_lossy())?;
    same("the container runs all the same", "running", &*c.status()?)
}

/// A socket that listens on the host, and another descriptor after it; a program inside takes a connection
/// from it.
fn listening_socket_is_accepted_on_inside(c: &mut Case) -> Check {
    let path = c.dir.join("service.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    let note = c.dir.join("note");
    fs::write(&note, "kept")?;
    c.args(&["/bin/probe", "--accept"]);
    let mut words = c.host.runtime_words();
    let at = words.len() - 1;
    words.insert(at, "LISTEN_FDS=1".into());
    let mut command = std::process::Command::new("/bin/sh");
    // The socket goes by standard input, since a shell may know no number of more than one digit.
    let script = format!(
        "exec 3<&0 4<{} </dev/null; shift 2; exec /usr/bin/env -i LISTEN_PID=$$ \"$@\"",
        note.display()
    );
    command.arg("-c").arg(script).arg("sh").args(words);
    command
        .arg("--root")
        .arg(&c.state_root)
        .args(c.bundle_args("run", &["--preserve-fds", "1"], &c.id)?)
        .stdin(std::process::Stdio::from(OwnedFd::from(listener)));
    let run = runner::start(&mut command, &c.dir)?;
    let mut client = std::os::unix::net::UnixStream::connect(&path)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    std::io::Write::write_all(&mut client, b"hello")?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer)?;
    same("what the container answers", "hello, kept", &*answer)?;
    run.finish()?.ok()?;
    c.nothing_left()
}

/// A container with the right to mount can write to the directory of the socket, which is a part of the
/// runtime's state.
fn what_the_container_leaves_is_removed(c: &mut Case) -> Check {
    let manager = Manager::new(c)?;
    let capabilities = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    for set in ["bounding", "effective", "permitted"] {
        c.config["process"]["capabilities"][set] = capabilities.clone();
    }
    let deep = format!("/run/notify/{}", "d/".repeat(40));
    c.shell(&format!(
        "mount -o remount,rw,bind /run/notify; mkdir -p {deep}e {deep}f; touch {deep}g; ln -s / {deep}h; \
         /bin/probe --notify READY=1"
    ));
    let run = spawn(c, &manager, &c.bundle_args("run", &[], &c.id)?)?.finish()?;
    run.ok()?;
    let list = c.rt(&["list"])?;
    list.ok()?;
    c.nothing_left()
}
