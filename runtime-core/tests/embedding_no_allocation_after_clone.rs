//! After `clone3` the child must not touch the heap: a thread of the embedding program may have held the
//! allocator's lock. The allocator of this program ends every process but its own; all paths of the child are
//! taken. Needs root.

#[path = "support/bundle.rs"]
mod bundle;
#[path = "support/guard.rs"]
mod guard;

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use bundle::{Bundle, shell};
use runtime_core::{CgroupDriver, Console, ContainerId, CreateOptions, ErrorKind, ExecOptions, Runtime};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: guard::Guard = guard::Guard;

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A container of one test, gone with the value. Dropping it also says whether a child has used the heap.
struct Fixture {
    bundle: Bundle,
    runtime: Runtime,
    id: ContainerId,
}

impl Fixture {
    fn new(name: &str) -> Self {
        guard::arm();
        let bundle = Bundle::new();
        let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
        let id = ContainerId::new(format!("embed-heap-{}-{name}", std::process::id())).unwrap();
        Self { bundle, runtime, id }
    }

    /// `change` makes the document; the program sleeps.
    fn with(name: &str, change: impl FnOnce(&mut Value, &Bundle)) -> Self {
        let mut fixture = Self::new(name);
        let mut config = fixture.bundle.config.take();
        config["process"]["args"] = json!(["/bin/sleep", "1000"]);
        change(&mut config, &fixture.bundle);
        fixture.bundle.config = config;
        fixture.bundle.write();
        fixture
    }

    /// The whole life: create, start, a line of shell by exec with and without a terminal, kill, delete.
    fn live(&self, options: CreateOptions, check: &str) {
        let init = self.runtime.create(&self.id, options).unwrap();
        no_child_was_caught();
        self.runtime.start(&self.id).unwrap();
        let joined = self.runtime.exec(&self.id, shell(check)).unwrap();
        assert_eq!(joined.wait().unwrap().code(), Some(0), "{check}");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let with_terminal = shell("test -t 0")
            .tty(true)
            .console(Console::Socket(theirs.into()));
        let joined = self.runtime.exec(&self.id, with_terminal).unwrap();
        let _master = runtime_core::receive_terminal(&ours).unwrap();
        assert_eq!(joined.wait().unwrap().code(), Some(0), "exec has no terminal");
        self.runtime.kill(&self.id, libc::SIGKILL, false).unwrap();
        assert_eq!(init.wait().unwrap().signal(), Some(libc::SIGKILL));
        self.runtime.delete(&self.id, false).unwrap();
        no_child_was_caught();
    }

    /// `create`, or `start` after it, fails with all of these words.
    fn fails(&self, words: &[&str]) -> ErrorKind {
        let made = self.runtime.create(&self.id, self.bundle.options());
        let error = match made {
            Err(error) => error,
            Ok(init) => {
                let error = self.runtime.start(&self.id).unwrap_err();
                init.wait().unwrap();
                error
            }
        };
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        no_child_was_caught();
        error.kind()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let deleted = self.runtime.delete(&self.id, true);
        // A test that fails already must not end the process by a second panic.
        if !std::thread::panicking() {
            deleted.unwrap();
        }
    }
}

fn no_child_was_caught() {
    assert_eq!(
        guard::caught(),
        0,
        "a child has used the heap: see standard error"
    );
}

/// Everything of config.json that the child does something for.
fn rich(config: &mut Value, bundle: &Bundle) {
    let out = bundle.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("copied/deep")).unwrap();
    std::fs::write(bundle.rootfs().join("copied/deep/file"), "content").unwrap();
    std::os::unix::fs::symlink("deep/file", bundle.rootfs().join("copied/link")).unwrap();
    let file = bundle.path().join("file");
    std::fs::write(&file, "bound").unwrap();

    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.extend([
        json!({"destination": "/out", "type": "bind", "source": out, "options": ["rbind", "rw", "nosuid"]}),
        json!({"destination": "/new/file", "type": "bind", "source": file, "options": ["bind", "ro"]}),
        json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]}),
    ]);
    let process = &mut config["process"];
    process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 2000], "umask": 0o027});
    process["terminal"] = true.into();
    process["consoleSize"] = json!({"height": 40, "width": 100});
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    process["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    process["oomScoreAdj"] = 100.into();
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
    process["cwd"] = "/made/by/onggi".into();
    config["root"]["readonly"] = false.into();
    config["domainname"] = "example.org".into();
    let linux = &mut config["linux"];
    linux["devices"] =
        json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o666, "uid": 1000, "gid": 1000}]);
    linux["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"});
    linux["personality"] = json!({"domain": "LINUX"});
    linux["rootfsPropagation"] = "private".into();
    linux["maskedPaths"] = json!([
        "/proc/kcore",
        "/proc/keys",
        "/sys/firmware",
        "/proc/acpi",
        "/sys/block",
        "/nowhere"
    ]);
    linux["readonlyPaths"] = json!(["/proc/sys", "/proc/bus", "/nowhere"]);
    let profile = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../spec-tests/fixtures/seccomp-default.json"
    );
    linux["seccomp"] = serde_json::from_str(&std::fs::read_to_string(profile).unwrap()).unwrap();
    config["hooks"] = HOOKS
        .iter()
        .map(|name| {
            let place = if *name == "startContainer" {
                "/out"
            } else {
                out.to_str().unwrap()
            };
            (
                name.to_string(),
                json!([hook(&format!("/bin/cat > {place}/{name}"))]),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
}

fn hook(line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 10})
}

