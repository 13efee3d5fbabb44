//! Runs in: RUNTIME. The hooks that run in the runtime's namespaces: prestart, createRuntime, poststart,
//! poststop. What a failure means to the container is decided elsewhere; createContainer and startContainer
//! run in INIT.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use runtime_init::args::HostHookArgs;
use runtime_init::start::{self, Birth, Child};
use runtime_sys::process::ExecVector;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::host::process::reap;
use crate::host::process::signals;

use crate::error::CallResult;
use crate::{Cancel, Error, ErrorKind, Result, cancel};

/// How long a hook that was killed may take to end.
const DEATH: Duration = Duration::from_secs(10);
/// How much of the end of stdout, and of stderr, an error quotes.
const QUOTED: usize = 4096;

/// Runs the hooks one after the other, up to the first that fails. `list` is the name of the list in
/// config.json, as in `createRuntime`; `state` is the container's state in JSON, which each hook gets on its
/// stdin. Without hooks nothing happens.
///
/// # Errors
/// [`ErrorKind::Hook`] with runc's text
/// `error running createRuntime hook #0: exit status 1, stdout: , stderr: `.
pub(crate) fn run(list: &str, hooks: &[Hook], told: Told<'_>, terms: Terms<'_>) -> Result<()> {
    hooks
        .iter()
        .enumerate()
        .try_for_each(|(index, hook)| run_one(list, index, hook, told, terms))
}

/// What a hook gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The container's state, on standard input.
    pub state: &'a [u8],
    /// Its working directory, if that is there: the bundle, on which hooks of the peers rely.
    pub directory: Option<&'a Path>,
    /// Where what it prints goes.
    pub files: &'a OutputFiles,
}

/// Files to which hooks write, by crun's annotations `run.oci.hooks.stdout` and `run.oci.hooks.stderr`.
/// Without one what they print is kept, to be quoted should they fail.
#[derive(Debug, Default)]
pub(crate) struct OutputFiles {
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

impl OutputFiles {
    /// Opens them to be appended to, and makes them where they are missing. Names are relative to the bundle.
    ///
    /// # Errors
    /// The failed call, with the annotation and the path.
    pub(crate) fn open(annotations: &BTreeMap<String, String>, bundle: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = annotations.get(name).map(|file| bundle.join(file));
            path.map(|path| {
                open_to_append(&path).map_err(|(call, errno)| {
                    Error::os(call, errno)
                        .with_field(format!("annotations[{name}]"))
                        .with_path(&path)
                })
            })
            .transpose()
        };
        Ok(Self {
            stdout: open("run.oci.hooks.stdout")?,
            stderr: open("run.oci.hooks.stderr")?,
        })
    }
}

fn open_to_append(path: &Path) -> std::result::Result<OwnedFd, (&'static str, Errno)> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    // A fifo that nobody reads must not hold us; those who write wait as always.
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| ("open", errno))?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND).map_err(|errno| ("fcntl", errno))?;
    Ok(file)
}

/// What holds for a hook, besides what its entry in config.json says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The caller gives up.
    pub cancel: &'a Cancel,
    /// Then those that still run are ended, and others have no time left.
    pub at: Option<Instant>,
    /// Soft and hard limit of open files, if not our own.
    pub open_files: Option<(u64, u64)>,
}

/// Runs all the hooks, also after one has failed (poststop), and returns the failures.
pub(crate) fn run_all(list: &str, hooks: &[Hook], told: Told<'_>, terms: Terms<'_>) -> Vec<Error> {
    hooks
        .iter()
        .enumerate()
        .filter_map(|(index, hook)| run_one(list, index, hook, told, terms).err())
        .collect()
}

fn run_one(list: &str, index: usize, hook: &Hook, told: Told<'_>, terms: Terms<'_>) -> Result<()> {
    spawn_and_wait(list, index, hook, told, terms).map_err(|error| {
        let kind = match error.kind() {
            kind @ (ErrorKind::Invalid | ErrorKind::Interrupted) => kind,
            _ => ErrorKind::Hook,
        };
        error
            .with_kind(kind)
            .doing(format!("error running {list} hook #{index}"))
    })
}

