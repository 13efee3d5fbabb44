//! Runs in: INIT, INTERMEDIATE, EXEC. Enters namespaces in the order that the kernel allows.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::args::{JoinArgs, NamespaceArgs, NamespaceHolderArgs};
use crate::report::{At, Result};
use crate::step::Step;
use crate::wire::{Link, Message};
use runtime_sys::memory::Role;
use runtime_sys::namespace::Kinds;
use runtime_sys::{self as sys, SysError, credentials, namespace, net, process};

/// Whether all that is new can be made before RUNTIME has done anything from outside.
pub(crate) fn need_nothing_first(args: &NamespaceArgs<'_>) -> bool {
    args.join.is_empty() && !args.become_root && !args.new_user
}

/// Joins what is given by path, enters the user namespace, and becomes root in it.
///
/// A namespace by path may belong to RUNTIME's user namespace, to another container's, or to the container's
/// own: so each is tried with RUNTIME's rights first, and what these do not allow with those that the user
/// namespace gives (setns(2)).
pub(crate) fn enter(args: &NamespaceArgs<'_>, unprivileged: bool, link: Link<'_>) -> Result<()> {
    let is_user = |namespace: &JoinArgs<'_>| namespace.kind == Kinds::USER;
    let user = args.join.iter().find(|namespace| is_user(namespace));
    if user.is_none() && !args.new_user {
        join(args.join)?;
        return become_root(args.become_root).at(Step::BecomeRoot);
    }
    // One bit each; there are eight kinds.
    let mut later = 0u32;
    for (place, namespace) in args.join.iter().enumerate().filter(|(_, other)| !is_user(other)) {
        match namespace::setns(namespace.fd, namespace.kind) {
            Err(error) if error.errno == Errno::PERM => later |= 1 << place,
            other => other.at_index(Step::JoinNamespace, namespace.index)?,
        }
    }
    match user {
        Some(user) => join(core::slice::from_ref(user))?,
        None => new_user(unprivileged, link)?,
    }
    for (place, namespace) in args.join.iter().enumerate() {
        if later & (1 << place) != 0 {
            join(core::slice::from_ref(namespace))?;
        }
    }
    become_root(args.become_root).at(Step::BecomeRoot)
}

fn new_user(unprivileged: bool, link: Link<'_>) -> Result<()> {
    namespace::unshare(Kinds::USER).at(Step::Unshare)?;
    link.send(Message::NeedMaps).at(Step::BecomeRoot)?;
    link.expect(Message::Mapped).at(Step::BecomeRoot)?;
    match unprivileged {
        true => process::set_undumpable().at(Step::BecomeRoot),
        false => Ok(()),
    }
}

/// Joins namespaces, in the given order.
pub(crate) fn join(namespaces: &[JoinArgs<'_>]) -> Result<()> {
    for namespace in namespaces {
        namespace::setns(namespace.fd, namespace.kind).at_index(Step::JoinNamespace, namespace.index)?;
    }
    Ok(())
}

/// Changes all ids to 0 of the user namespace, which owns all further namespaces, files and keyrings we make.
pub(crate) fn become_root(needed: bool) -> sys::Result<()> {
    if !needed {
        return Ok(());
    }
    credentials::setresgid(0)?;
    credentials::setresuid(0)?;
    // The change of ids has cleared the signal.
    process::parent_death_signal(Some(Signal::KILL))
}

/// Makes the remaining namespaces: as mapped root, so that /dev/mqueue and the like belong to it.
pub(crate) fn unshare_rest(args: &NamespaceArgs<'_>) -> sys::Result<()> {
    if args.unshare.is_empty() {
        return Ok(());
    }
    namespace::unshare(args.unshare)
}

/// Brings up `lo`, if the network namespace is ours.
pub(crate) fn loopback(args: &NamespaceArgs<'_>) -> sys::Result<()> {
    if !args.loopback {
        return Ok(());
    }
    net::loopback_up()
}

/// RUNTIME has the rights to move devices here, and the socket is its way in.
pub(crate) fn ask_for_net_devices(any: bool, link: Link<'_>) -> sys::Result<()> {
    if !any {
        return Ok(());
    }
    let socket = net::route_socket()?;
    link.send_fd(Message::NeedNetDevices, socket.as_fd())?;
    link.expect(Message::NetDevicesDone)
}

/// Sets the names of the UTS namespace.
pub(crate) fn set_names(hostname: Option<&[u8]>, domainname: Option<&[u8]>) -> Result<()> {
    if let Some(name) = hostname {
        namespace::sethostname(name).at(Step::Hostname)?;
    }
    if let Some(name) = domainname {
        namespace::setdomainname(name).at(Step::Domainname)?;
    }
    Ok(())
}

impl Role for NamespaceHolderArgs<'_> {
    /// Runs in: the holder of a new user namespace, which does nothing but be in it.
    fn run(args: NamespaceHolderArgs<'static>) -> ! {
        // Without the signal it would outlive a RUNTIME that was killed: then better not be there at all.
        if process::parent_death_signal(Some(Signal::KILL)).is_ok() {
            let _ended = process::wait_readable(args.link, None);
        }
        process::exit_now(0)
    }

    /// Whether it holds nothing but its own memory is nothing that RUNTIME waits for.
    fn give_up(_args: &NamespaceHolderArgs<'static>, _error: SysError) -> ! {
        process::exit_now(1)
    }
}
