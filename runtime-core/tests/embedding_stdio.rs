//! An embedding program that gives each process its own standard input, output and error, and further files
//! by number: they are the program's, and nothing else of this program is. Needs root.

#[path = "support/bundle.rs"]
mod bundle;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bundle::{Bundle, shell};
use runtime_core::{CgroupDriver, ContainerId, ErrorKind, Runtime, Stdio};
use serde_json::json;

struct Fixture {
    bundle: Bundle,
    runtime: Runtime,
    id: ContainerId,
}

impl Fixture {
    fn new(name: &str, line: &str) -> Self {
        let mut bundle = Bundle::new();
        bundle.config["process"]["args"] = json!(["/bin/sh", "-ec", line]);
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/embedding-stdio-{name}"));
        bundle.write();
        Self {
            runtime: Runtime::new(bundle.states(), CgroupDriver::Fs),
            id: ContainerId::new(name).unwrap(),
            bundle,
        }
    }
}

fn fds() -> ((PipeReader, OwnedFd), (OwnedFd, PipeWriter)) {
    let (read, write) = pipe().unwrap();
    let (other_read, other_write) = pipe().unwrap();
    ((read, write.into()), (other_read.into(), other_write))
}

fn all_of(mut from: PipeReader) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn init_and_exec_have_what_they_were_given() {
    let fixture = Fixture::new(
        "given",
        "cat; echo out; echo error >&2; read line <&3; exec sleep 1000",
    );
    let ((output, stdout), (stdin, mut input)) = fds();
    let (errors, stderr) = pipe().unwrap();
    // Ends when the container does.
    let (kept_open, mut release) = pipe().unwrap();
    let options = fixture.bundle.options();
    let options = options
        .stdin(stdin)
        .stdout(stdout)
        .stderr(OwnedFd::from(stderr))
        .descriptors([(OwnedFd::from(kept_open), 3)]);
    let init = fixture.runtime.run(&fixture.id, options).unwrap();
    input.write_all(b"in\n").unwrap();
    drop(input);

    let ((joined_output, stdout), (stdin, mut input)) = fds();
    let options = shell("cat; echo joined").stdin(stdin).stdout(stdout);
    let joined = fixture.runtime.exec(&fixture.id, options).unwrap();
    assert!(joined.try_wait().unwrap().is_none());
    input.write_all(b"more\n").unwrap();
    drop(input);
    assert_eq!(joined.wait().unwrap().code(), Some(0));
    assert_eq!(all_of(joined_output), "more\njoined\n");

    // It has said all when it reads from the last one, and goes on.
    let mut lines = BufReader::new(output).lines();
    assert_eq!(
        [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()],
        ["in", "out"]
    );
    assert_eq!(BufReader::new(errors).lines().next().unwrap().unwrap(), "error");
    release.write_all(b"go\n").unwrap();
    fixture.runtime.kill(&fixture.id, libc::SIGKILL, false).unwrap();
    init.wait().unwrap();
    fixture.runtime.delete(&fixture.id, false).unwrap();
    assert!(lines.next().is_none());
}

#[test]
fn null_is_empty_and_takes_everything() {
    let fixture = Fixture::new(
        "null",
        "cat; echo lost; echo lost >&2; exec >&3; for fd in 0 2; do stat -L -c %t:%T /proc/$$/fd/$fd; done",
    );
    let options = fixture.bundle.options();
    let (seen, tell) = pipe().unwrap();
    let options = options.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
    let options = options.descriptors([(OwnedFd::from(tell), 3)]);
    let init = fixture.runtime.run(&fixture.id, options).unwrap();
    assert_eq!(init.wait().unwrap().code(), Some(0));
    fixture.runtime.delete(&fixture.id, false).unwrap();
    assert_eq!(all_of(seen), "1:3\n1:3\n");
}

