//! What a runtime inherits from its caller by execve(2) or fork(2): what it needs otherwise it resets for
//! itself, what is the container's own matter does not get there, and the rest is passed on.

use crate::{
    case::Case,
    children::{self, Exit},
    config::{Hook, Mount, Rlimit},
    outcome::{Check, ensure, same},
    runner::{self, Live, Run},
};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use serde_json::json;
use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

tests! {
    inherited/ignored_sigchld_run,
    inherited/ignored_sigchld_exec,
    inherited/ignored_sigchld_hooks,
    inherited/signal_actions_and_mask,
    inherited/open_files_of_the_caller,
    inherited/open_files_of_the_config,
    inherited/open_files_of_hooks,
    inherited/limit_of_file_size,
    inherited/umask,
    inherited/securebits,
    inherited/working_directory_that_is_gone,
    inherited/standard_streams_closed,
    inherited/standard_stream_opened_as_a_path,
    inherited/alarm_ends_the_set_up,
    inherited/limits_and_priorities_are_passed_on,
    inherited/parent_death_signal_and_subreaper_are_not,
    inherited/environment_is_not,
    inherited/stack_that_is_too_small_is_told,
    inherited/filter_that_fails_a_call_of_the_start_is_told,
}

tests! {
    "inherited/250_mounts_and_a_soft_limit_of_256_files" => mounts_256,
    "inherited/1200_mounts_and_a_hard_limit_of_1024_files" => mounts_1024,
}

// CPUs that the caller is confined to.
tests! {
    inherited/cpu_affinity: &[SecondCpu],
    inherited/cpu_affinity_and_a_cpuset: &[SecondCpu, Controller("cpuset")],
    inherited/cpu_affinity_and_a_unit_of_systemd: &[SecondCpu, Controller("cpuset"), Systemd],
}

/// Does it in the process that becomes the runtime.
fn changed(mut command: Command, change: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    // SAFETY: what tests pass makes system calls only.
    unsafe { command.pre_exec(change) };
    command
}

