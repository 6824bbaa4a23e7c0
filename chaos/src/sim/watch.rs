//! A watch channel that wakes in a fixed order.
//!
//! tokio's spreads its waiters over slots by a random number of its own, which the seed does not reach. Here each
//! receiver has a number and at most one waker (`changed` borrows it mutably); a change wakes them in the order in
//! which they began to wait.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft_rt::watch::{RecvError, SendError};
use openraft_rt::{OptionalSend, OptionalSync, Watch, WatchReceiver, WatchSender};

/// The family of channels.
pub struct SimWatch;

struct Value<T> {
    value: T,
    version: u64,
}

#[derive(Default)]
struct Ends {
    senders: usize,
    receivers: usize,
    next_receiver: u64,
    waiting: Vec<(u64, Waker)>,
}

struct Channel<T> {
    value: RwLock<Value<T>>,
    ends: Mutex<Ends>,
}

impl<T> Channel<T> {
    fn read(&self) -> RwLockReadGuard<'_, Value<T>> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.ends().waiting);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    fn receiver(self: &Arc<Self>, seen: u64) -> SimWatchReceiver<T> {
        let mut ends = self.ends();
        ends.receivers += 1;
        ends.next_receiver += 1;
        SimWatchReceiver { number: ends.next_receiver, channel: self.clone(), seen }
    }
}

/// Sends values.
pub struct SimWatchSender<T> {
    channel: Arc<Channel<T>>,
}

/// Sees the latest value.
pub struct SimWatchReceiver<T> {
    channel: Arc<Channel<T>>,
    number: u64,
    seen: u64,
}

/// Holds the value for reading.
pub struct SimWatchRef<'a, T>(RwLockReadGuard<'a, Value<T>>);

impl<T> Deref for SimWatchRef<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl Watch for SimWatch {
    type Sender<T: OptionalSend + OptionalSync> = SimWatchSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = SimWatchReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = SimWatchRef<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Self::Sender<T>, Self::Receiver<T>) {
        let channel = Arc::new(Channel {
            value: RwLock::new(Value { value: init, version: 0 }),
            ends: Mutex::new(Ends { senders: 1, ..Ends::default() }),
        });
        let receiver = channel.receiver(0);
        (SimWatchSender { channel }, receiver)
    }
}

impl<T> Clone for SimWatchSender<T> {
    fn clone(&self) -> Self {
        self.channel.ends().senders += 1;
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for SimWatchSender<T> {
    fn drop(&mut self) {
        let last = {
            let mut ends = self.channel.ends();
            ends.senders -= 1;
            ends.senders == 0
        };
        if last {
            self.channel.wake_all();
        }
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<SimWatch, T> for SimWatchSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.channel.ends().receivers == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = {
            let mut value = self.channel.value.write().unwrap_or_else(PoisonError::into_inner);
            let modified = modify(&mut value.value);
            value.version += u64::from(modified);
            modified
        };
        if modified {
            self.channel.wake_all();
        }
        modified
    }

    fn borrow_watched(&self) -> SimWatchRef<'_, T> {
        SimWatchRef(self.channel.read())
    }

    fn subscribe(&self) -> SimWatchReceiver<T> {
        let seen = self.channel.read().version;
        self.channel.receiver(seen)
    }
}

impl<T> Clone for SimWatchReceiver<T> {
    fn clone(&self) -> Self {
        self.channel.receiver(self.seen)
    }
}

impl<T> Drop for SimWatchReceiver<T> {
    fn drop(&mut self) {
        let mut ends = self.channel.ends();
        ends.receivers -= 1;
        let number = self.number;
        ends.waiting.retain(|(waiting, _)| *waiting != number);
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<SimWatch, T> for SimWatchReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|cx| {
            let mut ends = self.channel.ends();
            let version = self.channel.read().version;
            if version != self.seen {
                self.seen = version;
                return Poll::Ready(Ok(()));
            }
            if ends.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            let number = self.number;
            match ends.waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => ends.waiting.push((number, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> SimWatchRef<'_, T> {
        SimWatchRef(self.channel.read())
    }

    fn borrow_and_update(&mut self) -> SimWatchRef<'_, T> {
        let value = self.channel.read();
        self.seen = value.version;
        SimWatchRef(value)
    }
}
