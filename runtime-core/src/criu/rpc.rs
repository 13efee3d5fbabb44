//! Runs in: RUNTIME. The messages of criu(8): those fields of its `rpc.proto` that onggi uses, under its
//! numbers. No I/O.
//!
//! proto2: an absent field has criu's own default, so every option is an `Option`. Unknown fields of a newer
//! criu are passed over.

/// What is asked of criu (`criu_req`).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    /// What to do.
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub(crate) options: Option<Options>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub(crate) notify_success: Option<bool>,
    /// criu waits for a further request after this one. Only for those that change nothing.
    #[prost(bool, optional, tag = "4")]
    pub(crate) keep_open: Option<bool>,
    /// With `FeatureCheck`: the features that are asked for.
    #[prost(message, optional, tag = "5")]
    pub(crate) features: Option<Features>,
}

/// The kinds of request and response (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    /// No request.
    Empty = 0,
    /// Dump.
    Dump = 1,
    /// Restore.
    Restore = 2,
    /// Something has happened on the way.
    Notify = 6,
    /// What this criu can do on this kernel.
    FeatureCheck = 9,
    /// Its version.
    Version = 10,
    /// Memory only, and once: criu ends after it.
    SinglePreDump = 13,
}

/// Optional abilities (`criu_features`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Features {
    /// The kernel tells which pages were written to.
    #[prost(bool, optional, tag = "1")]
    pub(crate) mem_track: Option<bool>,
    /// userfaultfd(2).
    #[prost(bool, optional, tag = "2")]
    pub(crate) lazy_pages: Option<bool>,
}

/// How to do it (`criu_opts`). Descriptors are numbers in RUNTIME, except those in `inherit_fd`: they are
/// criu's own.
#[derive(Clone, PartialEq, prost::Message)]
#[allow(missing_docs, reason = "the fields are criu's, see criu(8) and its rpc.proto")]
pub(crate) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(crate) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(crate) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(crate) notify_scripts: Option<bool>,
    // Paths are bytes, and go as such: proto2's `string` and `bytes` are the same on the wire.
    #[prost(bytes = "vec", optional, tag = "13")]
    pub(crate) root: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(crate) parent_img: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "15")]
    pub(crate) track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(crate) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(crate) work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(crate) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) ext_mnt: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub(crate) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(crate) cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(crate) rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(crate) inherit_fd: Vec<InheritFd>,
    #[prost(bool, optional, tag = "29")]
    pub(crate) ext_sharing: Option<bool>,
    #[prost(bool, optional, tag = "30")]
    pub(crate) ext_masters: Option<bool>,
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub(crate) manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(crate) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(crate) empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(crate) join_ns: Vec<JoinNamespace>,
    #[prost(bytes = "vec", optional, tag = "44")]
    pub(crate) freeze_cgroup: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "46")]
    pub(crate) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(crate) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(crate) orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(crate) config_file: Option<String>,
    #[prost(bool, optional, tag = "52")]
    pub(crate) tcp_close: Option<bool>,
    #[prost(string, optional, tag = "53")]
    pub(crate) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(crate) lsm_mount_context: Option<String>,
    #[prost(enumeration = "NetworkLock", optional, tag = "64")]
    pub(crate) network_lock: Option<i32>,
}

/// What criu does about cgroups (`criu_cg_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum CgroupMode {
    /// Nothing: restored processes are where criu is.
    Ignore = 0,
    /// Makes those that are missing, and sets the properties of these.
    Soft = 3,
    /// Sets properties of all.
    Full = 4,
    /// Wants none to be there.
    Strict = 5,
}

/// How connections are kept quiet meanwhile (`criu_network_lock_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum NetworkLock {
    /// By iptables-restore(8).
    Iptables = 1,
    /// By nftables.
    Nftables = 2,
    /// Not at all.
    Skip = 3,
}

