//! Runs in: SUITE. Flags of checkpoint and restore that reach criu: what each makes possible, and values that
//! are refused.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, same},
    pty, runner,
    tests::{
        checkpoint::{
            CRIU, checkpoint, count, goes_on_after, images, restore, start, start_counter, text,
            wait_for_count,
        },
        process::with_profile,
    },
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::{
    fs,
    io::Read,
    net::Shutdown,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

tests! {
    checkpoint/values_that_are_wrong,
}

tests! {
    checkpoint/manage_cgroups_mode: CRIU,
    checkpoint/empty_ns_network: CRIU,
    checkpoint/link_remap: CRIU,
    checkpoint/ext_unix_sk: CRIU,
    checkpoint/shell_job: CRIU,
    checkpoint/auto_dedup: &[Criu("mem_dirty_track")],
    checkpoint/tcp_established_alone: CRIU,
    checkpoint/tcp_close: CRIU,
    checkpoint/tcp_skip_in_flight: CRIU,
    checkpoint/lsm_profile: &[Criu(""), AppArmor, Program("apparmor_parser")],
    checkpoint/lsm_mount_context: CRIU,
}

/// `restore` that fails; what it says.
fn failed_restore(c: &Case, options: &[&str]) -> Check<String> {
    let folder = text(&images(c));
    let options = [&["--detach", "--image-path", &folder], options].concat();
    let words = c.bundle_args("restore", &options, &c.id)?;
    let run = c.spawn(&words)?.finish_within(Duration::from_secs(60))?;
    Ok(run.refused()?.stderr)
}

fn values_that_are_wrong(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for (option, wish) in [
        ("--manage-cgroups-mode=bogus", "Invalid manage-cgroups-mode value"),
        ("--empty-ns=uts", "is not supported"),
        ("--empty-ns=bogus", "is not supported"),
        (
            "--page-server=nowhere",
            "Use --page-server ADDRESS:PORT to specify page server",
        ),
        ("--page-server=127.0.0.1:many", "Invalid port number"),
        ("--status-fd=many", "status-fd"),
        ("--status-fd=77", "status-fd"),
    ] {
        checkpoint(c, &[option])?.wants(1)?.refused_with(wish)?;
    }
    for (option, wish) in [
        ("--manage-cgroups-mode=bogus", "Invalid manage-cgroups-mode value"),
        ("--empty-ns=uts", "is not supported"),
    ] {
        let id = format!("{}-b", c.id);
        let words = c.bundle_args("restore", &["--detach", option], &id)?;
        c.rt(&words)?.wants(1)?.refused_with(wish)?;
    }
    same("status", "running", c.status()?.as_str())
}

fn manage_cgroups_mode(c: &mut Case) -> Check {
    for mode in ["soft", "full", "ignore"] {
        let option = format!("--manage-cgroups-mode={mode}");
        start_counter(c)?;
        checkpoint(c, &[&option])?.ok()?;
        goes_on_after(c, || restore(c, &[&option]).map(drop))?;
        let procs = fs::read_to_string(c.cgroup().join("cgroup.procs"))?;
        let pid = c.pid()?.to_string();
        ensure!(
            procs.lines().any(|line| line == pid),
            "{mode}: pid {pid} is not in {procs:?}"
        );
        c.delete()?;
        fs::remove_dir_all(images(c))?;
        fs::remove_file(c.rootfs("count"))?;
    }
    // That wants no cgroup to be there, and the runtime has made the container's.
    start_counter(c)?;
    checkpoint(c, &["--manage-cgroups-mode=strict"])?.ok()?;
    let said = failed_restore(c, &["--manage-cgroups-mode=strict"])?;
    contains("the reason", &said, "existing cgroups")?;
    c.nothing_left()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    c.delete()?;
    c.nothing_left()
}

/// It is always made anew, so the flag says what is done anyway.
fn empty_ns_network(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &["--empty-ns", "network"])?.ok()?;
    goes_on_after(c, || restore(c, &["--empty-ns", "network"]).map(drop))
}

