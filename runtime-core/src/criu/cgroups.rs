//! Runs in: RUNTIME. Where criu puts the cgroups of a dump: below the cgroups that it is in itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::paths::path_bytes;
use super::rpc::CgroupRoot;
use crate::Result;
use crate::error::{CallResult, ErrorResult};

/// The cgroups of a process, one for each hierarchy and controller: on a hybrid host those of version 1 are
/// told too, or criu would take the paths of the dump for them.
pub(crate) fn cgroup_roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read(&path).call("read").path(path)?;
    Ok(parse(&text))
}

/// Lines as `4:cpu,cpuacct:/path`, and `0::/path` for version 2 (cgroups(7)).
pub(crate) fn parse(text: &[u8]) -> Vec<CgroupRoot> {
    let mut roots = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        for controller in String::from_utf8_lossy(controllers).split(',') {
            roots.push(CgroupRoot {
                controller: Some(controller.to_owned()),
                path: path_bytes(OsStr::from_bytes(path)),
            });
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_controller_has_its_root_and_version_2_the_empty_name() {
        let roots = super::parse(b"4:cpu,cpuacct:/a:b\n1:name=systemd:/s\n0::/c\n\n");
        let roots: Vec<_> = roots
            .iter()
            .map(|root| (root.controller(), &root.path[..]))
            .collect();
        let expected: [(&str, &[u8]); 4] = [
            ("cpu", b"/a:b"),
            ("cpuacct", b"/a:b"),
            ("name=systemd", b"/s"),
            ("", b"/c"),
        ];
        assert_eq!(roots, expected);
    }
}