fn spawn<S: AsRef<OsStr>>(
    c: &Case,
    words: &[S],
    change: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> Check<Live> {
    runner::start(changed(c.command(), change).args(words), &c.dir)
}

fn rt<S: AsRef<OsStr>>(
    c: &Case,
    words: &[S],
    change: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> Check<Run> {
    spawn(c, words, change)?.finish()
}

/// `run` of this test's container.
fn run(c: &Case, change: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Check<Run> {
    rt(c, &c.bundle_args("run", &[], &c.id)?, change)
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: none of the options used takes a pointer.
    checked(unsafe { libc::prctl(option, value, 0, 0, 0) })
}

fn limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the limit is a live struct, which is only read.
    checked(unsafe { libc::setrlimit(resource, &limit) })
}

fn ignore(number: Signal) -> io::Result<()> {
    // SAFETY: no handler is installed.
    unsafe { signal(number, SigHandler::SigIgn) }?;
    Ok(())
}

fn ignore_sigchld() -> io::Result<()> {
    ignore(Signal::SIGCHLD)
}

fn ignored_sigchld_run(c: &mut Case) -> Check {
    c.shell("sleep 0; exit 7");
    run(c, ignore_sigchld)?.wants(7)?;
    c.shell("kill -9 $$");
    // Not process 1, which the kernel would not let kill itself.
    c.drop_namespace("pid");
    run(c, ignore_sigchld)?.wants(137)?;
    c.nothing_left()
}

fn ignored_sigchld_exec(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let run = rt(
        c,
        &["exec", &c.id, "/bin/sh", "-c", "sleep 0; exit 7"],
        ignore_sigchld,
    )?;
    run.wants(7)?;
    rt(c, &["exec", "--detach", &c.id, "/bin/true"], ignore_sigchld)?.ok()?;
    Ok(())
}

fn ignored_sigchld_hooks(c: &mut Case) -> Check {
    let mark = c.dir.join("marks");
    let hook = |name: &str| {
        json!([{
            "path": "/bin/sh",
            "args": ["sh", "-c", format!("/bin/true && echo {name} >> {}", mark.display())],
        }])
    };
    c.hooks()
        .clear()
        .create_runtime(hook("createRuntime"))
        .create_container(hook("createContainer"))
        .poststart(hook("poststart"))
        .poststop(hook("poststop"));
    c.shell("exit 0");
    rt(c, &c.bundle_args("create", &[], &c.id)?, ignore_sigchld)?.ok()?;
    rt(c, &["start", &c.id], ignore_sigchld)?.ok()?;
    c.wait_status("stopped")?;
    rt(c, &["delete", &c.id], ignore_sigchld)?.ok()?;
    let wish = "createRuntime\ncreateContainer\npoststart\npoststop\n";
    same("hooks", wish, &*fs::read_to_string(&mark)?)?;
    c.hooks()
        .clear()
        .create_runtime([Hook::new().path("/bin/sh").args(["sh", "-c", "exit 3"])]);
    let failed = rt(c, &c.bundle_args("create", &[], &c.id)?, ignore_sigchld)?.wants(1)?;
    ensure!(failed.stderr.contains("exit status 3"), "{}", failed.report());
    c.nothing_left()
}

/// The container's process, and that of exec, start with every signal at its default and none blocked.
fn signal_actions_and_mask(c: &mut Case) -> Check {
    let change = || {
        for number in [
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGPIPE,
            Signal::SIGCHLD,
            Signal::SIGTSTP,
        ] {
            ignore(number)?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        Ok(())
    };
    let show = ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let wish = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    c.args(&show);
    same("run", wish, &*run(c, change)?.ok()?.stdout)?;
    c.start_sleeper()?;
    let of_exec = rt(c, &[["exec", &c.id].as_slice(), &show].concat(), change)?.ok()?;
    same("exec", wish, &*of_exec.stdout)
}

const LIMITS: [&str; 3] = ["/bin/sh", "-c", "ulimit -S -n; ulimit -H -n"];

fn few_files() -> io::Result<()> {
    limit(libc::RLIMIT_NOFILE, 256, 4096)
}

/// Whatever a runtime needs for itself.
fn open_files_of_the_caller(c: &mut Case) -> Check {
    c.process().rlimits(json!([]));
    c.args(&LIMITS);
    same("run", "256\n4096\n", &*run(c, few_files)?.ok()?.stdout)?;
    c.start_sleeper()?;
    let words = [["exec", &c.id].as_slice(), &LIMITS].concat();
    same("exec", "256\n4096\n", &*rt(c, &words, few_files)?.ok()?.stdout)
}

fn open_files_of_the_config(c: &mut Case) -> Check {
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_NOFILE").soft(300).hard(400)]);
    c.args(&LIMITS);
    same("run", "300\n400\n", &*run(c, few_files)?.ok()?.stdout)
}

fn open_files_of_hooks(c: &mut Case) -> Check {
    let mark = c.dir.join("limits");
    let hook = |name: &str| {
        let line = format!(
            "echo {name} $(ulimit -S -n) $(ulimit -H -n) >> {}",
            mark.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", line] }])
    };
    c.process().rlimits(json!([]));
    c.hooks()
        .clear()
        .create_runtime(hook("createRuntime"))
        .create_container(hook("createContainer"))
        .poststart(hook("poststart"))
        .poststop(hook("poststop"));
    c.shell("exit 0");
    run(c, few_files)?.ok()?;
    let wish = "createRuntime 256 4096\ncreateContainer 256 4096\npoststart 256 4096\npoststop 256 4096\n";
    same("limits", wish, &*fs::read_to_string(&mark)?)
}

/// That many files, each mounted on a place of its own; the container sees the last.
fn many_mounts(c: &mut Case, count: usize) -> Check {
    let place = c.dir.join("sources");
    fs::create_dir(&place)?;
    for number in 0..count {
        let source = place.join(number.to_string());
        fs::write(&source, format!("file {number}\n"))?;
        c.mount(Mount::bind(format!("/mnt/{number}"), source).options(["rbind", "ro"]));
    }
    c.shell(&format!(
        "cat /mnt/0 /mnt/{0}; echo x 2>/dev/null > /mnt/{0} || echo read-only; grep -c ' /mnt/' /proc/self/mountinfo",
        count - 1
    ));
    Ok(())
}

fn all_are_there(run: Run, count: usize) -> Check {
    let wish = format!("file 0\nfile {}\nread-only\n{count}\n", count - 1);
    same("the mounts", &*wish, &*run.ok()?.stdout)
}

fn mounts_256(c: &mut Case) -> Check {
    many_mounts(c, 250)?;
    all_are_there(run(c, few_files)?, 250)
}

fn mounts_1024(c: &mut Case) -> Check {
    many_mounts(c, 1200)?;
    all_are_there(run(c, || limit(libc::RLIMIT_NOFILE, 1024, 1024))?, 1200)?;
    c.nothing_left()
}

/// A runtime that cannot write says so, and is not killed by SIGXFSZ.
fn limit_of_file_size(c: &mut Case) -> Check {
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = changed(c.command(), || limit(libc::RLIMIT_FSIZE, 0, libc::RLIM_INFINITY));
    // Not a file, which it could not write to either.
    let (mut reader, writer) = io::pipe()?;
    let child = children::spawn(command.args(&words).stderr(writer).stdout(Stdio::null()))?;
    drop(command);
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    let exit = children::wait_or_kill(child.id() as i32, PATIENCE, "run")?;
    same("exit code", Exit::Code(1), exit)?;
    same("lines", 1, said.lines().count())?;
    ensure!(said.contains("file too large"), "no `file too large`: {said}");
    c.nothing_left()
}

/// The state can be read, and the container's own files are as config.json has them.
fn umask(c: &mut Case) -> Check {
    let change = || {
        // SAFETY: takes an integer.
        unsafe { libc::umask(0o777) };
        Ok(())
    };
    c.mount(
        Mount::new()
            .destination("/made/here")
            .kind("tmpfs")
            .source("tmpfs")
            .options(["mode=750"]),
    );
    c.shell("umask; stat -c %a /made /made/here; stat -c %a /dev /dev/null /dev/pts/ptmx; touch /tmp/x; stat -c %a /tmp/x");
    let run = run(c, change)?.ok()?;
    same("modes", "0022\n755\n750\n755\n666\n666\n644\n", &*run.stdout)
}

fn securebits(c: &mut Case) -> Check {
    /// SECBIT_NO_SETUID_FIXUP and SECBIT_NO_CAP_AMBIENT_RAISE, not locked.
    const BITS: libc::c_ulong = 0x44;
    c.process().capabilities().inheritable(["CAP_KILL"]);
    c.process().capabilities().ambient(["CAP_KILL"]);
    c.args(&["/bin/probe"]);
    let report = run(c, || prctl(libc::PR_SET_SECUREBITS, BITS))?.ok()?.seen()?;
    same("securebits", 0, report.securebits)?;
    c.start_sleeper()?;
    let words = ["exec", &c.id, "/bin/probe"];
    let report = rt(c, &words, || prctl(libc::PR_SET_SECUREBITS, BITS))?
        .ok()?
        .seen()?;
    same("securebits of exec", 0, report.securebits)
}

fn working_directory_that_is_gone(c: &mut Case) -> Check {
    c.shell("pwd");
    let gone = c.dir.join("gone");
    let words = c.bundle_args("run", &[], &c.id)?;
    fs::create_dir(&gone)?;
    let path =
        std::ffi::CString::new(gone.into_os_string().into_encoded_bytes()).map_err(io::Error::other)?;
    let change = move || {
        // SAFETY: a C string.
        checked(unsafe { libc::chdir(path.as_ptr()) })?;
        // SAFETY: a C string.
        checked(unsafe { libc::rmdir(path.as_ptr()) })
    };
    same("pwd", "/\n", &*rt(c, &words, change)?.ok()?.stdout)
}

/// Files of the runtime's do not get their numbers, and the container has something there.
fn standard_streams_closed(c: &mut Case) -> Check {
    c.shell("ls -l /proc/self/fd > /tmp/fds; exit 6");
    let change = || {
        for number in 0..3 {
            // SAFETY: takes an integer; nobody uses the number before execve.
            unsafe { libc::close(number) };
        }
        Ok(())
    };
    run(c, change)?.wants(6)?;
    let listing = fs::read_to_string(c.rootfs("/tmp/fds"))?;
    let links: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.split(" -> ").nth(1))
        .filter(|target| !target.starts_with("/proc/") && *target != "/tmp/fds")
        .collect();
    same("standard input and error", ["/dev/null"; 2].as_slice(), &links)
}

/// One that cannot be read or written, and is open all the same: none of the runtime's takes its place, and
/// none is left behind it.
fn standard_stream_opened_as_a_path(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let change = || {
        // SAFETY: a C string.
        let path = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH) };
        // SAFETY: takes integers.
        checked(unsafe { libc::dup2(path, 0) })?;
        // SAFETY: takes an integer.
        checked(unsafe { libc::close(path) })
    };
    let report = run(c, change)?.ok()?.seen()?;
    // poll(2) takes a path at 0 for closed; so does the probe's own start, which opens /dev/null and gets the
    // first number that is free.
    let others: Vec<(i32, &str)> = report
        .fds
        .iter()
        .map(|fd| (fd.0, fd.1.as_str()))
        .filter(|fd| fd.0 > 2)
        .collect();
    same("descriptors", vec![(3, "/dev/null")], others)
}

/// alarm(2) survives execve(2): `timeout` of perl and shells. Half a container must not be left.
fn alarm_ends_the_set_up(c: &mut Case) -> Check {
    let mark = c.dir.join("begun");
    c.hooks().clear().create_runtime([Hook::new()
        .path("/bin/sh")
        .args(json!([
            "sh",
            "-c",
            format!("touch {}; exec sleep 1000", mark.display())
        ]))
        .env(["PATH=/usr/bin:/bin"])]);
    let change = || {
        // SAFETY: takes an integer.
        unsafe { libc::alarm(1) };
        Ok(())
    };
    let run = run(c, change)?;
    same("exit code", 128 + libc::SIGALRM, run.code())?;
    c.nothing_left()
}

/// What config.json can say, or nobody but the caller: as it is.
fn limits_and_priorities_are_passed_on(c: &mut Case) -> Check {
    const SLACK: libc::c_ulong = 123_456;
    c.args(&[
        "/bin/probe",
        "--cat",
        "/proc/self/oom_score_adj",
        "--cat",
        "/proc/self/coredump_filter",
        "--cat",
        "/proc/self/timerslack_ns",
        "--cat",
        "/proc/self/status",
    ]);
    let change = || {
        prctl(libc::PR_SET_TIMERSLACK, SLACK)?;
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
        prctl(libc::PR_SET_THP_DISABLE, 1)?;
        // SAFETY: takes integers: this process, three steps lower.
        checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) })?;
        // SAFETY: takes integers: this process, best effort, 6.
        unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, (2 << 13) | 6) };
        limit(libc::RLIMIT_CORE, 0, 0)?;
        fs::write("/proc/self/oom_score_adj", "321")?;
        fs::write("/proc/self/coredump_filter", "0x11")
    };
    c.process().no_new_privileges(false);
    let report = run(c, change)?.ok()?.seen()?;
    let file = |name: &str| report.cat[format!("/proc/self/{name}")].text().to_owned();
    same("oom_score_adj", "321", &*file("oom_score_adj"))?;
    same("coredump_filter", "00000011", &*file("coredump_filter"))?;
    same("timer slack", &*SLACK.to_string(), &*file("timerslack_ns"))?;
    same("nice", 3, report.scheduler.nice)?;
    same("ioprio", (2 << 13) | 6, report.ioprio)?;
    same("RLIMIT_CORE", [0, 0], report.rlimits[4])?;
    same("no_new_privs", 1, report.no_new_privs)?;
    let has_thp = file("status")
        .lines()
        .find_map(|line| line.strip_prefix("THP_enabled:\t").map(str::to_owned));
    same("THP_enabled", Some("0"), has_thp.as_deref())
}