fn spawn_and_wait(list: &str, index: usize, hook: &Hook, told: Told<'_>, terms: Terms<'_>) -> Result<()> {
    let cancel = terms.cancel;
    let field = |name| format!("hooks.{list}[{index}].{name}");
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(Error::invalid(field("timeout"), "must be greater than zero")),
        },
    };
    let left = terms.at.map(|at| at.saturating_duration_since(Instant::now()));
    let limit = limit.into_iter().chain(left).min();
    // A relative one would be looked for in PATH or the working directory of whoever calls the runtime.
    if !hook.path().is_absolute() {
        return Err(Error::invalid(
            field("path"),
            format!("{:?} is not absolute", hook.path()),
        ));
    }
    // What ends the hook shall end what it has started, too. A hook that nothing ends stays in the caller's
    // process group, where ctrl-C reaches it.
    let has_own_group = limit.is_some() || cancel.may_come();
    let (child, [mut stdout, mut stderr]) = start(hook, told, has_own_group, terms)?;
    let exited = match follow(&child, [&mut stdout, &mut stderr], limit, cancel) {
        Ok(exited) => exited,
        Err(error) => {
            // Nothing may outlive a failed call.
            return Err(match kill(&child, has_own_group) {
                Ok(()) => error,
                Err(second) => error.and(second),
            });
        }
    };
    if !exited {
        kill(&child, true)?;
        let seconds = limit.unwrap_or_default().as_secs();
        return Err(Error::new(
            ErrorKind::Hook,
            format!(
                "hook ran past specified timeout of {seconds}s{}",
                quoted(&stdout, &stderr)
            ),
        ));
    }
    let status = reap(child.pidfd.as_fd())?;
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Hook,
        format!("{}{}", described(status), quoted(&stdout, &stderr)),
    ))
}

/// Makes the process, and returns when it has become the hook's program.
fn start(hook: &Hook, told: Told<'_>, own_group: bool, terms: Terms<'_>) -> Result<(Child, [Output; 2])> {
    let text = |text: &[u8]| {
        CString::new(text)
            .map_err(|_| Error::new(ErrorKind::Hook, "holds a null byte").with_path(hook.path()))
    };
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call("pipe2");
    let path = text(hook.path().as_os_str().as_bytes())?;
    let argv = argv(hook)
        .iter()
        .map(|word| text(word))
        .collect::<Result<Vec<_>>>()?;
    let envp = envp(hook)
        .iter()
        .map(|entry| text(entry))
        .collect::<Result<Vec<_>>>()?;
    let mut argv_room = vec![std::ptr::null(); argv.len() + 1];
    let mut envp_room = vec![std::ptr::null(); envp.len() + 1];
    let (input, failure) = (state_file(told.state)?, pipe()?);
    let [stdout, stderr] = [&told.files.stdout, &told.files.stderr].map(|file| match file {
        Some(file) => Ok((None, file.try_clone().call("fcntl")?)),
        None => pipe().map(|(read, write)| (Some(read), write)),
    });
    let (stdout, stderr) = (stdout?, stderr?);
    // Whoever deletes a container may have removed its bundle before.
    let directory = told.directory.and_then(open_directory);
    let child = start::start(
        Birth::default(),
        &HostHookArgs {
            path: &path,
            argv: ExecVector::new(&mut argv_room, &argv),
            envp: ExecVector::new(&mut envp_room, &envp),
            stdio: [input.as_fd(), stdout.1.as_fd(), stderr.1.as_fd()],
            directory: directory.as_ref().map(AsFd::as_fd),
            own_group,
            open_files: terms.open_files,
            failure: failure.1.as_fd(),
        },
    )?;
    drop(failure.1);
    let begun = terms
        .cancel
        .wait_readable(failure.0.as_fd())
        .and_then(|()| begun(&failure.0, hook));
    match begun {
        Ok(()) => Ok((child, [Output::new(stdout.0), Output::new(stderr.0)])),
        // A file server that does not answer may hold it before it is the leader of a group.
        Err(error) => Err(match kill(&child, false) {
            Ok(()) => error,
            Err(second) => error.and(second),
        }),
    }
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened
        .inspect_err(|errno| log::debug!("{} is no working directory for a hook: {errno}", path.display()))
        .ok()
}