/// An open file whose name is gone, while another name of it is left.
fn link_remap(c: &mut Case) -> Check {
    c.shell(
        "echo first > /a; exec 3<>/a; ln /a /b; rm /a; i=0; \
         while :; do i=$((i+1)); ln -s $i /count.new; mv /count.new /count; echo $i >&3; usleep 100000; done",
    );
    start(c)?;
    wait_for_count(c, 2)?;
    let run = checkpoint(c, &[])?;
    ensure!(
        run.code() != 0,
        "a dump without --link-remap must fail: {}",
        run.report()
    );
    same("status after the failure", "running", c.status()?.as_str())?;
    checkpoint(c, &["--link-remap"])?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))?;
    let last = count(c);
    c.wait_until("the open file to be written to", || {
        let lines = fs::read_to_string(c.rootfs("b"))?;
        Ok(lines
            .lines()
            .filter_map(|line| line.parse::<i64>().ok())
            .any(|line| line >= last))
    })
}

/// As the counter, and says each number to its standard input.
const TELLING: &str = "i=0; while :; do i=$((i+1)); echo $i >&0; ln -s $i /count.new; mv /count.new /count; usleep 100000; done";

/// `run` or `restore`, with this standard input.
fn with_input(c: &Case, command: &str, options: &[&str], input: OwnedFd) -> Check {
    let log = c.dir.join("log");
    let mut line = c.command();
    line.arg("--log").arg(&log);
    line.args(c.bundle_args(command, &[&["--detach"], options].concat(), &c.id)?);
    line.stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    let live = runner::start_with_own_stdio(&mut line, c.dir.join("none"), log)?;
    drop(line);
    live.finish()?.ok().map(drop)
}

/// The last number that was said to this descriptor. Read by a thread, so that nobody waits for us; it ends
/// with its peers.
fn listen(fd: OwnedFd) -> Arc<AtomicI64> {
    let last = Arc::new(AtomicI64::new(0));
    let heard = last.clone();
    thread::spawn(move || {
        let (mut file, mut buffer) = (fs::File::from(fd), [0; 4096]);
        while let Ok(length @ 1..) = file.read(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]);
            // A terminal may give half of a line.
            let whole = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(Ok(number)) = whole.lines().next_back().map(|line| line.trim().parse()) {
                heard.store(number, Relaxed);
            }
        }
    });
    last
}

/// What the process says to its standard input goes on after a checkpoint that needs `option`, and a restore.
fn says_goes_on(c: &mut Case, option: &str, inputs: [OwnedFd; 2], heard: [&AtomicI64; 2]) -> Check {
    let [first, second] = inputs;
    let hear = |c: &Case, which: usize, least: i64| {
        c.wait_until(&format!("to hear more than {least}"), || {
            Ok(heard[which].load(Relaxed) > least)
        })
    };
    c.shell(TELLING);
    with_input(c, "run", &[], first)?;
    hear(c, 0, 1)?;
    let run = checkpoint(c, &["--leave-running"])?;
    ensure!(
        run.code() != 0,
        "a dump without {option} must fail: {}",
        run.report()
    );
    checkpoint(c, &["--leave-running", option])?.ok()?;
    let at = count(c);
    wait_for_count(c, at + 2)?;
    fs::remove_dir_all(images(c))?;
    checkpoint(c, &[option])?.ok()?;
    let before = count(c);
    let folder = text(&images(c));
    goes_on_after(c, || {
        with_input(c, "restore", &["--image-path", &folder, option], second)
    })?;
    hear(c, 1, before + 1)
}

