//! Runs in: SUITE. One call of a method that the interface's description has, the messages as JSON.

use crate::Failure;
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use std::path::PathBuf;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint, Uri},
};

const DESCRIPTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));

/// Calls `name` of the runtime's or the image's service; `each` gets every answer.
pub(crate) async fn call(
    socket: &str,
    name: &str,
    request: Value,
    each: impl Fn(Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let pool = DescriptorPool::decode(DESCRIPTION)?;
    let method = method(&pool, name).ok_or_else(|| format!("CRI has no method {name}"))?;
    let request = DynamicMessage::deserialize(method.input(), request)
        .map_err(|error| format!("request of {name}: {error}"))?;
    let path = format!("/{}/{name}", method.parent_service().full_name()).parse()?;
    let codec = Json(method.output());
    let mut grpc = Grpc::new(connect(socket).await?);
    grpc.ready().await?;
    let request = Request::new(request);
    if !method.is_server_streaming() {
        let answer = grpc.unary(request, path, codec).await.map_err(shown)?;
        return each(json(&answer.into_inner())?);
    }
    let mut answers = grpc
        .server_streaming(request, path, codec)
        .await
        .map_err(shown)?
        .into_inner();
    while let Some(answer) = answers.message().await.map_err(shown)? {
        each(json(&answer)?)?;
    }
    Ok(())
}

fn method(pool: &DescriptorPool, name: &str) -> Option<MethodDescriptor> {
    let mut methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.find(|method| method.name() == name)
}

async fn connect(socket: &str) -> Result<Channel, Failure> {
    let path = PathBuf::from(socket);
    // The address is for the header `authority` alone.
    let endpoint = Endpoint::from_static("http://localhost");
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            format!(
                "{socket}: {}",
                std::error::Error::source(&error).unwrap_or(&error)
            )
        })?)
}

fn json(message: &DynamicMessage) -> Result<Value, Failure> {
    // Exit code 0 is an answer, so what has its default value is shown, too.
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

fn shown(status: Status) -> Failure {
    format!("{:?}: {}", status.code(), status.message()).into()
}

/// Messages by their description; holds that of the answer.
struct Json(MessageDescriptor);

impl Codec for Json {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