/// Numbers that lie crosswise, far above what is open, and one that this program has something else at.
#[test]
fn numbers_are_as_asked_and_nothing_else_is_open() {
    let fixture = Fixture::new(
        "numbers",
        "cat <&9 >&1; cat <&40 >&1; cat <&3 >&1; for fd in /proc/$$/fd/*; do if [ -L $fd ]; then echo ${fd##*/}; fi; done",
    );
    let file = |name: &str| {
        let path = fixture.bundle.path().join(name);
        std::fs::write(&path, format!("{name}\n")).unwrap();
        File::open(path).unwrap()
    };
    // Whatever they are here: each is to get the number of another.
    let (first, second, third) = (file("first"), file("second"), file("third"));
    let taken = first.as_raw_fd();
    assert!(taken != 9 && taken != 40);
    let (output, stdout) = pipe().unwrap();
    let options = fixture.bundle.options();
    let options = options
        .stdin(Stdio::Null)
        .stdout(OwnedFd::from(stdout))
        .descriptors([
            (OwnedFd::from(first), 9),
            (OwnedFd::from(second), 40),
            (OwnedFd::from(third), 3),
        ]);
    let init = fixture.runtime.run(&fixture.id, options).unwrap();
    assert_eq!(init.wait().unwrap().code(), Some(0));
    fixture.runtime.delete(&fixture.id, false).unwrap();
    let seen = all_of(output);
    let mut lines = seen.lines();
    assert_eq!(
        [lines.next(), lines.next(), lines.next()],
        [Some("first"), Some("second"), Some("third")]
    );
    // 10 and above the shell may have for itself.
    let numbers: Vec<_> = lines
        .filter(|number| number.len() == 1 || *number == "40")
        .collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "40", "9"], "{seen}");
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_left() {
    let fixture = Fixture::new("refused", "true");
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    for (numbers, text) in [
        ([2, 5], "descriptors: 2 is below 3, or given twice"),
        ([7, 7], "descriptors: 7 is below 3, or given twice"),
    ] {
        let options = fixture
            .bundle
            .options()
            .descriptors(numbers.map(|number| (null(), number)));
        let error = fixture.runtime.run(&fixture.id, options).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Invalid, text.to_owned())
        );
    }
    let options = fixture.bundle.options().descriptors([(null(), 1 << 30)]);
    let error = fixture.runtime.run(&fixture.id, options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pass on a file as number 1073741824: fcntl(F_DUPFD_CLOEXEC): invalid argument (RLIMIT_NOFILE of the runtime)"
    );
    assert!(fixture.runtime.list().unwrap().is_empty());
}

/// A container may outlive the program that has made it; whoever comes then takes hold of it by its record.
#[test]
fn a_container_can_be_adopted() {
    let fixture = Fixture::new("adopted", "exec sleep 1000");
    let init = fixture
        .runtime
        .run(&fixture.id, fixture.bundle.options().stdin(Stdio::Null))
        .unwrap();
    let other = Runtime::new(fixture.bundle.states(), CgroupDriver::Fs);
    let adopted = other.process(&fixture.id).unwrap();
    assert_eq!(adopted.pid(), init.pid());
    assert!(adopted.try_wait().unwrap().is_none());
    adopted.kill(libc::SIGTERM).unwrap();
    adopted.kill(libc::SIGKILL).unwrap();
    assert!(adopted.wait().is_ok());
    let error = other.process(&fixture.id).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (
            ErrorKind::WrongStatus,
            "container with id adopted is not running".to_owned()
        )
    );
    fixture.runtime.delete(&fixture.id, false).unwrap();
}

/// Between the look at which numbers are free and the birth of the child other threads of the program open
/// and close files.
#[test]
fn numbers_are_as_asked_beside_threads_that_open_and_close_files() {
    let fixture = Fixture::new("beside", "for fd in 5 6 7 8 9; do eval cat '<&'$fd; done");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop([(); 9].map(|()| File::open("/dev/null").unwrap()));
                }
            });
        }
        let rounds = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for round in 0..100 {
                let (output, stdout) = pipe().unwrap();
                let descriptors = [5, 6, 7, 8, 9].map(|number| {
                    let (read, mut write) = pipe().unwrap();
                    writeln!(write, "{number}").unwrap();
                    (OwnedFd::from(read), number)
                });
                let options = fixture.bundle.options().descriptors(descriptors);
                let options = options.stdin(Stdio::Null).stdout(OwnedFd::from(stdout));
                let init = fixture.runtime.run(&fixture.id, options).unwrap();
                assert_eq!(init.wait().unwrap().code(), Some(0));
                fixture.runtime.delete(&fixture.id, false).unwrap();
                assert_eq!(all_of(output), "5\n6\n7\n8\n9\n", "round {round}");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        rounds.unwrap();
    });
}
