//! Any bytes as /etc/passwd of an image: the home directory is that of the first line with the user's number,
//! whatever the pieces are in which the file is read.
#![no_main]

use std::io::{Seek, Write};
use std::os::fd::AsFd;

use libfuzzer_sys::fuzz_target;
use onggi_fuzz::file_of;
use runtime_init::unstable::home_in;

fuzz_target!(|passwd: &[u8]| {
    let mut file = file_of(passwd);
    for uid in [0, 1000, u32::MAX - 1] {
        file.rewind().expect("a file in memory");
        let mut line = [0; 1024];
        let found = home_in(file.as_fd(), uid, &mut line).expect("a file in memory is read");
        assert_eq!(found, home_of(passwd, uid), "uid {uid}");
    }
    // The same after more than fits into a piece.
    let mut long = file_of(b"");
    long.write_all(&[b':'; 3000]).expect("a file in memory");
    long.write_all(b"\n").expect("a file in memory");
    long.write_all(passwd).expect("a file in memory");
    long.rewind().expect("a file in memory");
    let mut line = [0; 1024];
    let found = home_in(long.as_fd(), 1000, &mut line).expect("a file in memory is read");
    assert_eq!(found, home_of(passwd, 1000));
});

/// passwd(5): name, password, uid, gid, comment, directory, shell. Longer lines than 1024 bytes are no lines
/// of ours.
fn home_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    let lines = passwd
        .split(|byte| *byte == b'\n')
        .filter(|line| line.len() <= 1024);
    let entries = lines.map(|line| line.split(|byte| *byte == b':').collect::<Vec<_>>());
    entries
        .filter(|fields| fields.len() > 5 && fields[2] == uid.to_string().as_bytes())
        .map(|fields| fields[5])
        .next()
}