/// What `rich` has asked for, asked back from inside.
const RICH: &str = "grep -qx bound /new/file; grep -qx content /copied/link; test -p /dev/pipe; test -c /dev/null; \
    grep -qx 1 /proc/sys/net/ipv4/ip_forward; test ! -s /proc/keys; grep -q 'Seccomp:.2' /proc/self/status; \
    grep -q 'CapBnd:.0000000000000021' /proc/self/status; grep -q 'Groups:.5 2000' /proc/self/status; \
    grep -q 'Max open files *100 *200' /proc/self/limits; test \"$PWD\" = /made/by/onggi; test -t 0 || test ! -t 0";

/// Runs the rich container with its terminal on a console socket, and looks at what its hooks have written.
fn live_rich(fixture: &Fixture, check: &str) {
    let socket = fixture.bundle.path().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let terminal = std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        runtime_core::receive_terminal(&connection).unwrap()
    });
    let options = fixture.bundle.options().console(Console::Path(socket));
    fixture.live(options, check);
    drop(terminal.join().unwrap());
    for name in HOOKS {
        let state = std::fs::read_to_string(fixture.bundle.path().join("out").join(name)).unwrap();
        assert!(state.contains(fixture.id.as_str()), "{name} got {state:?}");
    }
}

fn add_user_namespace(config: &mut Value) {
    let linux = &mut config["linux"];
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    for mappings in ["uidMappings", "gidMappings"] {
        linux[mappings] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    // A user namespace with the host's priority cannot be asked for more, and files of the host's root are
    // not its own.
    config["process"].as_object_mut().unwrap().remove("oomScoreAdj");
}

#[test]
fn a_container_with_everything() {
    let fixture = Fixture::with("rich", rich);
    live_rich(&fixture, RICH);
}

#[test]
fn a_container_with_everything_in_a_user_namespace() {
    let fixture = Fixture::with("user", |config, bundle| {
        rich(config, bundle);
        add_user_namespace(config);
        shift_owner(bundle);
    });
    live_rich(
        &fixture,
        &format!("{RICH}; grep -q ' 100000 ' /proc/self/uid_map"),
    );
}

/// The rootfs belongs to root of the user namespace.
fn shift_owner(bundle: &Bundle) {
    let mut open = vec![bundle.rootfs()];
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(100_000), Some(100_000)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
}

#[test]
fn a_container_with_everything_and_clock_offsets_made_by_intermediate() {
    let fixture = Fixture::with("time", |config, bundle| {
        rich(config, bundle);
        let linux = &mut config["linux"];
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        linux["timeOffsets"] = json!({"boottime": {"secs": 100_000_000, "nanosecs": 5}});
    });
    live_rich(&fixture, &format!("{RICH}; grep -qE '^1[0-9]{{8}}' /proc/uptime"));
}

#[test]
fn a_container_in_the_user_namespace_of_another_made_by_intermediate() {
    let first = Fixture::with("first", |config, bundle| {
        add_user_namespace(config);
        shift_owner(bundle);
    });
    let owner = first.runtime.run(&first.id, first.bundle.options()).unwrap();
    let second = Fixture::with("second", |config, bundle| {
        shift_owner(bundle);
        let path = format!("/proc/{}/ns/user", owner.pid());
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user", "path": path}));
    });
    second.live(second.bundle.options(), "grep -q ' 100000 ' /proc/self/uid_map");
    owner.kill(libc::SIGKILL).unwrap();
    owner.wait().unwrap();
}

#[test]
fn what_fails_in_the_child() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &[&str]); 9] = [
        (
            "hook",
            |config| config["hooks"]["createContainer"] = json!([hook("echo no luck; exit 3")]),
            &["createContainer hook #0", "exit status 3", "no luck"],
        ),
        (
            "late-hook",
            |config| config["hooks"]["startContainer"] = json!([hook("kill -9 $$")]),
            &["startContainer hook #0", "signal: killed"],
        ),
        (
            "slow-hook",
            |config| {
                config["hooks"]["createContainer"] =
                    json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
            },
            &["createContainer hook #0", "specified timeout of 1s"],
        ),
        (
            "no-hook",
            |config| config["hooks"]["createContainer"] = json!([{"path": "/nowhere/hook"}]),
            &["createContainer hook #0", "/nowhere/hook", "no such file"],
        ),
        (
            "no-program",
            |config| config["process"]["args"] = json!(["nothing"]),
            &["executable file not found in $PATH"],
        ),
        (
            "no-file",
            |config| config["process"]["args"] = json!(["/bin/nothing"]),
            &["exec: \"/bin/nothing\": stat /bin/nothing: no such file or directory"],
        ),
        (
            "no-executable",
            |config| config["process"]["args"] = json!(["/script"]),
            &["exec", "exec format error"],
        ),
        (
            "mount",
            |config| {
                config["mounts"][1]["options"] = json!(["size=much"]);
            },
            &["mounts[1]", "/dev", "fsconfig", "invalid argument"],
        ),
        (
            "sysctl",
            |config| config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "nonsense"}),
            &["linux.sysctl[net.ipv4.ip_forward]", "write", "invalid argument"],
        ),
    ];
    for (name, change, words) in cases {
        let fixture = Fixture::with(name, |config, bundle| {
            let script = bundle.rootfs().join("script");
            std::fs::write(&script, "no program").unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            change(config);
        });
        let kind = fixture.fails(words);
        assert_eq!(
            kind == ErrorKind::Hook,
            name.ends_with("hook"),
            "{name}: {kind:?}"
        );
    }
}