/// Where pages go (`criu_page_server_info`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PageServer {
    /// Host.
    #[prost(string, optional, tag = "1")]
    pub(crate) address: Option<String>,
    /// Port.
    #[prost(int32, optional, tag = "2")]
    pub(crate) port: Option<i32>,
}

/// A mount that criu leaves to us (`ext_mount_map`). At a dump from its place to its name, at a restore from
/// its name to the host's path.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[allow(missing_docs, reason = "said above")]
pub(crate) struct ExternalMount {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// Where the cgroups of the dump are put (`cgroup_root`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct CgroupRoot {
    /// The hierarchy; empty: version 2.
    #[prost(string, optional, tag = "1")]
    pub(crate) controller: Option<String>,
    /// The path below the mount of the hierarchy.
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) path: Vec<u8>,
}

/// What a descriptor of the dump becomes (`inherit_fd`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct InheritFd {
    /// Its name in the dump.
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    /// criu's own.
    #[prost(int32, required, tag = "2")]
    pub(crate) fd: i32,
}

/// A namespace to be joined by path (`join_namespace`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct JoinNamespace {
    /// As in `/proc/<pid>/ns`.
    #[prost(string, required, tag = "1")]
    pub(crate) kind: String,
    /// Its file.
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) path: Vec<u8>,
}

/// What criu answers (`criu_resp`).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    /// What it is about.
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    /// Whether it could be done.
    #[prost(bool, required, tag = "2")]
    pub(crate) success: bool,
    /// After a restore.
    #[prost(message, optional, tag = "4")]
    pub(crate) restored: Option<Restored>,
    /// On the way.
    #[prost(message, optional, tag = "5")]
    pub(crate) notification: Option<Notification>,
    /// Why not.
    #[prost(int32, optional, tag = "7")]
    pub(crate) errno: Option<i32>,
    /// Which of the features are there.
    #[prost(message, optional, tag = "8")]
    pub(crate) features: Option<Features>,
    /// Why not, in words.
    #[prost(string, optional, tag = "9")]
    pub(crate) message: Option<String>,
    /// Its version.
    #[prost(message, optional, tag = "10")]
    pub(crate) version: Option<Version>,
}

/// The result of a restore (`criu_restore_resp`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Restored {
    /// The pid of the container's first process, as criu sees it.
    #[prost(int32, required, tag = "1")]
    pub(crate) pid: i32,
}

/// Something that RUNTIME may act upon before criu goes on (`criu_notify`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Notification {
    /// Its name: the "actions" of criu(8).
    #[prost(string, optional, tag = "1")]
    pub(crate) script: Option<String>,
    /// The pid of the container's first process, where there is one.
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
}