/// The end of the pipe says that the program runs; before it comes why it does not.
fn begun(failure: &OwnedFd, hook: &Hook) -> Result<()> {
    let mut errno = [0; 4];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(failure, &mut errno)).call("read")?;
    match length {
        0 => Ok(()),
        _ => {
            let errno = Errno::from_raw_os_error(i32::from_ne_bytes(errno));
            Err(Error::os("execve", errno).with_path(hook.path()))
        }
    }
}

/// args[0] is the name that the program sees; without args it is the path.
fn argv(hook: &Hook) -> Vec<Vec<u8>> {
    match hook.args().as_deref() {
        Some(args @ [_, ..]) => args.iter().map(|word| word.clone().into_bytes()).collect(),
        _ => vec![hook.path().as_os_str().as_bytes().to_vec()],
    }
}

/// As runc: an absent list inherits the runtime's environment, an empty one is empty.
fn envp(hook: &Hook) -> Vec<Vec<u8>> {
    let Some(env) = hook.env() else {
        let entry = |(name, value): (OsString, OsString)| [name.into_vec(), value.into_vec()].join(&b'=');
        return std::env::vars_os().map(entry).collect();
    };
    // An entry without `=` is no variable: getenv(3) does not find it. Of several with the same name the last
    // counts.
    let name = |entry: &str| entry.split_once('=').map(|(name, _)| name.to_owned());
    let is_last = |place: usize, own: &str| {
        env[place + 1..]
            .iter()
            .all(|later| name(later).as_deref() != Some(own))
    };
    env.iter()
        .enumerate()
        .filter(|(place, entry)| name(entry).is_some_and(|own| !own.is_empty() && is_last(*place, &own)))
        .map(|(_, entry)| entry.clone().into_bytes())
        .collect()
}

/// The state as a file to read from. Not a pipe: a hook that reads nothing then blocks no one, and there is
/// no SIGPIPE, which in a library could not be caught.
fn state_file(state: &[u8]) -> Result<OwnedFd> {
    let os = |call, errno| Error::os(call, errno).doing("prepare the state for stdin");
    let create = |flags| rustix::fs::memfd_create("state", flags);
    // Linux >= 6.3 with vm.memfd_noexec=2 wants the second flag; earlier kernels do not know it.
    let file = match create(MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => create(MemfdFlags::CLOEXEC),
        file => file,
    };
    let file = file.map_err(|errno| os("memfd_create", errno))?;
    let mut rest = state;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))
            .map_err(|errno| os("write", errno))?;
        rest = &rest[written..];
    }
    rustix::fs::seek(&file, SeekFrom::Start(0)).map_err(|errno| os("lseek", errno))?;
    Ok(file)
}

/// Reads the output until the hook has exited (true) or its time is up (false). It is the exit that counts,
/// not the end of the output: a process that the hook leaves in the background may keep the pipes for ever.
fn follow(
    child: &Child,
    [stdout, stderr]: [&mut Output; 2],
    limit: Option<Duration>,
    cancel: &Cancel,
) -> Result<bool> {
    let os = |call, errno| Error::os(call, errno).doing("wait for the hook");
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let pidfd = &child.pidfd;
    for output in [&*stdout, &*stderr] {
        let Some(pipe) = &output.pipe else { continue };
        rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK).map_err(|errno| os("fcntl", errno))?;
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        // The longest time that fits is no limit in practice.
        let left = left.map(|left| {
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            })
        });
        let mut polled = vec![PollFd::new(pidfd, PollFlags::IN)];
        let pipes = [&*stdout, &*stderr];
        polled.extend(
            pipes
                .iter()
                .filter_map(|o| o.pipe.as_ref())
                .map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        // After the others, whose places count.
        polled.extend(cancel.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(os("poll", errno)),
        }
        // Looked at before the last reading, which then has everything that the hook itself wrote.
        let exited = !polled[0].revents().is_empty();
        if cancel.may_come() && polled.last().is_some_and(|fd| !fd.revents().is_empty()) {
            return Err(cancel::interrupted());
        }
        stdout.drain().map_err(|errno| os("read", errno))?;
        stderr.drain().map_err(|errno| os("read", errno))?;
        if exited {
            return Ok(true);
        }
    }
}

