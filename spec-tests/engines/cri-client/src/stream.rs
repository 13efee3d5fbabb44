//! Runs in: SUITE. The streams behind the URLs that Exec, Attach and PortForward answer with: the
//! sub-protocol `v4.channel.k8s.io` of WebSocket, where the first byte of a message is the number of its
//! channel.

use crate::Failure;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde_json::Value;
use std::process::ExitCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// Exec or attach, until the other side ends it. The exit code is the process's.
pub(crate) async fn attach(url: &str) -> Result<ExitCode, Failure> {
    let (write, mut read) = connect(url).await?.split();
    let input = tokio::spawn(send_stdin(write));
    let mut code = ExitCode::SUCCESS;
    while let Some(message) = read.next().await {
        let Message::Binary(data) = message? else { continue };
        match data.split_first() {
            Some((&STDOUT, text)) => print(tokio::io::stdout(), text).await?,
            Some((&STDERR, text)) => print(tokio::io::stderr(), text).await?,
            Some((&ERROR, text)) => code = exit_code(text)?,
            _ => {}
        }
    }
    input.abort();
    Ok(code)
}

/// Stdin to a port in the pod, until it has answered and closed.
pub(crate) async fn forward(url: &str, port: &str) -> Result<ExitCode, Failure> {
    let (write, mut read) = connect(&format!("{url}?port={port}")).await?.split();
    let input = tokio::spawn(send_stdin(write));
    // The first message of either channel is the number of the port.
    let mut seen = [false; 2];
    while let Some(message) = read.next().await {
        let Message::Binary(data) = message? else { continue };
        match data.split_first() {
            Some((&channel @ (0 | 1), _)) if !seen[usize::from(channel)] => seen[usize::from(channel)] = true,
            Some((0, text)) => print(tokio::io::stdout(), text).await?,
            Some((1, text)) => return Err(String::from_utf8_lossy(text).into()),
            _ => {}
        }
    }
    input.abort();
    Ok(ExitCode::SUCCESS)
}

async fn connect(url: &str) -> Result<Socket, Failure> {
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    let protocol = http::HeaderValue::from_static("v4.channel.k8s.io");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

/// Sends stdin as it comes. Its end cannot be said in this protocol.
async fn send_stdin(mut write: SplitSink<Socket, Message>) -> Result<(), Failure> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 4096];
    loop {
        let length = stdin.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let mut message = vec![STDIN];
        message.extend_from_slice(&buffer[..length]);
        write.send(Message::Binary(message.into())).await?;
    }
}

async fn print(mut to: impl AsyncWriteExt + Unpin, text: &[u8]) -> Result<(), Failure> {
    to.write_all(text).await?;
    Ok(to.flush().await?)
}

/// The last word is a `metav1.Status`: success, or a failure with the exit code among its causes.
fn exit_code(text: &[u8]) -> Result<ExitCode, Failure> {
    let status: Value = serde_json::from_slice(text)?;
    if status["status"] == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
    match code
        .and_then(|cause| cause["message"].as_str())
        .map(str::parse::<u8>)
    {
        Some(Ok(code)) => Ok(ExitCode::from(code)),
        _ => Err(status["message"].to_string().into()),
    }
}
