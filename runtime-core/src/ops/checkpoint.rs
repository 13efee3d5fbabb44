//! Runs in: RUNTIME. `checkpoint`: has criu save the processes of a container to files.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use runtime_sys::namespace::Kinds;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::container::{self, CONFIG};
use super::options::CheckpointOptions;
use super::{Runtime, Status, delete};
use crate::criu::{
    self, Attendant, Directories, Features, Kind, Notification, Options, PageServer, Session, Start,
    common_options, need_root, path_bytes,
};
use crate::host::cgroup::CgroupManager;
use crate::host::state::{ContainerId, Record, Slot};
use crate::plan::{CallerOptions, ConsoleRequest, Plan};
use crate::{Cancel, Errno, Error, ErrorKind, Result};

/// What of a container led out of it: an array of the names of standard input, output and error, as runc and
/// crun write it.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
const LOG: &str = "dump.log";

impl Runtime {
    /// Saves a running or paused container to files, by criu(8). Unless `leave_running` or `pre_dump` is set,
    /// its processes are gone then, and so is the container, as with runc: `restore` makes it anew, under any
    /// id.
    ///
    /// # Errors
    /// `WrongStatus`; `Invalid` for options that do not fit; `Unsupported` if there is no criu, or it is too
    /// old, or the kernel lacks what it needs; `Os` with the path of criu's log and the last error in it if
    /// the dump fails: the container runs on then.
    pub fn checkpoint(&self, id: &ContainerId, options: CheckpointOptions) -> Result<()> {
        check_parent(&options)?;
        let slot = self.store.lock(id)?;
        check_status(container::status(slot.record(), slot.dir())?)?;
        let keep = options.leave_running || options.pre_dump;
        dump(&slot, options)?;
        if keep {
            return Ok(());
        }
        delete::delete(&self.store, slot, true, self.open_files()?)
    }
}

fn check_status(status: Status) -> Result<()> {
    match status {
        Status::Running | Status::Paused => Ok(()),
        _ => Err(Error::new(
            ErrorKind::WrongStatus,
            format!("Container cannot be checkpointed in {status} state"),
        )),
    }
}