fn parent_death_signal_and_subreaper_are_not(c: &mut Case) -> Check {
    c.args(&["/bin/probe"]);
    let change = || {
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1 as libc::c_ulong)?;
        prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
    };
    let report = run(c, change)?.ok()?.seen()?;
    same("parent-death signal", 0, report.death_signal)?;
    same("subreaper", 0, report.subreaper)
}

/// Nor does what glibc would read of it change anything.
fn environment_is_not(c: &mut Case) -> Check {
    let variables = [
        ("LD_PRELOAD", "/no/such/library.so"),
        ("LD_LIBRARY_PATH", "/no/such/place"),
        ("GLIBC_TUNABLES", "glibc.malloc.check=3:glibc.malloc.perturb=165"),
        ("MALLOC_ARENA_MAX", "1"),
        ("RUST_BACKTRACE", "full"),
        ("PATH", "/no/such/place"),
        ("HOME", "/no/such/home"),
        ("TMPDIR", "/no/such/tmp"),
    ];
    c.args(&["/bin/env"]);
    let words = c.bundle_args("run", &[], &c.id)?;
    let mut command = c.command();
    command.envs(variables);
    let run = runner::start(command.args(&words), &c.dir)?.finish()?.ok()?;
    let mut found: Vec<&str> = run.stdout.lines().collect();
    found.sort_unstable();
    same(
        "environment",
        ["HOME=/root", "PATH=/bin", "TERM=xterm"].as_slice(),
        &found,
    )
}

