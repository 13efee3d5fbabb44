//! Runs in: INIT, INTERMEDIATE, EXEC. Enters namespaces in the order that the kernel allows.

use rustix::fd::AsFd;

use crate::args::{JoinArgs, NamespaceArgs};
use crate::report::{At, Result};
use crate::step::Step;
use crate::sys::{self, credentials, namespace, net, process};
use crate::wire::{Link, Message};

/// Whether all that is new can be made before RUNTIME has done anything from outside.
pub(crate) fn need_nothing_first(args: &NamespaceArgs<'_>) -> bool {
    args.join.is_empty() && !args.become_root
}

/// Joins what is given by path, and becomes root in the user namespace.
pub(crate) fn enter(args: &NamespaceArgs<'_>) -> Result<()> {
    join(args.join)?;
    become_root(args.become_root).at(Step::BecomeRoot)
}

/// Joins namespaces, in the given order: RUNTIME has put the user namespace first.
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
    process::parent_death_signal(Some(rustix::process::Signal::KILL))
}

/// Makes the remaining namespaces: as mapped root, so that /dev/mqueue and the like belong to it.
pub(crate) fn unshare_rest(args: &NamespaceArgs<'_>) -> sys::Result<()> {
    if args.unshare == 0 {
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
