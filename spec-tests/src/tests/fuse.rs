//! Runs in: SUITE. Two file systems by the kernel's FUSE protocol: one whose server has stopped answering
//! (the root directory is there, and every look-up in it waits for ever), and an empty one whose server
//! answers.

use crate::outcome::{Check, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

/// Dropped, it ends the connection, and with it all waiting.
#[derive(Debug)]
pub(crate) struct HungFileSystem {
    path: PathBuf,
    /// Closing it ends the connection.
    _device: File,
}

/// Of `struct fuse_in_header`: where the opcode is, and the request's number.
const OPCODE: std::ops::Range<usize> = 4..8;
const UNIQUE: std::ops::Range<usize> = 8..16;
/// Milliseconds.
const PATIENCE: u16 = 10_000;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

impl HungFileSystem {
    pub(crate) fn mount(path: &Path) -> Check<Self> {
        let mut device = mount_fuse(path)?;
        answer(&mut device, INIT, &init_reply())?;
        let asking = {
            let path = path.to_owned();
            std::thread::spawn(move || fs::metadata(path).map(drop))
        };
        // The root's attributes are asked for once; from here on the kernel knows them.
        answer(&mut device, GETATTR, &attributes())?;
        let _attributes_are_known = asking.join();
        Ok(Self {
            path: path.to_owned(),
            _device: device,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for HungFileSystem {
    fn drop(&mut self) {
        let _shows_in_the_leak_check = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Every look-up in it fails, and all else is answered until it is unmounted.
#[derive(Debug)]
pub(crate) struct EmptyFileSystem {
    path: PathBuf,
    server: Option<std::thread::JoinHandle<()>>,
}

impl EmptyFileSystem {
    pub(crate) fn mount(path: &Path) -> Check<Self> {
        let mut device = mount_fuse(path)?;
        // Until the kernel has no more questions: the mount is gone.
        let server = std::thread::spawn(move || while serve(&mut device).is_ok() {});
        Ok(Self {
            path: path.to_owned(),
            server: Some(server),
        })
    }
}

impl Drop for EmptyFileSystem {
    fn drop(&mut self) {
        // Not detached: who still has it would leave the server waiting.
        let _shows_in_the_leak_check = umount2(&self.path, MntFlags::empty());
        if let Some(server) = self.server.take().filter(|server| server.is_finished()) {
            let _it_has_ended = server.join();
        }
    }
}

fn serve(device: &mut File) -> std::io::Result<()> {
    let mut request = vec![0; 1 << 17];
    let length = device.read(&mut request)?;
    let field = |range: std::ops::Range<usize>| request[..length].get(range).unwrap_or_default().to_vec();
    let opcode = field(OPCODE).try_into().map(u32::from_ne_bytes).unwrap_or(0);
    let (error, body) = match opcode {
        INIT => (0, init_reply()),
        GETATTR => (0, attributes()),
        // `struct fuse_statfs_out`, all zero.
        STATFS => (0, vec![0; 80]),
        LOOKUP => (-libc::ENOENT, Vec::new()),
        // They want no answer.
        FORGET | INTERRUPT | BATCH_FORGET => return Ok(()),
        // The kernel does without.
        _ => (-libc::ENOSYS, Vec::new()),
    };
    reply_with(device, &field(UNIQUE), error, &body)
}

fn reply_with(device: &mut File, unique: &[u8], error: i32, body: &[u8]) -> std::io::Result<()> {
    let mut reply = (16 + body.len() as u32).to_ne_bytes().to_vec();
    reply.extend(error.to_ne_bytes());
    reply.extend(unique);
    reply.extend(body);
    device.write_all(&reply)
}

fn mount_fuse(path: &Path) -> Check<File> {
    fs::create_dir_all(path)?;
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    mount(
        Some("fuse"),
        path,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(&*options),
    )?;
    Ok(device)
}

/// Reads requests up to the one with this opcode, and answers it.
fn answer(device: &mut File, opcode: u32, body: &[u8]) -> Check {
    let mut request = vec![0; 1 << 16];
    loop {
        // Whoever asks cannot be killed once the question was read, so the suite must never just wait.
        let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        ensure!(
            poll(&mut fds, PollTimeout::from(PATIENCE))? > 0,
            "the kernel does not ask for {opcode}"
        );
        let length = device.read(&mut request)?;
        let field = |range: std::ops::Range<usize>| request[..length].get(range).unwrap_or_default().to_vec();
        let is_it = field(OPCODE) == opcode.to_ne_bytes();
        // To a question that it may do without (statx) the kernel shall hear so.
        let (error, body) = if is_it {
            (0, body)
        } else {
            (-libc::ENOSYS, [].as_slice())
        };
        reply_with(device, &field(UNIQUE), error, body)?;
        if is_it {
            return Ok(());
        }
    }
}

/// `struct fuse_init_out`: version 7.31, no feature.
fn init_reply() -> Vec<u8> {
    let mut reply: Vec<u8> = [7_u32, 31, 1 << 16, 0]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    // max_background and congestion_threshold, then max_write and time_gran.
    reply.extend([16_u16, 12].iter().flat_map(|n| n.to_ne_bytes()));
    reply.extend([4096_u32, 1].iter().flat_map(|n| n.to_ne_bytes()));
    reply.resize(64, 0);
    reply
}

/// `struct fuse_attr_out` of a directory that everybody may search, valid for an hour.
fn attributes() -> Vec<u8> {
    let mut reply = 3600_u64.to_ne_bytes().to_vec();
    reply.extend([0_u32, 0].iter().flat_map(|n| n.to_ne_bytes()));
    // ino, size, blocks, atime, mtime, ctime.
    reply.extend([1_u64, 0, 0, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()));
    // Their nanoseconds; mode, nlink, uid, gid, rdev, blksize, flags.
    let words = [0_u32, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0];
    reply.extend(words.iter().flat_map(|n| n.to_ne_bytes()));
    reply
}
