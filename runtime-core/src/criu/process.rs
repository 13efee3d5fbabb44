//! Runs in: RUNTIME. Starts criu, for a restore in a mount namespace that is made for it, and waits for its
//! end.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::ptr;

use runtime_init::args::{CriuArgs, CriuDirectory, CriuMountArgs, CriuRootArgs, TargetArgs};
use runtime_init::start::Birth;
use runtime_init::step::Step;
use runtime_init::wire::{Failure, Message};
use runtime_sys::process::ExecVector;
use rustix::fs::{Mode, OFlags};

use super::connection::Connection;
use super::images::{Directories, Directory};
use super::program::{environment, find};
use crate::error::{CallResult, ErrorResult};
use crate::host::process::{STATUS_UNKNOWN, reap, signals};
use crate::parent::child::Launched;
use crate::parent::explain::{self, Subject};
use crate::parent::helper::Helper;
use crate::parent::views::keyring_view;
use crate::plan::keyring::KeyringPlan;
use crate::plan::mounts::{MountPlan, MountSource};
use crate::prepare::{Links, PreparedMount};
use crate::{Cancel, Error, ErrorKind, Result};

/// How criu is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// What it works in.
    pub directories: &'a Directories,
    /// What it inherits.
    pub inherit: &'a [OwnedFd],
    /// Standard input, output and error that the caller has given, with their numbers.
    pub placed: &'a [(RawFd, RawFd)],
    /// The surroundings of restored processes; `None` for a dump.
    pub restore: Option<Surroundings<'a>>,
}

/// What restored processes take over from criu.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// The cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The session keyring.
    pub keyring: Option<KeyringPlan>,
    /// A directory of the host on which criu is shown the rootfs.
    pub place: CString,
    /// The rootfs, and a copy for making the places of mounts.
    pub rootfs: [OwnedFd; 2],
    /// Parallel to `plan.mounts`.
    pub mounts: Vec<PreparedMount>,
    /// To explain failures.
    pub subject: Subject<'a>,
}

/// Starts criu, and returns when its program runs, with the connection to it.
pub(crate) fn start(start: &Start<'_>) -> Result<(Launched, Connection)> {
    let program = find()?;
    let links = Links::new()?;
    // The connection is made by the child, under a number that is known before.
    let socket = open_null()?;
    let null = open_null()?;
    let inherit: Vec<_> = inherited(start).map(AsFd::as_fd).collect();
    let directories = start.directories.all();
    let directories: Vec<_> = directories.into_iter().map(directory).collect();
    let places = places(start.restore.as_ref());
    let root = start.restore.as_ref().map(|restore| CriuRootArgs {
        place: &restore.place,
        rootfs: restore.rootfs[0].as_fd(),
        draft: restore.rootfs[1].as_fd(),
        mounts: &places,
    });
    // Restored processes have the caller's. Of a dump nobody has asked to hear more than is in its log.
    let of_dump = [0, 1, 2].map(|number| (null.as_raw_fd(), number));
    let placed = match start.restore {
        Some(_) => start.placed,
        None => &of_dump,
    };
    let keep = kept(start, [&links.child, &socket, &null], &directories);
    let number = CString::new(socket.as_raw_fd().to_string()).unwrap_or_default();
    let argv = [c"criu".to_owned(), c"swrk".to_owned(), number];
    let envp = environment();
    let (mut argv_pointers, mut envp_pointers) = ([ptr::null(); 4], vec![ptr::null(); envp.len() + 1]);
    let args = CriuArgs {
        link: links.child.as_fd(),
        keep: &keep,
        inherit: &inherit,
        placed,
        socket: socket.as_fd(),
        directories: &directories,
        keyring: start
            .restore
            .as_ref()
            .and_then(|restore| restore.keyring.as_ref())
            .map(keyring_view),
        root,
        program: &program,
        argv: ExecVector::new(&mut argv_pointers, &argv),
        envp: ExecVector::new(&mut envp_pointers, &envp),
    };
    let cgroup = start.restore.as_ref().and_then(|restore| restore.cgroup);
    let birth = Birth {
        cgroup,
        ..Birth::default()
    };
    let criu = Helper::start(birth, &args, links.runtime).doing("start criu")?;
    drop(links.child);
    let connection = await_start(&criu, &program, start)?;
    Ok((criu.process, connection))
}

