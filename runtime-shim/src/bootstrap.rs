//! Runs in: SHIM. What containerd tells `start`, and how it wants the answer: by flags and environment
//! (before 2.3), or as a message on standard input.

use std::io::Read;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};

/// More than any message of containerd, which has the same bound.
const MOST_INPUT: u64 = 10 << 20;

/// The newest task API that is served.
const NEWEST: u32 = 3;

/// How the address is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// The address alone: a containerd that knows no other.
    Address,
    /// JSON, with this version of the task API.
    Json(u32),
    /// A `BootstrapResult`.
    Message,
}

/// What `start` is told.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// containerd's address for gRPC, part of the name of the socket.
    pub(crate) address: String,
    /// Where events go.
    pub(crate) ttrpc_address: String,
    /// Where sockets are made, if not in the usual place.
    pub(crate) socket_directory: Option<String>,
    pub(crate) debug: bool,
    /// Those of the runtime.
    pub(crate) options: Option<Any>,
    reply: Reply,
}

/// The variables that matter.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    ttrpc_address: String,
    grpc_address: String,
    newest_version: Option<u32>,
}

impl Environment {
    pub(crate) fn of_process() -> Self {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        Self {
            ttrpc_address: text("TTRPC_ADDRESS").unwrap_or_default(),
            grpc_address: text("GRPC_ADDRESS").unwrap_or_default(),
            newest_version: text("MAX_SHIM_VERSION").and_then(|version| version.parse().ok()),
        }
    }
}

/// All of standard input.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin()
        .take(MOST_INPUT)
        .read_to_end(&mut input)
        .map_err(|error| Failure::io("read what containerd asks for", "/dev/stdin", error))?;
    Ok(input)
}

impl Bootstrap {
    /// # Errors
    /// A message for another container; no address for events.
    pub(crate) fn new(input: &[u8], arguments: &Arguments, environment: Environment) -> Result<Self> {
        let told = match message(input, arguments)? {
            Some(message) => Self::of_message(message, arguments),
            None => Self::of_environment(input, arguments, environment),
        };
        match told.ttrpc_address.is_empty() {
            true => Err(Failure::invalid(
                "TTRPC_ADDRESS is not set: events would go nowhere",
            )),
            false => Ok(told),
        }
    }

    fn of_message(message: BootstrapParams, arguments: &Arguments) -> Self {
        const DEBUG: i32 = -4;
        Self {
            debug: arguments.debug || message.log_level.value() <= DEBUG,
            socket_directory: message.socket_dir.filter(|directory| !directory.is_empty()),
            address: message.containerd_grpc_address,
            ttrpc_address: message.containerd_ttrpc_address,
            options: message
                .extensions
                .into_iter()
                .filter_map(|extension| extension.value.into_option())
                .find(crate::options::is_known),
            reply: Reply::Message,
        }
    }

    fn of_environment(input: &[u8], arguments: &Arguments, environment: Environment) -> Self {
        let address = match arguments.address.is_empty() {
            true => environment.grpc_address,
            false => arguments.address.clone(),
        };
        Self {
            debug: arguments.debug,
            socket_directory: None,
            address,
            ttrpc_address: environment.ttrpc_address,
            options: Any::parse_from_bytes(input).ok().filter(crate::options::is_known),
            reply: match environment.newest_version {
                Some(version) if version >= 2 => Reply::Json(version.min(NEWEST)),
                _ => Reply::Address,
            },
        }
    }

    /// What is printed for containerd.
    ///
    /// # Errors
    /// None that can come.
    pub(crate) fn answer(&self, address: &str) -> Result<Vec<u8>> {
        match self.reply {
            Reply::Address => Ok(address.as_bytes().to_vec()),
            Reply::Json(version) => {
                let json = serde_json::json!({ "version": version, "address": address, "protocol": "ttrpc" });
                Ok(json.to_string().into_bytes())
            }
            Reply::Message => {
                let message = BootstrapResult {
                    version: NEWEST.cast_signed(),
                    address: address.to_owned(),
                    protocol: "ttrpc".to_owned(),
                    ..BootstrapResult::default()
                };
                Ok(message.write_to_bytes()?)
            }
        }
    }
}

/// The message, if there is one. An older containerd has the runtime's options there, an `Any`, whose fields
/// have the numbers and types of the message's first two.
fn message(input: &[u8], arguments: &Arguments) -> Result<Option<BootstrapParams>> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(message) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if message.instance_id == arguments.id && message.namespace == arguments.namespace {
        return Ok(Some(message));
    }
    let may_be_options = BootstrapParams {
        instance_id: message.instance_id.clone(),
        namespace: message.namespace.clone(),
        ..BootstrapParams::default()
    };
    match message == may_be_options {
        true => Ok(None),
        false => Err(Failure::invalid(format!(
            "what is on standard input is for {}/{}, the flags are for {}/{}",
            message.namespace, message.instance_id, arguments.namespace, arguments.id
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn arguments() -> Arguments {
        let line = "-namespace k8s.io -address /c.sock -id a start";
        Arguments::parse(line.split(' ').map(OsString::from)).unwrap()
    }

    fn environment(version: Option<u32>) -> Environment {
        Environment {
            ttrpc_address: "/c.ttrpc".to_owned(),
            newest_version: version,
            ..Environment::default()
        }
    }

    fn answer(input: &[u8], version: Option<u32>) -> String {
        let told = Bootstrap::new(input, &arguments(), environment(version)).unwrap();
        String::from_utf8_lossy(&told.answer("unix:///s").unwrap()).into_owned()
    }

    #[test]
    fn each_containerd_is_answered_as_it_expects() {
        assert_eq!(answer(b"", None), "unix:///s");
        let json = |version| format!(r#"{{"address":"unix:///s","protocol":"ttrpc","version":{version}}}"#);
        assert_eq!(answer(b"", Some(2)), json(2));
        assert_eq!(answer(b"", Some(3)), json(3));
        assert_eq!(answer(b"", Some(9)), json(3));
        let message = BootstrapParams {
            instance_id: "a".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/new.ttrpc".into(),
            ..BootstrapParams::default()
        };
        let input = message.write_to_bytes().unwrap();
        let told = Bootstrap::new(&input, &arguments(), environment(Some(2))).unwrap();
        assert_eq!(told.ttrpc_address, "/new.ttrpc");
        let answer = BootstrapResult::parse_from_bytes(&told.answer("unix:///s").unwrap()).unwrap();
        assert_eq!((answer.version, answer.address.as_str()), (3, "unix:///s"));
    }

    #[test]
    fn options_of_an_older_containerd_are_no_message() {
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"\x1a\x06/shims".to_vec(),
            ..Any::default()
        };
        let input = options.write_to_bytes().unwrap();
        let told = Bootstrap::new(&input, &arguments(), environment(Some(2))).unwrap();
        assert_eq!(told.options, Some(options));
        assert_eq!(told.ttrpc_address, "/c.ttrpc");
    }

    #[test]
    fn a_message_for_another_container_is_refused() {
        let message = BootstrapParams {
            instance_id: "b".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/new.ttrpc".into(),
            ..BootstrapParams::default()
        };
        let input = message.write_to_bytes().unwrap();
        assert!(Bootstrap::new(&input, &arguments(), environment(None)).is_err());
        assert!(Bootstrap::new(b"", &arguments(), Environment::default()).is_err());
    }
}
