//! Runs in: RUNTIME. criu(8): its program and its process, the conversation with it, the directories that it
//! works in, what it is told of a container's mounts and cgroups, and what its log says. `ops/checkpoint.rs`
//! and `ops/restore.rs` are the stories.

pub(crate) mod cgroups;
mod connection;
mod images;
pub(crate) mod log;
pub(crate) mod mapped_images;
pub(crate) mod mounts;
mod options;
mod paths;
mod process;
mod program;
mod rpc;
mod session;

pub(crate) use cgroups::cgroup_roots;
pub(crate) use images::{Directories, open_images, open_or_make_images};
pub use options::{CriuOptions, ManageCgroups, NetworkLock};
pub(crate) use paths::{clean_path, path_bytes};
pub(crate) use process::{Start, Surroundings};
pub(crate) use program::{check_place, find};
#[cfg(feature = "unstable")]
pub(crate) use rpc::Response;
pub(crate) use rpc::{Features, InheritFd, JoinNamespace, Kind, Notification, Options, PageServer};
pub(crate) use session::{Attendant, Session, common_options, need_root};