/// A socket whose other end is outside, by a name that is no path: that would be looked up in the container.
fn ext_unix_sk(c: &mut Case) -> Check {
    let address = SocketAddr::from_abstract_name(format!("spec-tests-{}", c.id))?;
    let outside = UnixDatagram::bind_addr(&address)?;
    outside.set_read_timeout(Some(Duration::from_secs(60)))?;
    let inside = UnixDatagram::unbound()?;
    inside.connect_addr(&address)?;
    fcntl(&inside, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // criu knows the sockets of the container's network namespace.
    c.drop_namespace("network");
    let heard = listen(outside.try_clone()?.into());
    let null = fs::File::open("/dev/null")?;
    let said = says_goes_on(c, "--ext-unix-sk", [inside.into(), null.into()], [&heard, &heard]);
    outside.shutdown(Shutdown::Both)?;
    said
}

/// A terminal that belongs to a session outside; the caller of `restore` has another one.
fn shell_job(c: &mut Case) -> Check {
    let (first, first_slave) = pty::own_pty()?;
    let (second, second_slave) = pty::own_pty()?;
    let heard = [first, second].map(|master| listen(master.into()));
    says_goes_on(
        c,
        "--shell-job",
        [first_slave.into(), second_slave.into()],
        [&heard[0], &heard[1]],
    )
}

/// Pages that are in the images of the pre-dump as well are punched out of them.
fn auto_dedup(c: &mut Case) -> Check {
    start_counter(c)?;
    let first = text(&c.dir.join("first"));
    c.rt(&["checkpoint", "--pre-dump", "--image-path", &first, &c.id])?
        .ok()?;
    let at = count(c);
    wait_for_count(c, at + 2)?;
    checkpoint(c, &["--parent-path", "../first", "--auto-dedup"])?.ok()?;
    goes_on_after(c, || restore(c, &["--auto-dedup"]).map(drop))
}

/// Both ends of a connection, and the counter, which does not need it.
fn start_connected(c: &mut Case) -> Check {
    c.shell(
        "/bin/busybox nc -l -p 7000 -e /bin/cat & usleep 300000; \
         (i=0; while :; do i=$((i+1)); echo $i; usleep 100000; done) | /bin/busybox nc 127.0.0.1 7000 > /echo & \
         i=0; while :; do i=$((i+1)); ln -s $i /count.new; mv /count.new /count; usleep 100000; done",
    );
    start(c)?;
    c.wait_until("an echo", || Ok(echoed(c) >= 3))?;
    wait_for_count(c, 3)
}

fn echoed(c: &Case) -> usize {
    fs::read_to_string(c.rootfs("echo"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// Lines of established connections, as the container sees them.
fn connections(c: &Case) -> Check<usize> {
    let run = c
        .rt(&["exec", &c.id, "/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"])?
        .ok()?;
    // State 01 in the fourth field.
    let is_open = |line: &&str| line.split_whitespace().nth(3) == Some("01");
    Ok(run.stdout.lines().filter(is_open).count())
}

fn tcp_established_alone(c: &mut Case) -> Check {
    start_connected(c)?;
    let run = checkpoint(c, &[])?;
    ensure!(
        run.code() != 0,
        "a dump without --tcp-established must fail: {}",
        run.report()
    );
    checkpoint(c, &["--tcp-established"])?.ok()?;
    let before = echoed(c);
    restore(c, &["--tcp-established"])?;
    c.wait_until("more of the echo", || Ok(echoed(c) >= before + 3))?;
    same("ends of the connection", 2, connections(c)?)
}

fn tcp_close(c: &mut Case) -> Check {
    start_connected(c)?;
    same("ends of the connection", 2, connections(c)?)?;
    checkpoint(c, &["--tcp-established"])?.ok()?;
    goes_on_after(c, || restore(c, &["--tcp-close"]).map(drop))?;
    same("ends of the connection", 0, connections(c)?)
}

/// Those that are open are saved all the same.
fn tcp_skip_in_flight(c: &mut Case) -> Check {
    start_connected(c)?;
    checkpoint(c, &["--tcp-established", "--tcp-skip-in-flight"])?.ok()?;
    let before = echoed(c);
    restore(c, &["--tcp-established"])?;
    c.wait_until("more of the echo", || Ok(echoed(c) >= before + 3))
}

fn lsm_profile(c: &mut Case) -> Check {
    with_profile(c, |c, name| {
        c.process().apparmor_profile(name);
        // Two processes: criu and they wait for each other when it has failed.
        c.shell("mkfifo /fifo; cat <> /fifo & exec cat <> /fifo");
        start(c)?;
        c.wait_until("the fifo", || Ok(c.rootfs("fifo").exists()))?;
        checkpoint(c, &[])?.ok()?;
        let said = failed_restore(c, &["--lsm-profile", "apparmor:no-such-profile"])?;
        contains("the reason", &said, "lsm profile")?;
        c.nothing_left()?;
        let profile = format!("apparmor:{name}");
        restore(c, &["--lsm-profile", &profile])?;
        let label = fs::read_to_string(format!("/proc/{}/attr/current", c.pid()?))?;
        same("label", format!("{name} (enforce)").as_str(), label.trim())
    })
}

/// Of file systems that have a context; none has where there is no SELinux.
fn lsm_mount_context(c: &mut Case) -> Check {
    start_counter(c)?;
    checkpoint(c, &[])?.ok()?;
    let context = "system_u:object_r:container_file_t:s0:c1,c2";
    goes_on_after(c, || restore(c, &["--lsm-mount-context", context]).map(drop))
}