/// criu looks for the parent from the images, and says nothing that helps if it is not there.
fn check_parent(options: &CheckpointOptions) -> Result<()> {
    let Some(parent) = &options.parent else {
        return Ok(());
    };
    let wrong = |error: Error| error.with_path(parent).doing("invalid --parent-path");
    if parent.is_absolute() {
        let error = Error::new(
            ErrorKind::Invalid,
            "must be relative to the directory of the images",
        );
        return Err(wrong(error));
    }
    // The directory of the images may not be there yet, so that `..` is taken off by hand.
    let mut path = options.criu.images.clone();
    for component in parent.components() {
        match component {
            Component::ParentDir if path.file_name().is_some() => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    let is_directory = std::fs::metadata(&path)
        .map_err(|error| wrong(Error::os("stat", error)))?
        .is_dir();
    match is_directory {
        true => Ok(()),
        false => Err(wrong(Error::new(ErrorKind::Invalid, "not a directory"))),
    }
}

fn dump(slot: &Slot, options: CheckpointOptions) -> Result<()> {
    let record = slot.record();
    let config = container::saved_config(slot.read_file(CONFIG)?)?;
    let caller = CallerOptions {
        console: ConsoleRequest::Optional,
        ..CallerOptions::default()
    };
    let facts = container::facts_of(record)?;
    need_root(&facts)?;
    let plan = Plan::new(&config, slot.id().as_str(), &facts, caller)?;
    criu::mounts::refuse_id_mapped(&plan)?;
    // Before anything is made: without criu there is nothing to be done.
    criu::find()?;
    let directories = criu::open_or_make_images(&options.criu.images, options.criu.work.as_deref())?;
    directories.refuse_links()?;
    let start = Start {
        directories: &directories,
        inherit: &[],
        placed: &[],
        restore: None,
    };
    let session = Session::open(&start, LOG, Cancel::default())?;
    session.need(Features {
        mem_track: (options.pre_dump || options.parent.is_some()).then_some(true),
        lazy_pages: options.criu.lazy_pages.then_some(true),
    })?;
    let network = (session.version(), plan.namespaces.joins(Kinds::NETWORK));
    let mut request = Options {
        pid: Some(record.pid),
        log_file: Some(LOG.to_owned()),
        root: Some(path_bytes(criu::clean_path(&record.rootfs))),
        leave_running: Some(options.leave_running),
        tcp_skip_in_flight: Some(options.criu.tcp_skip_in_flight),
        link_remap: Some(options.link_remap),
        track_mem: (options.pre_dump || options.parent.is_some()).then_some(true),
        parent_img: options.parent.as_ref().map(path_bytes),
        page_server: options.page_server.map(|(address, port)| PageServer {
            address: Some(address),
            port: Some(i32::from(port)),
        }),
        freeze_cgroup: freezer(record)?,
        external: external_namespaces(&plan, record.pid)?,
        ..common_options(&options.criu, &directories, record, network)?
    };
    let kind = if options.pre_dump {
        Kind::SinglePreDump
    } else {
        request.ext_mnt = criu::mounts::of_dump(&plan, record.pid)?;
        save_descriptors(&options.criu.images, &directories, record)?;
        Kind::Dump
    };
    let mut attendant = Dump {
        status: options.status_fd,
    };
    session.run(kind, request, &mut attendant).map(drop)
}

/// criu holds the processes still by freezing their cgroup: ptrace alone cannot keep up with one that forks.
fn freezer(record: &Record) -> Result<Option<Vec<u8>>> {
    let manager = container::cgroup(record)?;
    let cgroup = manager.as_ref().and_then(CgroupManager::cgroup);
    Ok(cgroup.map(|cgroup| path_bytes(cgroup.path())))
}

/// A network or pid namespace given by path is somebody else's: it is not saved, and at the restore the one
/// that config.json then names is taken.
fn external_namespaces(plan: &Plan, pid: i32) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for join in &plan.namespaces.join {
        let name = join.kind.file;
        if let Some(key) = shared_key(join.kind.flag) {
            // The container's own link: the path may have come to mean another namespace.
            let inode = criu::mounts::inode(&format!("/proc/{pid}/ns/{name}"))?;
            external.push(format!("{name}[{inode}]:{key}"));
        }
    }
    Ok(external)
}

/// The key of a namespace that is not saved, which runc and crun use too.
pub(super) fn shared_key(kind: Kinds) -> Option<&'static str> {
    match kind {
        Kinds::NETWORK => Some("extRootNetNS"),
        Kinds::PID => Some("extRootPidNS"),
        _ => None,
    }
}

fn save_descriptors(path: &Path, directories: &Directories, record: &Record) -> Result<()> {
    let at = |error: Error| {
        error
            .with_path(path.join(DESCRIPTORS))
            .doing("save the names of the descriptors")
    };
    let mut names = record.stdio.clone();
    names.resize(3, String::new());
    let json =
        serde_json::to_vec(&names).map_err(|error| at(Error::new(ErrorKind::Internal, error.to_string())))?;
    let images = &directories.images.fd;
    match rustix::fs::unlinkat(images, DESCRIPTORS, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(at(Error::os("unlinkat", errno))),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(images, DESCRIPTORS, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| at(Error::os("openat", errno)))?;
    File::from(file)
        .write_all(&json)
        .map_err(|error| at(Error::os("write", error)))
}

struct Dump {
    status: Option<OwnedFd>,
}

impl Attendant for Dump {
    fn attend(&mut self, notification: &Notification, _fd: Option<OwnedFd>) -> Result<()> {
        if notification.script() != "status-ready" {
            return Ok(());
        }
        // Closed in any case: who waits for it may wait for the end of file.
        let Some(status) = self.status.take() else {
            return Ok(());
        };
        match rustix::io::retry_on_intr(|| rustix::io::write(&status, &[0])) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::os("write", errno).doing("tell that lazy pages are ready")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::CriuOptions;

    fn options(images: &Path, parent: &str) -> CheckpointOptions {
        CheckpointOptions::default()
            .criu(CriuOptions::default().images(images))
            .parent(PathBuf::from(parent))
    }

    #[test]
    fn a_parent_is_looked_for_from_images_that_need_not_be_there_yet() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("first")).unwrap();
        std::fs::write(base.path().join("file"), "").unwrap();
        let images = base.path().join("second");
        assert!(check_parent(&options(&images, "../first")).is_ok());
        for (parent, text) in [
            ("../none", "no such file"),
            ("../file", "not a directory"),
            ("/first", "must be relative"),
        ] {
            let error = check_parent(&options(&images, parent)).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid --parent-path") && error.contains(text),
                "{error}"
            );
        }
    }
}