/// A version (`criu_version`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Version {
    /// 3 of 3.17.1.
    #[prost(int32, required, tag = "1")]
    pub(crate) major: i32,
    /// 17 of 3.17.1.
    #[prost(int32, required, tag = "2")]
    pub(crate) minor: i32,
    /// 1 of 3.17.1.
    #[prost(int32, optional, tag = "4")]
    pub(crate) sublevel: Option<i32>,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The bytes that criu's own definition makes of it: field number and wire type, then the value.
    #[test]
    fn a_request_has_the_bytes_of_rpc_proto() {
        let request = Request {
            kind: Kind::Dump.into(),
            options: Some(Options {
                images_dir_fd: 5,
                leave_running: Some(true),
                root: Some(b"/r\xff".to_vec()),
                network_lock: Some(NetworkLock::Skip.into()),
                ..Options::default()
            }),
            ..Request::default()
        };
        let expected = [
            0x08, 1, // type
            0x12, 12, // opts
            0x08, 5, // images_dir_fd
            0x18, 1, // leave_running
            0x6a, 3, b'/', b'r', 0xff, // root
            0x80, 0x04, 3, // network_lock, field 64
        ];
        assert_eq!(request.encode_to_vec(), expected);
    }

    /// Numbers and wire types of `criu_opts` in criu's rpc.proto: 0 is a number, 2 has a length.
    #[test]
    fn every_option_has_its_number_of_rpc_proto() {
        let (none, text) = (Options::default, || String::from("x"));
        let options: [(u32, u32, Options); 37] = [
            (
                2,
                0,
                Options {
                    pid: Some(1),
                    ..none()
                },
            ),
            (
                3,
                0,
                Options {
                    leave_running: Some(true),
                    ..none()
                },
            ),
            (
                4,
                0,
                Options {
                    ext_unix_sk: Some(true),
                    ..none()
                },
            ),
            (
                5,
                0,
                Options {
                    tcp_established: Some(true),
                    ..none()
                },
            ),
            (
                6,
                0,
                Options {
                    evasive_devices: Some(true),
                    ..none()
                },
            ),
            (
                7,
                0,
                Options {
                    shell_job: Some(true),
                    ..none()
                },
            ),
            (
                8,
                0,
                Options {
                    file_locks: Some(true),
                    ..none()
                },
            ),
            (
                9,
                0,
                Options {
                    log_level: Some(1),
                    ..none()
                },
            ),
            (
                10,
                2,
                Options {
                    log_file: Some(text()),
                    ..none()
                },
            ),
            (
                11,
                2,
                Options {
                    page_server: Some(PageServer::default()),
                    ..none()
                },
            ),
            (
                12,
                0,
                Options {
                    notify_scripts: Some(true),
                    ..none()
                },
            ),
            (
                13,
                2,
                Options {
                    root: Some(vec![]),
                    ..none()
                },
            ),
            (
                14,
                2,
                Options {
                    parent_img: Some(vec![]),
                    ..none()
                },
            ),
            (
                15,
                0,
                Options {
                    track_mem: Some(true),
                    ..none()
                },
            ),
            (
                16,
                0,
                Options {
                    auto_dedup: Some(true),
                    ..none()
                },
            ),
            (
                17,
                0,
                Options {
                    work_dir_fd: Some(1),
                    ..none()
                },
            ),
            (
                18,
                0,
                Options {
                    link_remap: Some(true),
                    ..none()
                },
            ),
            (
                23,
                2,
                Options {
                    ext_mnt: vec![ExternalMount::default()],
                    ..none()
                },
            ),
            (
                24,
                0,
                Options {
                    manage_cgroups: Some(true),
                    ..none()
                },
            ),
            (
                25,
                2,
                Options {
                    cg_root: vec![CgroupRoot::default()],
                    ..none()
                },
            ),
            (
                26,
                0,
                Options {
                    rst_sibling: Some(true),
                    ..none()
                },
            ),
            (
                27,
                2,
                Options {
                    inherit_fd: vec![InheritFd::default()],
                    ..none()
                },
            ),
            (
                29,
                0,
                Options {
                    ext_sharing: Some(true),
                    ..none()
                },
            ),
            (
                30,
                0,
                Options {
                    ext_masters: Some(true),
                    ..none()
                },
            ),
            (
                34,
                0,
                Options {
                    manage_cgroups_mode: Some(1),
                    ..none()
                },
            ),
            (
                37,
                2,
                Options {
                    external: vec![text()],
                    ..none()
                },
            ),
            (
                38,
                0,
                Options {
                    empty_ns: Some(1),
                    ..none()
                },
            ),
            (
                39,
                2,
                Options {
                    join_ns: vec![JoinNamespace::default()],
                    ..none()
                },
            ),
            (
                44,
                2,
                Options {
                    freeze_cgroup: Some(vec![]),
                    ..none()
                },
            ),
            (
                46,
                0,
                Options {
                    tcp_skip_in_flight: Some(true),
                    ..none()
                },
            ),
            (
                48,
                0,
                Options {
                    lazy_pages: Some(true),
                    ..none()
                },
            ),
            (
                50,
                0,
                Options {
                    orphan_pts_master: Some(true),
                    ..none()
                },
            ),
            (
                51,
                2,
                Options {
                    config_file: Some(text()),
                    ..none()
                },
            ),
            (
                52,
                0,
                Options {
                    tcp_close: Some(true),
                    ..none()
                },
            ),
            (
                53,
                2,
                Options {
                    lsm_profile: Some(text()),
                    ..none()
                },
            ),
            (
                63,
                2,
                Options {
                    lsm_mount_context: Some(text()),
                    ..none()
                },
            ),
            (
                64,
                0,
                Options {
                    network_lock: Some(1),
                    ..none()
                },
            ),
        ];
        for (number, wire, option) in options {
            let bytes = option.encode_to_vec();
            let mut wish = vec![0x08, 0];
            prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut wish);
            assert_eq!(bytes.get(..wish.len()), Some(&wish[..]), "field {number}");
            let length = bytes.len() - wish.len();
            let value = bytes[wish.len()];
            // Nothing else is said: the rest is one small number, or as long as it says.
            assert!(
                wire == 0 && length == 1 || usize::from(value) == length - 1,
                "field {number}"
            );
        }
    }

    #[test]
    fn the_values_of_enumerations_are_those_of_rpc_proto() {
        let modes = [
            CgroupMode::Ignore,
            CgroupMode::Soft,
            CgroupMode::Full,
            CgroupMode::Strict,
        ];
        assert_eq!(modes.map(i32::from), [0, 3, 4, 5]);
        let locks = [NetworkLock::Iptables, NetworkLock::Nftables, NetworkLock::Skip];
        assert_eq!(locks.map(i32::from), [1, 2, 3]);
        let kinds = [
            Kind::Empty,
            Kind::Dump,
            Kind::Restore,
            Kind::Notify,
            Kind::FeatureCheck,
            Kind::Version,
            Kind::SinglePreDump,
        ];
        assert_eq!(kinds.map(i32::from), [0, 1, 2, 6, 9, 10, 13]);
    }

    #[test]
    fn parts_of_options_have_their_numbers_of_rpc_proto() {
        let (key, value) = (b"k".to_vec(), b"v".to_vec());
        let mount = ExternalMount { key, value };
        assert_eq!(mount.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        let address = Some("a".to_owned());
        let server = PageServer {
            address,
            port: Some(7),
        };
        assert_eq!(server.encode_to_vec(), b"\x0a\x01a\x10\x07");
        let (controller, path) = (Some("c".to_owned()), b"p".to_vec());
        let root = CgroupRoot { controller, path };
        assert_eq!(root.encode_to_vec(), b"\x0a\x01c\x12\x01p");
        let inherit = InheritFd {
            key: "k".to_owned(),
            fd: 9,
        };
        assert_eq!(inherit.encode_to_vec(), b"\x0a\x01k\x10\x09");
        let (kind, path) = ("net".to_owned(), b"/n".to_vec());
        let join = JoinNamespace { kind, path };
        assert_eq!(join.encode_to_vec(), b"\x0a\x03net\x12\x02/n");
        let features = Features {
            mem_track: Some(true),
            lazy_pages: Some(true),
        };
        assert_eq!(features.encode_to_vec(), b"\x08\x01\x10\x01");
        let request = Request {
            kind: Kind::Notify.into(),
            notify_success: Some(true),
            keep_open: Some(true),
            features: Some(Features::default()),
            options: None,
        };
        assert_eq!(request.encode_to_vec(), b"\x08\x06\x18\x01\x20\x01\x2a\x00");
    }

    #[test]
    fn a_response_of_a_newer_criu_is_read_as_far_as_it_is_known() {
        let bytes = [
            0x08, 6, 0x10, 1, // type, success
            0x2a, 8, 0x0a, 3, b'a', b'b', b'c', 0x10, 0x96, 0x01, // notify: script, pid
            0xf8, 0x01, 7, // field 31
        ];
        let response = Response::decode(&bytes[..]).unwrap();
        assert_eq!((response.kind(), response.success), (Kind::Notify, true));
        let notification = response.notification.unwrap();
        assert_eq!((notification.script(), notification.pid()), ("abc", 150));
        assert!(Response::decode(&bytes[..7]).is_err());
    }
}