/// Kills the hook (its process group, if it has its own) and reaps it.
fn kill(child: &Child, group: bool) -> Result<()> {
    let killed = match (Pid::from_raw(child.pid), group) {
        (Some(leader), true) => rustix::process::kill_process_group(leader, Signal::KILL),
        _ => rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL),
    };
    match killed {
        // Ended already.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::os("kill", errno)),
    }
    // A dead file server can hold it in a sleep that SIGKILL does not end.
    match Cancel::default().wait_readable_for(child.pidfd.as_fd(), Some(DEATH))? {
        true => reap(child.pidfd.as_fd()).map(drop),
        false => Err(Error::new(
            ErrorKind::Os,
            "the hook still runs, 10 seconds after SIGKILL",
        )),
    }
}

/// One output of the hook: the pipe until its end, and the last bytes that came.
struct Output {
    pipe: Option<File>,
    tail: Vec<u8>,
}

impl Output {
    /// Without a pipe nothing comes.
    fn new(pipe: Option<OwnedFd>) -> Self {
        Self {
            pipe: pipe.map(File::from),
            tail: Vec::new(),
        }
    }

    /// Reads what is there: a bounded amount, because a process in the background may write faster than we
    /// read.
    fn drain(&mut self) -> std::result::Result<(), Errno> {
        let mut buffer = [0; 16 << 10];
        // The capacity of a pipe is 64 KiB: four rounds empty it.
        for _ in 0..4 {
            let Some(pipe) = &mut self.pipe else { return Ok(()) };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.keep(&buffer[..length]),
                Err(error) if error.kind() == IoErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(QUOTED);
        self.tail.drain(..surplus);
    }

    /// On one line, and without bytes that could command a terminal.
    fn text(&self) -> String {
        on_one_line(&String::from_utf8_lossy(&self.tail))
    }
}

/// What a hook has printed, with control characters escaped, and nothing else.
pub(crate) fn on_one_line(text: &str) -> String {
    text.trim_end().chars().fold(String::new(), |mut line, letter| {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
        line
    })
}

fn quoted(stdout: &Output, stderr: &Output) -> String {
    format!(", stdout: {}, stderr: {}", stdout.text(), stderr.text())
}

fn described(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return crate::host::process::STATUS_UNKNOWN.to_owned();
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => signals::ended_by(signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(list: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
        super::run(list, hooks, told(state), terms(&Cancel::default()))
    }

    fn told(state: &[u8]) -> Told<'_> {
        Told {
            state,
            directory: None,
            files: const {
                &OutputFiles {
                    stdout: None,
                    stderr: None,
                }
            },
        }
    }

    fn terms(cancel: &Cancel) -> Terms<'_> {
        Terms {
            cancel,
            at: None,
            open_files: None,
        }
    }

    fn shell(script: &str) -> Hook {
        hook("/bin/sh", &["sh", "-c", script])
    }

    fn hook(path: &str, args: &[&str]) -> Hook {
        let mut hook = Hook::default();
        hook.set_path(path.into());
        hook.set_args(Some(args.iter().map(|&arg| arg.to_owned()).collect()));
        hook
    }

    fn limited(script: &str, seconds: i64) -> Hook {
        let mut hook = shell(script);
        hook.set_timeout(Some(seconds));
        hook
    }

