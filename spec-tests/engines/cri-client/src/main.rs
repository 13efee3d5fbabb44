//! Runs in: SUITE. `cri`: a client of the Kubernetes Container Runtime Interface, for tests in shell. Any
//! method by its name, with requests and answers as JSON; and the streams of Exec, Attach and PortForward.

mod call;
mod document;
mod stream;

use std::{error::Error, process::ExitCode};

/// What can go wrong, as text for the person who reads the test's log.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: cri [--socket PATH] [--get POINTER] METHOD [JSON...]
       cri stream URL            exec or attach: stdin to it, its output to stdout and stderr, its exit code
       cri forward URL PORT      stdin to the port, and back

The JSON documents are merged (RFC 7396), later ones over earlier ones. The answer is printed as JSON; of methods that
answer in a stream a line each. --get prints what a pointer points at (`/status/ip`, `/items/*/id`), a line each: text as it is.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(run(&arguments));
    // A read of stdin that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &Failure) -> ExitCode {
    eprintln!("cri: {error}");
    ExitCode::from(125)
}

async fn run(arguments: &[String]) -> Result<ExitCode, Failure> {
    let mut socket = "/run/containerd/containerd.sock";
    let mut pointer = None;
    let mut rest = arguments;
    loop {
        match rest {
            [option, value, tail @ ..] if option == "--socket" => (socket, rest) = (value, tail),
            [option, value, tail @ ..] if option == "--get" => (pointer, rest) = (Some(value.as_str()), tail),
            [command, url] if command == "stream" => return stream::attach(url).await,
            [command, url, port] if command == "forward" => return stream::forward(url, port).await,
            [method, documents @ ..] if method.starts_with(|c: char| c.is_ascii_uppercase()) => {
                let request = document::merged(documents)?;
                let print = |answer| document::print(&answer, pointer);
                call::call(socket, method, request, print).await?;
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(USAGE.into()),
        }
    }
}
