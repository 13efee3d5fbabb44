//! Runs in: SHIM, the process that stays: serves the pod on the socket that it has as standard input, until
//! there is nothing to serve.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;

use crate::arguments::Arguments;
use crate::events::Publisher;
use crate::failure::{Failure, Result};
use crate::pod::Pod;
use crate::{log_fifo, protection, service, socket};

/// Threads for calls that may wait.
const THREADS: usize = 8;

/// How long such a thread is kept for the next call.
const KEPT: Duration = Duration::from_secs(1);

/// # Errors
/// Standard input is no socket; a failed call.
pub(crate) fn serve(arguments: &Arguments) -> Result<()> {
    protection::protect()?;
    let listener = take_socket()?;
    log_fifo::open(arguments.debug);
    let address = std::env::var("TTRPC_ADDRESS").map_err(|_| Failure::invalid("TTRPC_ADDRESS is not set"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(THREADS)
        .thread_keep_alive(KEPT)
        .build()
        .map_err(|error| Failure::io("begin to serve", "epoll", error))?;
    let result = runtime.block_on(serve_pod(listener, address, arguments.namespace.clone()));
    // A thread that hangs must not keep us.
    runtime.shutdown_background();
    result
}

/// The socket, in whose place then is /dev/null.
fn take_socket() -> Result<UnixListener> {
    let failed = |error: std::io::Error| Failure::io("take the socket", "/dev/stdin", error);
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let listener = UnixListener::from(socket);
    listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let null = File::open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
    Ok(listener)
}

async fn serve_pod(listener: UnixListener, address: String, namespace: String) -> Result<()> {
    let failed = |error: std::io::Error| Failure::io("serve", "socket", error);
    let path = listener
        .local_addr()
        .map_err(failed)?
        .as_pathname()
        .map(ToOwned::to_owned);
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    let publisher = Publisher::new(address, namespace.clone());
    let pod = Pod::new(namespace, publisher);
    let mut server = Server::new()
        .add_listener(Listener::from(listener))
        .register_service(service::methods(&pod));
    let told = |error| {
        Failure::new(
            containerd_shim_protos::ttrpc::Code::INTERNAL,
            format!("serve: {error}"),
        )
    };
    server.start().await.map_err(told)?;
    pod.over.notified().await;
    server.stop_listen().await;
    if let Some(path) = path {
        socket::remove(&path)?;
    }
    pod.events_taken().await;
    // What was answered last may still be on its way.
    server.disconnect().await;
    Ok(())
}