    /// Runs a script with `$OUT` replaced by a file, and returns the contents of the file.
    fn output(hook: impl Fn(&str) -> Hook, state: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        run("poststart", &[hook(&path.to_string_lossy())], state).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    fn error(hook: Hook) -> Error {
        run("createRuntime", &[hook], b"{}").unwrap_err()
    }

    #[test]
    fn the_state_comes_on_stdin_whatever_its_size_and_can_be_opened_again() {
        for size in [0, 1, 70_000, 3 << 20] {
            let state = vec![b'x'; size];
            let got = output(|out| shell(&format!("cat > {out}")), &state);
            assert!(got.as_bytes() == state, "{size}");
        }
        assert_eq!(
            output(|out| shell(&format!("cat /dev/stdin > {out}")), b"{}"),
            "{}"
        );
    }

    #[test]
    fn args_and_env_are_those_of_the_hook() {
        let argv = |out: &str| {
            hook(
                "/bin/sh",
                &["other name", "-c", &format!("echo \"$0 $1\" > {out}"), "a", "b c"],
            )
        };
        assert_eq!(output(argv, b""), "a b c\n");
        let name = |out: &str| {
            hook(
                "/bin/sh",
                &[
                    "-odd name",
                    "-c",
                    &format!("tr '\\0' '|' < /proc/$$/cmdline > {out}"),
                ],
            )
        };
        assert!(output(name, b"").starts_with("-odd name|-c|"));

        let env = |env: Option<Vec<&str>>| {
            output(
                |out| {
                    let mut hook = shell(&format!("/usr/bin/tr '\\0' '|' < /proc/$$/environ > {out}"));
                    hook.set_env(
                        env.clone()
                            .map(|env| env.into_iter().map(str::to_owned).collect()),
                    );
                    hook
                },
                b"",
            )
        };
        assert_eq!(env(Some(vec!["A=1", "B=x=y", "nonsense", "C="])), "A=1|B=x=y|C=|");
        assert_eq!(env(Some(vec![])), "");
        assert!(env(None).contains(&format!("PATH={}|", std::env::var("PATH").unwrap())));
    }

    #[test]
    fn no_args_means_the_path_is_the_name() {
        let mut hook = Hook::default();
        hook.set_path("/bin/true".into());
        run("prestart", &[hook.clone()], b"").unwrap();
        hook.set_args(Some(vec![]));
        run("prestart", &[hook], b"").unwrap();
        run("prestart", &[], b"").unwrap();
    }

    #[test]
    fn failure_has_the_text_of_runc_on_one_line() {
        let text = error(shell("echo to out; printf 'a\\nb\\033[31m\\n' >&2; exit 3")).to_string();
        assert_eq!(
            text,
            r"error running createRuntime hook #0: exit status 3, stdout: to out, stderr: a\nb\u{1b}[31m"
        );
        let error = error(shell("kill -9 $$"));
        assert_eq!(error.kind(), ErrorKind::Hook);
        assert_eq!(
            error.to_string(),
            "error running createRuntime hook #0: signal: killed, stdout: , stderr: "
        );
    }

    #[test]
    fn the_first_failure_ends_run_but_not_run_all() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hooks = [
            shell("true"),
            shell("exit 1"),
            shell(&format!("echo x >> {}", mark.display())),
            shell("exit 2"),
        ];
        let error = run("poststop", &hooks, b"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("error running poststop hook #1: exit status 1"),
            "{error}"
        );
        assert!(!mark.exists());
        let errors = run_all("poststop", &hooks, told(b""), terms(&Cancel::default()));
        assert_eq!(errors.len(), 2);
        assert!(
            errors[1]
                .to_string()
                .starts_with("error running poststop hook #3: exit status 2")
        );
        assert!(mark.exists());
    }

    #[test]
    fn one_deadline_ends_all_hooks() {
        let hooks = [shell("sleep 1000"), shell("exit 0"), shell("sleep 1000")];
        let never = Cancel::default();
        let over = Terms {
            at: Some(Instant::now()),
            ..terms(&never)
        };
        let errors = run_all("poststop", &hooks, told(b""), over);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        for index in [0, 2] {
            let start = format!("error running poststop hook #{index}: hook ran past");
            assert!(texts.iter().any(|text| text.starts_with(&start)), "{texts:?}");
        }
    }

