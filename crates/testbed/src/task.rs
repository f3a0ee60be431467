//! From code that blocks to code that awaits.

use crate::engine::link::lock;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Runs something that blocks on a thread of its own, for whoever awaits. Works in any async runtime, and needs none.
///
/// ```
/// # fn block_on<F: std::future::Future>(future: F) -> F::Output {
/// #     let mut future = std::pin::pin!(future);
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop {
/// #         if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) { return value }
/// #         std::thread::yield_now();
/// #     }
/// # }
/// let answer = block_on(async { testbed::unblock(|| 6 * 7).await });
/// assert_eq!(answer, 42);
/// ```
///
/// Dropped before it is done, what runs goes on, and its result is lost.
///
/// # Panics
/// Awaiting panics if what was run did.
pub fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Unblock<T> {
    let shared = Arc::new(Mutex::new(Progress { result: None, waker: None }));
    let its = Arc::clone(&shared);
    let spawned = std::thread::Builder::new().name("testbed-unblock".into()).spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let mut progress = lock(&its);
        progress.result = Some(result);
        if let Some(waker) = progress.waker.take() {
            waker.wake();
        }
    });
    if let Err(error) = spawned {
        lock(&shared).result = Some(Err(Box::new(format!("cannot start a thread: {error}"))));
    }
    Unblock { shared }
}

/// What [`unblock`] gives.
#[derive(Debug)]
pub struct Unblock<T> {
    shared: Arc<Mutex<Progress<T>>>,
}

#[derive(Debug)]
struct Progress<T> {
    result: Option<std::thread::Result<T>>,
    waker: Option<Waker>,
}

impl<T> Future for Unblock<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut progress = lock(&self.shared);
        match progress.result.take() {
            Some(Ok(value)) => Poll::Ready(value),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {
                progress.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
