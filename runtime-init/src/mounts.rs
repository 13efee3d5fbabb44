//! Runs in: INIT. Mounts what RUNTIME has prepared, in order. Parses nothing.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::{ClassicArgs, ContextArgs, InsideArgs, Links, MountArgs, MountWhat, NewArgs, TargetArgs};
use crate::report::{At, Result, Stop, refused};
use crate::step::Step;
use crate::wire::{Link, Message};
use crate::{copy_up, paths, trees};
use runtime_sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, MountAttr};
use runtime_sys::{SysError, fs};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// What whoever mounted a tree may have forbidden in it.
const LOCKABLE: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

const READONLY: MountAttr = MountAttr {
    set: ATTR_RDONLY,
    clear: 0,
    propagation: 0,
    userns_fd: 0,
};

const WRITABLE: MountAttr = MountAttr {
    set: 0,
    clear: ATTR_RDONLY,
    propagation: 0,
    userns_fd: 0,
};

/// The read-only bind mount among these in which the place of a mount at `path` may be made: by its text, the
/// path lies below it.
fn above<'a>(mounts: &[MountArgs<'a>], path: &CStr) -> Option<BorrowedFd<'a>> {
    mounts.iter().rev().find_map(|mount| {
        let rest = path.to_bytes().strip_prefix(mount.target.path.to_bytes())?;
        match mount.what {
            MountWhat::Tree(tree) if mount.places_below && rest.starts_with(b"/") => Some(tree),
            _ => None,
        }
    })
}