    #[test]
    fn a_hook_that_cannot_be_executed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "#!/bin/sh\n").unwrap();
        for (path, errno) in [
            (Path::new("/no/such/hook"), Errno::NOENT),
            (&plain, Errno::ACCESS),
            (dir.path(), Errno::ACCESS),
        ] {
            let error = error(hook(&path.to_string_lossy(), &["x"]));
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Hook, Some(errno)));
            let start = format!(
                "error running createRuntime hook #0: {}: execve: ",
                path.display()
            );
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        assert_eq!(error(hook("sh", &["sh"])).kind(), ErrorKind::Invalid);
        for seconds in [0, -1] {
            let error = error(limited("true", seconds));
            assert_eq!(
                (error.kind(), error.field()),
                (ErrorKind::Invalid, Some("hooks.createRuntime[0].timeout"))
            );
        }
        assert_eq!(error(hook("/bin/true", &["a\0b"])).kind(), ErrorKind::Hook);
    }

    #[test]
    fn a_time_limit_ends_the_hook_and_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let begin = Instant::now();
        let error = error(limited(
            &format!("echo late; sleep 100 & echo $! > {}; wait", pid.display()),
            1,
        ));
        let elapsed = begin.elapsed();
        assert!(
            elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(20),
            "{elapsed:?}"
        );
        assert_eq!(
            error.to_string(),
            "error running createRuntime hook #0: hook ran past specified timeout of 1s, stdout: late, stderr: "
        );
        assert_ends(&pid);
        run(
            "createRuntime",
            &[limited("true", i64::MAX), limited("true", 100)],
            b"",
        )
        .unwrap();
    }

    /// The process whose pid stands in this file: killed, and reaped by whoever adopts it; a zombie at most.
    fn assert_ends(pid: &Path) {
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let ended = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            status().map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(ended, "{:?}", status());
    }

    #[test]
    fn the_caller_can_end_a_hook_and_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let (wish, caller) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let script = format!(
            "sleep 100 & echo $! > {0}.new; mv {0}.new {0}; wait",
            pid.display()
        );
        let hook = shell(&script);
        let cancel = Cancel::when_readable(wish);
        let waiting =
            std::thread::spawn(move || super::run("createRuntime", &[hook], told(b""), terms(&cancel)));
        while !pid.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(caller);
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert_ends(&pid);
    }

    #[test]
    fn a_child_in_the_background_that_keeps_the_pipes_does_not_hold_us() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let begin = Instant::now();
        run(
            "createRuntime",
            &[shell(&format!("sleep 100 & echo $! > {}", pid.display()))],
            b"",
        )
        .unwrap();
        let text = error(shell("yes & echo $! >&2; exit 4")).to_string();
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert!(text.contains("exit status 4"), "{text}");
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn much_output_blocks_nobody_and_its_end_is_quoted() {
        let script =
            "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; echo the end; exit 1";
        let text = error(shell(script)).to_string();
        assert!(text.ends_with(r"0123456789\nthe end, stderr: "), "{text}");
        assert!(text.len() < 2 * QUOTED, "{}", text.len());
    }

    #[test]
    fn only_stdio_and_what_the_program_itself_passes_on_reaches_a_hook() {
        /// O_CLOEXEC in the octal flags of fdinfo.
        const CLOSE_ON_EXEC: u32 = 0o2_000_000;
        let passed_on = std::fs::read_dir("/proc/self/fdinfo").unwrap().filter(|entry| {
            // Another test may close its file meanwhile; those are all close-on-exec.
            let Ok(info) = std::fs::read_to_string(entry.as_ref().unwrap().path()) else {
                return false;
            };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC == 0
        });
        let passed_on = passed_on.count();
        assert!(passed_on >= 3, "{passed_on}");
        let listing = output(|out| shell(&format!("exec ls /proc/self/fd > {out}")), b"{}");
        // One more is the directory that ls reads.
        assert_eq!(listing.lines().count(), passed_on + 1, "{listing}");
    }
}