#[test]
fn what_fails_in_a_joining_process() {
    let fixture = Fixture::with("exec-fails", |_, _| {});
    let init = fixture
        .runtime
        .run(&fixture.id, fixture.bundle.options())
        .unwrap();
    for (options, words) in [
        (
            ExecOptions::default().args(["nothing".into()]),
            "executable file not found in $PATH",
        ),
        (
            shell("true").cwd(std::path::PathBuf::from("/proc/self/fd/3")),
            "process.cwd",
        ),
    ] {
        let text = fixture
            .runtime
            .exec(&fixture.id, options)
            .unwrap_err()
            .to_string();
        assert!(text.contains(words), "{text}");
    }
    no_child_was_caught();
    init.kill(libc::SIGKILL).unwrap();
    init.wait().unwrap();
}

/// The guard itself: a forked child that allocates is ended and counted, one that does not is left alone.
#[test]
fn the_guard_ends_a_child_that_allocates() {
    guard::arm();
    let (status, printed, count) = in_a_fork(|| drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!(status.code(), Some(guard::CAUGHT));
    assert_eq!(printed, guard::MARK);
    assert_eq!(count, 1);

    let kept = vec![1u8; 100];
    let (status, printed, count) = in_a_fork(move || drop(std::hint::black_box(kept)));
    assert_eq!(status.code(), Some(guard::CAUGHT), "freeing is no better");
    assert_eq!((printed.as_str(), count), (guard::MARK, 1));

    let (status, printed, count) = in_a_fork(|| {
        std::hint::black_box([1u8; 100]);
    });
    assert_eq!(status.code(), Some(0));
    assert_eq!((printed.as_str(), count), ("", 0));
}

/// Runs `work` in a forked child that counts by itself: status, standard error, and the count.
fn in_a_fork(work: impl FnOnce()) -> (ExitStatus, String, u32) {
    let (output, input) = rustix::pipe::pipe().unwrap();
    let count = guard::shared_count();
    // SAFETY: the child makes system calls only, as far as `work` does, which is what is tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        guard::count_in(count);
        // SAFETY: both are open descriptors.
        unsafe { libc::dup2(input.as_raw_fd(), 2) };
        work();
        // SAFETY: ends the child without running anything of the test's.
        unsafe { libc::_exit(0) };
    }
    drop(input);
    let mut printed = String::new();
    std::fs::File::from(output).read_to_string(&mut printed).unwrap();
    let mut status = 0;
    // SAFETY: the status is a live int, the pid that of our child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    (
        ExitStatus::from_raw(status),
        printed,
        count.load(std::sync::atomic::Ordering::SeqCst),
    )
}