/// It does its work, or says in a line why not.
fn stack_that_is_too_small_is_told(c: &mut Case) -> Check {
    for kib in [16, 24, 32, 48, 64, 128] {
        let run = run(c, move || {
            limit(libc::RLIMIT_STACK, kib << 10, libc::RLIM_INFINITY)
        })?;
        let is_told = run.code() != 0 && run.stderr.lines().count() == 1;
        ensure!(run.code() == 0 || is_told, "{kib} KiB: {}", run.report());
        c.delete()?;
    }
    c.nothing_left()
}

/// Answers the call with EIO.
fn fail_call(number: libc::c_long) -> io::Result<()> {
    /// `offsetof(struct seccomp_data, nr)` is 0.
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let code = |code: u32, skip: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k,
    };
    let mut filter = [
        code(LOAD_NUMBER.into(), 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number as u32),
        code(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EIO as u32,
        ),
        code(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its four instructions are live, and copied by the kernel.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) as i32 })
}

fn filter_that_fails_a_call_of_the_start_is_told(c: &mut Case) -> Check {
    let calls = [
        ("ppoll", libc::SYS_ppoll),
        ("rt_sigaction", libc::SYS_rt_sigaction),
        ("sigaltstack", libc::SYS_sigaltstack),
        ("prlimit64", libc::SYS_prlimit64),
        ("getrandom", libc::SYS_getrandom),
        ("close_range", libc::SYS_close_range),
        ("readlinkat", libc::SYS_readlinkat),
        ("openat2", libc::SYS_openat2),
        ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
        ("signalfd4", libc::SYS_signalfd4),
        ("socketpair", libc::SYS_socketpair),
    ];
    for (name, number) in calls {
        let run = run(c, move || fail_call(number))?;
        let is_told = run.code() == 1 && run.stderr.lines().count() == 1;
        ensure!(run.code() == 0 || is_told, "{name}: {}", run.report());
        c.nothing_left()?;
    }
    Ok(())
}

