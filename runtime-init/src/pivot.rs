//! Runs in: INIT. Puts the rootfs in place and makes it the root.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{EnterRoot, RootfsArgs};
use crate::init::open_root;
use crate::old_root;
use crate::report::refused;
use runtime_sys::mount::{self, ATTR_RDONLY, MountAttr};
use runtime_sys::namespace::Kinds;
use runtime_sys::{self as sys, fs, namespace, process};

/// Makes sure that nothing we mount or unmount from here on reaches the host.
pub(crate) fn cut_host_propagation(rootfs: &RootfsArgs<'_>) -> sys::Result<()> {
    if rootfs.host_propagation == 0 {
        return Ok(());
    }
    mount::mount_setattr_path(c"/", &MountAttr::propagation(rootfs.host_propagation), true)
}

/// Mounts the rootfs tree over its own directory, where createContainer hooks look for it.
pub(crate) fn attach_rootfs(rootfs: &RootfsArgs<'_>) -> sys::Result<()> {
    if rootfs.enter == EnterRoot::Chroot {
        return Ok(());
    }
    // The descriptors that RUNTIME holds are of its own mount namespace, so the directory is opened again, by
    // the path that RUNTIME has resolved. Hooks are told that path: it must still be the one whose tree this
    // is.
    let place = fs::open_host_no_links(rootfs.path, OFlags::PATH | OFlags::DIRECTORY)?;
    let [found, tree] = [fs::fstat(place.as_fd())?, fs::fstat(rootfs.tree)?];
    if (found.st_dev, found.st_ino) != (tree.st_dev, tree.st_ino) {
        return Err(refused(Errno::STALE));
    }
    mount::attach(rootfs.tree, place.as_fd())?;
    if rootfs.enter == EnterRoot::MountAndChroot {
        // On a shared mount of the host it has become shared, too. What is mounted on it is nobody else's.
        mount::mount_setattr(rootfs.tree, &MountAttr::propagation(libc::MS_PRIVATE), true)?;
    }
    Ok(())
}

/// Makes the rootfs the root of the mount namespace, and the working directory.
pub(crate) fn enter(rootfs: &RootfsArgs<'_>, procfs: Option<BorrowedFd<'_>>) -> sys::Result<()> {
    if matches!(rootfs.enter, EnterRoot::Pivot | EnterRoot::MoveAndChroot) {
        leave_chroot(rootfs)?;
    }
    fs::chdir(rootfs.tree)?;
    match rootfs.enter {
        EnterRoot::Pivot => {
            mount::pivot_root_here()?;
            // The old root now lies on top of the new one, at ".": pivot_root(2), "pivot_root(".", ".")".
            mount::detach(c".")?;
        }
        EnterRoot::MoveAndChroot => {
            let old = open_root()?;
            mount::move_cwd_to_root()?;
            old_root::hide_kernel_filesystems(old.as_fd(), rootfs.tree, procfs)?;
            fs::chdir(rootfs.tree)?;
            mount::chroot_here()?;
        }
        EnterRoot::MountAndChroot | EnterRoot::Chroot => mount::chroot_here()?,
    }
    fs::chdir_root()
}

/// In a chroot our root is not that of the mount namespace. pivot_root(2) would exchange ours and leave the
/// machine's in the container, where setns(2) leads: so we go to the namespace's root, which setns(2) into
/// our own makes ours.
fn leave_chroot(rootfs: &RootfsArgs<'_>) -> sys::Result<()> {
    let before = fs::identity(open_root()?.as_fd())?;
    namespace::setns(process::own_pidfd()?.as_fd(), Kinds::MOUNT)?;
    if fs::identity(open_root()?.as_fd())? == before {
        return Ok(());
    }
    // The mounts outside of the chroot, too, before the first of them is unmounted.
    mount::mount_setattr_path(c"/", &MountAttr::propagation(rootfs.host_propagation), true)
}

/// Gives the root the propagation that `linux.rootfsPropagation` asks for.
pub(crate) fn set_propagation(rootfs: &RootfsArgs<'_>) -> sys::Result<()> {
    let Some((propagation, recursive)) = rootfs.final_propagation else {
        return Ok(());
    };
    mount::mount_setattr(rootfs.tree, &MountAttr::propagation(propagation), recursive)
}

/// Makes the root mount read-only; mounts below it keep their own attribute.
pub(crate) fn make_readonly(rootfs: &RootfsArgs<'_>) -> sys::Result<()> {
    if !rootfs.readonly {
        return Ok(());
    }
    mount::mount_setattr(
        rootfs.tree,
        &MountAttr {
            set: ATTR_RDONLY,
            ..MountAttr::default()
        },
        false,
    )
}