/// The connection to criu, which the child has made; and that the child has become criu then.
fn await_start(criu: &Helper, program: &CString, start: &Start<'_>) -> Result<Connection> {
    let mut connection = None;
    loop {
        match (criu.receive(&Cancel::default())?, connection) {
            (Some((Message::CriuSocket, Some(socket))), None) => connection = Some(Connection::new(socket)),
            (Some((Message::Failure(failure), _)), _) => {
                return Err(explain(failure, program, start, criu.process.pid));
            }
            (None, Some(connection)) => return Ok(connection),
            (None, None) => return Err(Error::new(ErrorKind::Os, "it was killed").doing("start criu")),
            (Some(_), _) => {
                let text = "a message that does not belong here";
                return Err(Error::new(ErrorKind::Internal, text).doing("start criu"));
            }
        }
    }
}

fn inherited<'a>(start: &'a Start<'_>) -> impl Iterator<Item = &'a OwnedFd> {
    let mapped = start.directories.mapped.as_ref();
    start.inherit.iter().chain(mapped.map(|mapped| &mapped.directory))
}

fn directory(directory: &Directory) -> CriuDirectory<'_> {
    CriuDirectory {
        fd: directory.fd.as_fd(),
        path: &directory.path,
        identity: directory.identity,
    }
}

/// Waits for the end of criu after its last answer, and reaps it.
pub(crate) fn finish(launched: Launched) -> Result<()> {
    let (_, pidfd) = launched.keep();
    let Some(status) = reap(pidfd.as_fd())? else {
        return Err(Error::new(ErrorKind::Os, STATUS_UNKNOWN).doing("wait for criu"));
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Error::new(
            ErrorKind::Os,
            format!("criu ended with exit status {code}"),
        )),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Err(Error::new(
                ErrorKind::Os,
                format!("criu was ended by a signal: {}", signals::name(signal)),
            ))
        }
    }
}

fn open_null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .call("open")
        .path("/dev/null")
}

/// The places that must be there before criu mounts anything. What lies in a file system that criu restores
/// comes with it, and what lies below /proc or /sys is there by itself.
fn places<'a>(restore: Option<&'a Surroundings<'_>>) -> Vec<CriuMountArgs<'a>> {
    let Some(restore) = restore else { return Vec::new() };
    let plans: &'a [MountPlan] = match restore.subject.container {
        Some((plan, _)) => &plan.mounts,
        None => &[],
    };
    let mut places = Vec::new();
    let mut restored: Vec<&[u8]> = Vec::new();
    for (plan, prepared) in plans.iter().zip(&restore.mounts) {
        let target = plan.target.as_bytes();
        let comes_with_another = restored.iter().any(|above| lies_below(target, above));
        let is_bind = matches!(plan.source, MountSource::Bind { .. });
        if !is_bind && !matches!(plan.source, MountSource::Remount { .. }) {
            restored.push(target);
        }
        if comes_with_another || matches!(plan.source, MountSource::Remount { .. }) {
            continue;
        }
        places.push(CriuMountArgs {
            index: plan.index,
            target: TargetArgs {
                path: &plan.target,
                is_directory: prepared.is_directory,
                links: plan.links,
                may_be_on_procfs: plan.may_be_on_procfs,
            },
            link: prepared.link.as_deref(),
            tree: prepared.tree.as_ref().filter(|_| is_bind).map(AsFd::as_fd),
        });
    }
    places
}

fn lies_below(path: &[u8], above: &[u8]) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => above.is_empty() || rest.first() == Some(&b'/'),
        None => false,
    }
}

fn kept(start: &Start<'_>, own: [&OwnedFd; 3], directories: &[CriuDirectory<'_>]) -> Vec<RawFd> {
    let trees = start.restore.iter().flat_map(|restore| {
        let mounts = restore.mounts.iter().filter_map(|mount| mount.tree.as_ref());
        restore.rootfs.iter().chain(mounts)
    });
    let all = own.into_iter().chain(trees).chain(inherited(start));
    let mut kept: Vec<RawFd> = all.map(AsRawFd::as_raw_fd).collect();
    kept.extend(start.placed.iter().map(|(number, _)| *number));
    kept.extend(directories.iter().map(|directory| directory.fd.as_raw_fd()));
    kept.sort_unstable();
    kept
}

fn explain(failure: Failure, program: &CString, start: &Start<'_>, pid: i32) -> Error {
    if failure.step == Step::Exec {
        return Error::os(failure.call.name(), failure.errno)
            .with_path(program.to_string_lossy().into_owned())
            .doing("start criu");
    }
    match &start.restore {
        Some(restore) => explain::explain(restore.subject, pid, failure, None),
        None => Error::os(failure.call.name(), failure.errno).doing(explain::doing(failure.step)),
    }
}

#[cfg(test)]
mod tests {
    use super::lies_below;

    #[test]
    fn below_means_below_and_not_beside() {
        assert!(lies_below(b"dev/shm", b"dev") && lies_below(b"dev", b""));
        assert!(!lies_below(b"dev", b"dev") && !lies_below(b"devices", b"dev") && !lies_below(b"d", b"dev"));
    }
}
