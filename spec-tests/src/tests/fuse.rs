//! Runs in: SUITE. A file system whose server has stopped answering, by the kernel's FUSE protocol: the root directory
//! is there, and every look-up in it waits for ever.

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
const INIT: u32 = 26;
const GETATTR: u32 = 3;

impl HungFileSystem {
    pub(crate) fn mount(path: &Path) -> Check<Self> {
        fs::create_dir_all(path)?;
        let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        mount(
            Some("hung"),
            path,
            Some("fuse"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(&*options),
        )?;
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
        let mut reply = (16 + body.len() as u32).to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(field(UNIQUE));
        reply.extend(body);
        device.write_all(&reply)?;
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