/// Opens the place of a mount, or makes it. In a read-only bind mount among `earlier` it is made as well, if
/// the path leads there by its text alone: what a link leads to was chosen by others than who chose what may
/// be written to.
fn open_place(
    root: BorrowedFd<'_>,
    target: &TargetArgs<'_>,
    earlier: &[MountArgs<'_>],
) -> runtime_sys::Result<OwnedFd> {
    let refusal = match paths::open_target(root, target) {
        Err(error) if error.errno == Errno::ROFS => error,
        opened => return opened,
    };
    let Some(tree) = above(earlier, target.path) else {
        return Err(refusal);
    };
    // By the descriptor: the path may lead elsewhere by now.
    mount::mount_setattr(tree, &WRITABLE, false)?;
    let made = paths::make_plainly(root, target);
    mount::mount_setattr(tree, &READONLY, false)?;
    match made {
        Err(error) if error.errno == Errno::LOOP => Err(refusal),
        made => made.and_then(|()| paths::open_target(root, target)),
    }
}

type Options<'a> = &'a [(&'a CStr, Option<&'a CStr>)];

/// All mounts. An error names the place in `mounts`. Returns the number of the new file system that was
/// mounted on /dev, if one was.
pub(crate) fn mount_all(
    root: BorrowedFd<'_>,
    mounts: &[MountArgs<'_>],
    link: Link<'_>,
) -> Result<Option<u64>> {
    let mut dev = None;
    for (number, mount) in mounts.iter().enumerate() {
        let earlier = mounts.get(..number).unwrap_or_default();
        mount_one(root, mount, earlier, link, &mut dev)?;
    }
    Ok(dev)
}

/// Those that were to be read-only, now that nothing is made in them any more.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, mounts: &[(u16, &CStr)]) -> Result<()> {
    for (index, path) in mounts {
        let mount = fs::open_in_root(root, path, OFlags::PATH).at_index(Step::MountAttach, *index)?;
        mount::mount_setattr(mount.as_fd(), &READONLY, false).at_index(Step::MountAttach, *index)?;
    }
    Ok(())
}

fn mount_one(
    root: BorrowedFd<'_>,
    args: &MountArgs<'_>,
    earlier: &[MountArgs<'_>],
    link: Link<'_>,
    dev: &mut Option<u64>,
) -> Result<()> {
    let index = args.index;
    if let MountWhat::Link(link) = args.what {
        return paths::make_link(root, args.target.path, link).at_index(Step::MountTarget, index);
    }
    if let MountWhat::Inside(source) = &args.what {
        return mount_from_inside(root, source, args, earlier, link);
    }
    let takes_mode = match &args.what {
        MountWhat::New(new) => new.mode_of_place,
        MountWhat::Classic(classic) => classic.mode_of_place,
        _ => false,
    };
    let mode = match takes_mode {
        true => paths::mode_of_target(root, &args.target).at_index(Step::MountTarget, index)?,
        false => None,
    };
    let target = open_place(root, &args.target, earlier).at_index(Step::MountTarget, index)?;
    let target = target.as_fd();
    match &args.what {
        MountWhat::Link(_) | MountWhat::Inside(_) => Ok(()),
        MountWhat::Tree(tree) => attach(*tree, target, args),
        MountWhat::HostTree(source) => {
            let tree = trees::copy(source).at_index(Step::MountAttach, index)?;
            attach(tree.as_fd(), target, args)
        }
        MountWhat::New(new) => mount_new(new, target, args, mode, dev),
        MountWhat::Classic(classic) => {
            let made = make_classic(classic, target, mode, index)?;
            attach(made.as_fd(), target, args)
        }
        MountWhat::Remount(options) => {
            reconfigure(target, options, index)?;
            apply(target, args)
        }
    }
}

/// A new file system, with `mode` if it is to have that of its place.
fn mount_new(
    new: &NewArgs<'_>,
    target: BorrowedFd<'_>,
    args: &MountArgs<'_>,
    mode: Option<u32>,
    dev: &mut Option<u64>,
) -> Result<()> {
    let index = args.index;
    let made = make_filesystem(
        new.fstype,
        new.context.as_ref(),
        (new.options, mode),
        new.attributes,
        index,
    );
    let made = match (made, new.fallback) {
        (Err(stop), Some(tree)) if stop.is_refusal() => {
            return attach_fallback(stop, tree, target, args);
        }
        (made, _) => made?,
    };
    if let Some(label) = new.root_label {
        fs::label_directory(made.as_fd(), label).at_index(Step::MountFilesystem, index)?;
    }
    if new.copy_up {
        copy_up::copy(target, made.as_fd()).at_index(Step::MountCopyUp, index)?;
    }
    attach(made.as_fd(), target, args)?;
    if args.target.path == c"dev" {
        let identity = fs::identity(made.as_fd()).at_index(Step::MountAttach, index)?;
        *dev = Some(identity.mount);
    }
    Ok(())
}

/// A bind mount whose source lies inside the rootfs, where an earlier mount may have put something: so it is
/// what is there now. The rootfs is the root of the look-up, as for all that an image, or a volume in it, can
/// have links in.
fn mount_from_inside(
    root: BorrowedFd<'_>,
    source: &InsideArgs<'_>,
    args: &MountArgs<'_>,
    earlier: &[MountArgs<'_>],
    link: Link<'_>,
) -> Result<()> {
    let index = args.index;
    let flags = match source.keeps_link {
        true => OFlags::PATH | OFlags::NOFOLLOW,
        false => OFlags::PATH,
    };
    let found = fs::open_in_root(root, source.path, flags).at_index(Step::MountSource, index)?;
    let is_plain = paths::is_plain(root, source.path, found.as_fd()).at_index(Step::MountSource, index)?;
    if !is_plain && is_of_the_kernel(found.as_fd()).at_index(Step::MountSource, index)? {
        return Err(refused(Errno::PERM)).at_index(Step::MountSource, index);
    }
    let file_type = fs::fstat(found.as_fd())
        .at_index(Step::MountSource, index)?
        .st_mode
        & libc::S_IFMT;
    if source.copies_link && file_type == libc::S_IFLNK {
        return copy_link(root, found.as_fd(), args);
    }
    if source.must_be_procfs {
        check_is_procfs(found.as_fd()).at_index(Step::MountSource, index)?;
    }
    // What is mounted below it may be such a file system, too.
    let recursive = source.recursive && is_plain;
    let tree = mount::clone_tree(found.as_fd(), recursive).at_index(Step::MountSource, index)?;
    if source.is_mapped {
        let mapped = link.send_fd(Message::NeedMountMap, tree.as_fd());
        mapped
            .and_then(|()| link.expect(Message::MountMapped))
            .at_index(Step::MountSource, index)?;
    }
    let target = TargetArgs {
        is_directory: file_type == libc::S_IFDIR,
        ..args.target
    };
    let place = open_place(root, &target, earlier).at_index(Step::MountTarget, index)?;
    // Who has made the link does not choose what becomes writable.
    let kept = if is_plain { 0 } else { LOCKABLE };
    apply_but(tree.as_fd(), args, kept)?;
    attach_to(tree.as_fd(), place.as_fd(), index, target.is_directory)
}

/// Whether it is a file system that shows the kernel, and by which the host can be changed. Masks and
/// read-only paths are told by the places that config.json names.
fn is_of_the_kernel(found: BorrowedFd<'_>) -> runtime_sys::Result<bool> {
    const MAGIC: [i64; 11] = [
        PROC_SUPER_MAGIC,
        0x6265_6572, // sysfs
        0x6367_7270, // cgroup2
        0x0027_e0eb, // cgroup
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0x6265_6570, // configfs
        0xf97c_ff8c, // selinuxfs
        0x4249_4e4d, // binfmt_misc
        0xde5e_81e4, // efivarfs
    ];
    Ok(MAGIC.contains(&(fs::fstatfs(found)?.f_type as i64)))
}

/// Makes a link that says what this one says.
fn copy_link(root: BorrowedFd<'_>, link: BorrowedFd<'_>, args: &MountArgs<'_>) -> Result<()> {
    if args.target.links == Links::Refuse {
        // What stands there must be the kernel's; a link leads where the image says.
        return Err(refused(Errno::LOOP)).at_index(Step::MountTarget, args.index);
    }
    let mut text = paths::Buffer::new();
    text.push_link(link).at_index(Step::MountSource, args.index)?;
    let text = text.as_cstr().at_index(Step::MountSource, args.index)?;
    paths::make_link(root, args.target.path, text).at_index(Step::MountTarget, args.index)
}

/// A new file system, as a detached mount.
fn make_filesystem(
    fstype: &CStr,
    given: Option<&ContextArgs<'_>>,
    (options, mode): (Options<'_>, Option<u32>),
    attributes: u64,
    index: u16,
) -> Result<OwnedFd> {
    let own = match given {
        Some(_) => None,
        None => Some(mount::fsopen(fstype).at_index(Step::MountFilesystem, index)?),
    };
    let context = match (&own, given) {
        (Some(own), _) => own.as_fd(),
        (None, Some(given)) => given.fd,
        (None, None) => return Err(refused(Errno::BADF)).at_index(Step::MountFilesystem, index),
    };
    for (number, (key, value)) in options.iter().enumerate() {
        mount::fsconfig(context, key, *value)
            .at_index(Step::MountFilesystem, index)
            .map_err(|stop| stop.at_sub(number as u16 + 1))?;
    }
    if let Some(mode) = mode {
        mount::fsconfig(context, c"mode", octal(mode, &mut [0; 5])).at_index(Step::MountFilesystem, index)?;
    }
    mount::fsconfig_create(context).at_index(Step::MountFilesystem, index)?;
    let made = mount::fsmount(context, attributes).at_index(Step::MountFilesystem, index)?;
    if let Some(pids) = given.and_then(|given| given.must_show) {
        check_procfs(made.as_fd(), pids).at_index(Step::MountFilesystem, index)?;
    }
    Ok(made)
}

/// A new file system by mount(2), as a detached mount. That call gives no descriptor, so that the mount has
/// to be found by the name of its place: one in a file system of our own, over `target` meanwhile, where
/// nobody can put another mount under that name.
fn make_classic(
    classic: &ClassicArgs<'_>,
    target: BorrowedFd<'_>,
    mode: Option<u32>,
    index: u16,
) -> Result<OwnedFd> {
    const NAME: &CStr = c"m";
    let step = Step::MountFilesystem;
    let mut text = paths::Buffer::new();
    let data = with_mode(&mut text, classic.data, mode).at_index(step, index)?;
    // Room for more than the two: security labels count as well.
    let own = small_tmpfs(None, c"8", 0).at_index(step, index)?;
    let own = own.as_fd();
    attach_to(own, target, index, true)?;
    fs::mkdir(own, NAME, 0o700).at_index(step, index)?;
    let place = fs::open_child(own, NAME, OFlags::PATH).at_index(step, index)?;
    fs::chdir(place.as_fd()).at_index(step, index)?;
    mount::mount_on_cwd(classic.source, classic.fstype, classic.flags, data).at_index(step, index)?;
    let mounted = fs::open_child(own, NAME, OFlags::PATH).at_index(step, index)?;
    let made = mount::clone_tree(mounted.as_fd(), false).at_index(step, index)?;
    fs::chdir(own).at_index(step, index)?;
    mount::detach_here(c".").at_index(step, index)?;
    Ok(made)
}

/// Options for mount(2), with a mode among them.
fn with_mode<'a>(
    text: &'a mut paths::Buffer,
    data: &'a CStr,
    mode: Option<u32>,
) -> runtime_sys::Result<&'a CStr> {
    let Some(mode) = mode else { return Ok(data) };
    let mut digits = [0; 5];
    for part in [
        data.to_bytes(),
        b",mode=",
        octal(mode, &mut digits).unwrap_or_default().to_bytes(),
    ] {
        text.push(part)?;
    }
    text.as_cstr()
}

/// Four octal digits.
fn octal(mode: u32, text: &mut [u8; 5]) -> Option<&CStr> {
    for (digit, shift) in text.iter_mut().zip([9, 6, 3, 0]) {
        *digit = b'0' + (mode >> shift & 7) as u8;
    }
    CStr::from_bytes_until_nul(text).ok()
}

/// Whether it is a procfs, and of the pid namespace with this device and inode: its process 1 is in that one.
fn check_procfs(made: BorrowedFd<'_>, pids: (u64, u64)) -> runtime_sys::Result<()> {
    check_is_procfs(made)?;
    let namespace = fs::stat_below(made, c"1/ns/pid")?;
    match (namespace.st_dev, namespace.st_ino) == pids {
        true => Ok(()),
        false => Err(refused(Errno::STALE)),
    }
}

fn check_is_procfs(mount: BorrowedFd<'_>) -> runtime_sys::Result<()> {
    match fs::fstatfs(mount)?.f_type as i64 == PROC_SUPER_MAGIC {
        true => Ok(()),
        false => Err(refused(Errno::STALE)),
    }
}

fn attach_fallback(
    stop: Stop,
    tree: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    args: &MountArgs<'_>,
) -> Result<()> {
    // If the tree cannot be mounted either, the first reason is the one that helps.
    attach(tree, target, args).map_err(|_| stop)
}

fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>, args: &MountArgs<'_>) -> Result<()> {
    apply(tree, args)?;
    attach_to(tree, target, args.index, args.target.is_directory)
}

fn attach_to(tree: BorrowedFd<'_>, target: BorrowedFd<'_>, index: u16, is_directory: bool) -> Result<()> {
    mount::attach(tree, target)
        .map_err(|error| name_mismatch(error, target, is_directory))
        .at_index(Step::MountAttach, index)
}

/// A directory on a file, or the reverse: move_mount(2) says EINVAL, where mount(2) says, and people know,
/// ENOTDIR.
fn name_mismatch(error: SysError, target: BorrowedFd<'_>, source_is_directory: bool) -> SysError {
    let is_directory = match fs::fstat(target) {
        Ok(stat) => stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
        Err(_) => return error,
    };
    match error.errno {
        Errno::INVAL if is_directory != source_is_directory => SysError {
            errno: Errno::NOTDIR,
            ..error
        },
        _ => error,
    }
}

fn apply(tree: BorrowedFd<'_>, args: &MountArgs<'_>) -> Result<()> {
    apply_but(tree, args, 0)
}

/// The same, but none of `kept` is taken away.
fn apply_but(tree: BorrowedFd<'_>, args: &MountArgs<'_>, kept: u64) -> Result<()> {
    for (attr, recursive) in args.attributes {
        let attr = MountAttr {
            clear: attr.clear & !kept,
            ..*attr
        };
        mount::mount_setattr(tree, &attr, *recursive).at_index(Step::MountAttach, args.index)?;
    }
    Ok(())
}

fn reconfigure(target: BorrowedFd<'_>, options: Options<'_>, index: u16) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let context = mount::fspick(target).at_index(Step::MountFilesystem, index)?;
    for (number, (key, value)) in options.iter().enumerate() {
        mount::fsconfig(context.as_fd(), key, *value)
            .at_index(Step::MountFilesystem, index)
            .map_err(|stop| stop.at_sub(number as u16 + 1))?;
    }
    mount::fsconfig_reconfigure(context.as_fd()).at_index(Step::MountFilesystem, index)
}

