//! Runs in: SHIM, as `-info` and `-v`: what this program is, and what its runtime can do.

use std::io::Write;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::NAME;
use crate::bootstrap::read_input;
use crate::failure::{Failure, Result};

const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints a `RuntimeInfo`.
///
/// # Errors
/// Standard input or output fails; what is on standard input is no `Any`.
pub(crate) fn print() -> Result<()> {
    let options = Any::parse_from_bytes(&read_input()?)?;
    let features = serde_json::to_vec(&runtime_core::features())
        .map_err(|error| Failure::invalid(format!("print the features: {error}")))?;
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options: Some(options)
            .filter(|options| !options.type_url.is_empty())
            .into(),
        features: MessageField::some(Any {
            type_url: FEATURES.to_owned(),
            value: features,
            ..Any::default()
        }),
        ..RuntimeInfo::default()
    };
    write(&info.write_to_bytes()?)
}

/// # Errors
/// Standard output fails.
pub(crate) fn print_version() -> Result<()> {
    let text = format!(
        "{NAME}:\n  Version:  {}\n  Runtime-spec: {}\n",
        env!("CARGO_PKG_VERSION"),
        runtime_core::OCI_VERSION
    );
    write(text.as_bytes())
}

fn write(bytes: &[u8]) -> Result<()> {
    std::io::stdout()
        .write_all(bytes)
        .map_err(|error| Failure::io("print", "/dev/stdout", error))
}
