//! A follower as a stream: feature `stream`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::bell::Heard;
use super::follow::Follow;
use super::record::Record;
use crate::error::{Result, WalError};
use crate::store::WalStore;
use crate::sync::{Arc, sleep, spawn};

/// The same records, and the same end, as the iterator's. It reads files where it is polled, which
/// blocks for that, and waits for more without blocking.
impl<S: WalStore> Stream for Follow<S> {
    type Item = Result<Record>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return Poll::Ready(None);
        }
        let Poll::Ready(result) = this.poll_step(context) else { return Poll::Pending };
        Poll::Ready(result.inspect_err(|error| this.fail(error)).transpose())
    }
}

impl<S: WalStore> Follow<S> {
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Record>>> {
        loop {
            match self.read() {
                Ok(None) => {}
                result => return Poll::Ready(result),
            }
            let look = self.source.listen(self.reached.read, &self.bell);
            match self.bell.poll(context.waker().clone()) {
                Heard::Stopped => return Poll::Ready(Ok(None)),
                Heard::Rung(verdict) => {
                    if let Err(error) = self.hear(verdict) {
                        return Poll::Ready(Err(error));
                    }
                }
                Heard::Nothing => {
                    if let Some(look) = look.filter(|_| !self.looking) {
                        let bell = Arc::clone(&self.bell);
                        self.looking = spawn("cohort-wal-look", move || {
                            sleep(look);
                            bell.ring(Ok(()));
                        });
                        if !self.looking {
                            return Poll::Ready(Err(WalError::other(
                                "follow",
                                "no thread can be started",
                            )));
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
