//! Runs in: RUNTIME. Finds a file system of one type among the mounts. What the files for such file systems
//! share.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The mount point of the first line with this type, of a mountinfo file (proc_pid_mountinfo(5)).
pub(crate) fn mount_point(mountinfo: &[u8], kind: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        // Optional fields stand before the "-", so the type's place varies.
        let separator = fields.iter().position(|field| *field == b"-")?;
        (*fields.get(separator + 1)? == kind).then(|| unescape(fields.get(4).copied().unwrap_or_default()))
    })
}

/// Undoes the octal escapes (`\040`) of the kernel for white space and backslash.
pub(super) fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        // Appended, since a container chooses how long its paths are and how many.
        path.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mountinfo_is_read_past_optional_fields_and_escapes() {
        let text = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw shared:4 - cgroup cgroup rw,cpu\n\
            38 31 0:31 / /mnt/my\\040own\\134tree rw,relatime shared:5 master:1 - cgroup2 none rw\n\
            39 31 0:31 / /later rw - cgroup2 none rw\n";
        assert_eq!(
            mount_point(text, b"cgroup2"),
            Some(PathBuf::from("/mnt/my own\\tree"))
        );
        assert_eq!(
            mount_point(b"31 23 0:28 / /x rw - tmpfs cgroup2 rw\n", b"cgroup2"),
            None
        );
        assert_eq!(mount_point(b"short\n\n", b"cgroup2"), None);
        for as_it_is in ["/a\\04", "/a\\+12", "/a\\ 12", "/a\\777", "/a\\8", "\\"] {
            assert_eq!(unescape(as_it_is.as_bytes()), Path::new(as_it_is));
        }
    }
}
