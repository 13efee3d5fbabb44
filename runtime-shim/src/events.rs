//! Runs in: SHIM. Events for containerd, in their order: kept until it has taken them, so that one that is
//! away for a while misses none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::{self, context};
use tokio::sync::Notify;

use crate::values::{any, timestamp};

/// More than this, and the oldest are forgotten: a containerd that never comes back must not cost memory
/// without end.
const MOST: usize = 4096;

/// How long containerd may take for one.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts, the first and the longest.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(3);

/// Where events are left. They are sent by the task that `Publisher::new` starts.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    namespace: String,
    waiting: Mutex<VecDeque<Envelope>>,
    /// One has come, or all have gone.
    changed: Notify,
    drained: Notify,
}

impl Publisher {
    pub(crate) fn new(address: String, namespace: String) -> Self {
        let queue = Arc::new(Queue {
            namespace,
            waiting: Mutex::default(),
            changed: Notify::new(),
            drained: Notify::new(),
        });
        tokio::spawn(send_all(Arc::clone(&queue), address));
        Self(queue)
    }

    /// Leaves an event. `name` is that of the message, with its package.
    pub(crate) fn publish(&self, topic: &str, name: &str, event: &impl Message) {
        let event = match any(name, event) {
            Ok(event) => event,
            Err(error) => return log::error!("an event cannot be sent: {error}"),
        };
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.0.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(event),
            ..Envelope::default()
        };
        let mut waiting = self.0.waiting();
        if waiting.len() == MOST {
            log::error!("containerd takes no events: the oldest is forgotten");
            waiting.pop_front();
        }
        waiting.push_back(envelope);
        self.0.changed.notify_one();
    }

    /// Waits until containerd has taken all of them, at most as long as one may take.
    pub(crate) async fn drain(&self) {
        let all = async {
            loop {
                let drained = self.0.drained.notified();
                if self.0.waiting().is_empty() {
                    return;
                }
                drained.await;
            }
        };
        if tokio::time::timeout(TIMEOUT, all).await.is_err() {
            log::warn!("containerd has not taken the last events");
        }
    }
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&self) -> Option<Envelope> {
        self.waiting().front().cloned()
    }

    /// It is still the first, unless it was forgotten meanwhile.
    fn remove(&self, sent: &Envelope) {
        let mut waiting = self.waiting();
        if waiting.front() == Some(sent) {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.drained.notify_waiters();
        }
    }
}

async fn send_all(queue: Arc<Queue>, address: String) {
    let address = match address.contains("://") {
        true => address,
        false => format!("unix://{address}"),
    };
    let mut client = None;
    let mut pause = SOON;
    loop {
        let Some(envelope) = queue.first() else {
            queue.changed.notified().await;
            continue;
        };
        match send(&mut client, &address, &queue.namespace, &envelope).await {
            Ok(()) => {
                queue.remove(&envelope);
                pause = SOON;
            }
            // It was there, and would not have it: so it will be the next time.
            Err(ttrpc::Error::RpcStatus(status)) if status.code() != ttrpc::Code::DEADLINE_EXCEEDED => {
                log::error!(
                    "containerd refuses an event of {}: {}",
                    envelope.topic,
                    status.message()
                );
                queue.remove(&envelope);
            }
            Err(error) => {
                log::debug!("containerd takes no events, and is asked again: {error}");
                client = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LATER);
            }
        }
    }
}

async fn send(
    client: &mut Option<EventsClient>,
    address: &str,
    namespace: &str,
    envelope: &Envelope,
) -> ttrpc::Result<()> {
    let events = match client {
        Some(events) => events,
        None => client.insert(EventsClient::new(Client::connect(address).await?)),
    };
    let mut context = context::with_duration(TIMEOUT);
    context.add("containerd-namespace-ttrpc".to_owned(), namespace.to_owned());
    let request = ForwardRequest {
        envelope: MessageField::some(envelope.clone()),
        ..ForwardRequest::default()
    };
    events.forward(context, &request).await.map(drop)
}
