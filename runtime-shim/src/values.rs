//! Runs in: SHIM. Values of protobuf that several messages have: a message in an `Any`, and a time.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;

use crate::failure::Result;

/// Puts a message into an `Any`, with its bare name, as containerd's typeurl has it.
pub(crate) fn any(name: &str, message: &impl Message) -> Result<Any> {
    Ok(Any {
        type_url: name.to_owned(),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

/// The name of the message in an `Any`: what follows the last slash of its URL.
pub(crate) fn name_of(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        ..Timestamp::default()
    }
}
