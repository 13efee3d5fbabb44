//! Runs in: RUNTIME. Procfs for a pid namespace given by path: INIT is born there last, so that who makes its
//! mounts is elsewhere. From Linux 6.17 on a procfs is told its pid namespace; before, PROCFS has it opened
//! there (`runtime_init`, `procfs.rs`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime_init::args::{JoinArgs, ProcfsArgs};
use runtime_init::start::Birth;
use runtime_init::wire::Message;
use runtime_sys::mount;
use runtime_sys::namespace::Kinds;
use rustix::io::Errno;

use super::helper::Helper;
use crate::error::CallResult;
use crate::plan::Plan;
use crate::plan::mounts::MountSource;
use crate::prepare::{Links, Prepared, ProcfsContext};
use crate::{Cancel, Error, ErrorKind, Result};

/// Opens one for each new procfs of the plan, if its pid namespace is given by path.
pub(crate) fn open_all(plan: &Plan, prepared: &mut Prepared, cancel: &Cancel) -> Result<()> {
    let Prepared { joins, mounts, .. } = prepared;
    let of_kind = |kind| joins.get(plan.namespaces.place_of_joined(kind)?);
    let Some(pids) = of_kind(Kinds::PID) else {
        return Ok(());
    };
    let user = of_kind(Kinds::USER).filter(|_| plan.unprivileged);
    for (mount, prepared) in plan.mounts.iter().zip(mounts) {
        let MountSource::New(new) = &mount.source else {
            continue;
        };
        if new.fstype.as_c_str() != c"proc" {
            continue;
        }
        let at = |error: Error| error.with_field(format!("mounts[{}]", mount.index));
        let made = match told_its_namespace(pids).map_err(at)? {
            Some(fd) => ProcfsContext { fd, must_show: None },
            None => opened_there(pids, user, cancel).map_err(at)?,
        };
        prepared.context = Some(made);
    }
    Ok(())
}

/// `None` where the kernel, or our rights, do not allow it.
fn told_its_namespace(pids: &OwnedFd) -> Result<Option<OwnedFd>> {
    let context = match mount::fsopen(c"proc") {
        Err(error) if error.errno == Errno::PERM => return Ok(None),
        context => context?,
    };
    match rustix::mount::fsconfig_set_fd(&context, c"pidns", pids) {
        Ok(()) => Ok(Some(context)),
        Err(Errno::INVAL | Errno::PERM) => Ok(None),
        Err(errno) => Err(Error::os("fsconfig", errno)),
    }
}

fn opened_there(pids: &OwnedFd, user: Option<&OwnedFd>, cancel: &Cancel) -> Result<ProcfsContext> {
    let doing = |error: Error| error.doing("open a procfs in the pid namespace");
    let links = Links::new()?;
    let keep = links.kept_with(user.into_iter().chain([pids]).map(AsRawFd::as_raw_fd));
    let join = |fd, kind| JoinArgs { index: 0, fd, kind };
    let args = ProcfsArgs {
        link: links.child.as_fd(),
        keep: &keep,
        user: user.map(|user| join(user.as_fd(), Kinds::USER)),
        pids: join(pids.as_fd(), Kinds::PID),
    };
    let helper = Helper::start(Birth::default(), &args, links.runtime).map_err(doing)?;
    drop(links.child);
    match helper.receive(cancel)? {
        Some((Message::Procfs, Some(fd))) => Ok(ProcfsContext {
            fd,
            must_show: Some(identity(pids.as_fd())?),
        }),
        Some((Message::Failure(failure), _)) => Err(doing(Error::os(failure.call.name(), failure.errno))),
        _ => Err(doing(Error::new(ErrorKind::Internal, "ended half way"))),
    }
}

fn identity(file: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file).call("fstat")?;
    Ok((stat.st_dev, stat.st_ino))
}