fn on_first_cpu() -> io::Result<()> {
    // SAFETY: a set of integers, for which zeroes are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is a place in it.
    unsafe { libc::CPU_SET(0, &mut set) };
    // SAFETY: the set is as large as said.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })
}

fn cpus_of(status: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap_or_default().trim().to_owned()
}

const CPUS: [&str; 3] = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];

/// `run`, `create`, and `exec` into the latter, by a caller on CPU 0 alone.
fn has_cpus(c: &mut Case, globals: &[&str], wish: &str) -> Check {
    let words = |c: &Case, command: &str| -> Check<Vec<std::ffi::OsString>> {
        let mut words: Vec<_> = globals.iter().map(Into::into).collect();
        words.extend(c.bundle_args(command, &[], &c.id)?);
        Ok(words)
    };
    c.args(&CPUS);
    let run = rt(c, &words(c, "run")?, on_first_cpu)?.ok()?;
    same("run", wish, &*cpus_of(&run.stdout))?;
    c.args(&["/bin/sleep", "1000"]);
    rt(c, &words(c, "create")?, on_first_cpu)?.ok()?;
    rt(c, &["start", &c.id], on_first_cpu)?.ok()?;
    let status = fs::read_to_string(Path::new("/proc").join(c.pid()?.to_string()).join("status"))?;
    same("create", wish, &*cpus_of(&status))?;
    let exec = rt(c, &[["exec", &c.id].as_slice(), &CPUS].concat(), on_first_cpu)?.ok()?;
    same("exec", wish, &*cpus_of(&exec.stdout))
}

fn cpu_affinity(c: &mut Case) -> Check {
    let wish = cpus_of(&fs::read_to_string("/proc/self/status")?);
    has_cpus(c, &[], &wish)
}

fn cpu_affinity_and_a_cpuset(c: &mut Case) -> Check {
    c.resources().cpu().clear().cpus("1");
    has_cpus(c, &[], "1")?;
    c.delete()?;
    c.resources().cpu().clear().cpus("0-1");
    has_cpus(c, &[], "0-1")
}

fn cpu_affinity_and_a_unit_of_systemd(c: &mut Case) -> Check {
    c.config["linux"]["cgroupsPath"] = json!(format!("system.slice:st:{}", c.id));
    has_cpus(
        c,
        &["--systemd-cgroup"],
        &cpus_of(&fs::read_to_string("/proc/self/status")?),
    )?;
    c.delete()?;
    c.resources().cpu().clear().cpus("1");
    has_cpus(c, &["--systemd-cgroup"], "1")
}