/// A read-only tmpfs without room for anything: what hides directories.
pub(crate) fn empty_tmpfs(label: Option<(&CStr, Option<&CStr>)>) -> runtime_sys::Result<OwnedFd> {
    small_tmpfs(label, c"1", ATTR_RDONLY)
}

/// A tmpfs for so many inodes, of which its root is one.
fn small_tmpfs(
    label: Option<(&CStr, Option<&CStr>)>,
    inodes: &CStr,
    attributes: u64,
) -> runtime_sys::Result<OwnedFd> {
    let context = mount::fsopen(c"tmpfs")?;
    if let Some((key, value)) = label {
        mount::fsconfig(context.as_fd(), key, value)?;
    }
    for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", inodes), (c"mode", c"0555")] {
        mount::fsconfig(context.as_fd(), key, Some(value))?;
    }
    mount::fsconfig_create(context.as_fd())?;
    mount::fsmount(context.as_fd(), attributes)
}

/// A copy of what lies at `target`, read-only with all that is mounted below it, on top of itself.
pub(crate) fn readonly_over_itself(target: BorrowedFd<'_>) -> runtime_sys::Result<()> {
    let tree = mount::clone_tree(target, true)?;
    mount::mount_setattr(tree.as_fd(), &READONLY, true)?;
    mount::attach(tree.as_fd(), target)
}

/// Mounts `tree` on `target`; the first time the tree itself, then copies of it.
pub(crate) fn attach_copy(
    tree: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    first: bool,
) -> runtime_sys::Result<()> {
    if first {
        return mount::attach(tree, target);
    }
    let copy = mount::clone_tree(tree, false)?;
    mount::attach(copy.as_fd(), target)
}
