//! Connections that wait too long for a request.
//!
//! hyper's own limit sets a timer for each request, and takes it off again. Here
//! a connection has one timer, which looks four times within the limit whether
//! anything has happened.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks within the limit.
const LOOKS: u32 = 4;
/// The shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// What a connection has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Done>);

#[derive(Debug, Default)]
struct Done {
    /// It is at work while the number is odd; anything that counts makes it
    /// larger.
    count: AtomicU64,
    /// A write waits for the client, for which there is another limit.
    blocked: AtomicBool,
}

/// A request at work; over when it is dropped.
pub(super) struct AtWork(Activity);

impl Activity {
    /// Notes that a request's head has arrived.
    pub(super) fn begin(&self) -> AtWork {
        self.add(1);
        AtWork(self.clone())
    }

    /// Only the connection's task writes, so no addition is lost.
    fn add(&self, n: u64) {
        self.0.count.store(self.0.count.load(Relaxed) + n, Relaxed);
    }

    /// What counts, and whether a write waits for the client.
    pub(super) fn seen(&self) -> (u64, bool) {
        (self.0.count.load(Relaxed), self.0.blocked.load(Relaxed))
    }

    fn look(&self, idle: &mut Idle) -> bool {
        let (count, blocked) = self.seen();
        idle.look(count, blocked || count % 2 == 1)
    }

    /// Done when the connection has waited for `limit`, or a quarter more, since
    /// it wrote last.
    pub(super) async fn idle_for(&self, limit: Duration) {
        unchanged_for(limit, |idle| self.look(idle)).await;
    }
}

/// Done when `look` has seen the same for `limit`, or a quarter more.
pub(super) async fn unchanged_for(limit: Duration, mut look: impl FnMut(&mut Idle) -> bool) {
    let mut looks = tokio::time::interval((limit / LOOKS).max(LOOK_MIN));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut idle = Idle::default();
    // The first tick is at once.
    looks.tick().await;
    while !look(&mut idle) {
        looks.tick().await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

/// What the looks have seen; pure.
#[derive(Default)]
pub(super) struct Idle {
    last: Option<u64>,
    same: u32,
}

impl Idle {
    /// Whether nothing has happened for long enough, by a number that changes
    /// with whatever happens. Who is at work is not idle.
    pub(super) fn look(&mut self, activity: u64, at_work: bool) -> bool {
        self.same = if at_work || Some(activity) != self.last { 0 } else { self.same + 1 };
        self.last = Some(activity);
        self.same >= LOOKS
    }
}

/// A stream whose writes count as activity: a reply that is being read is no
/// idleness. Reads do not: headers must arrive within the limit, however many
/// pieces they come in.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
    /// What was read of it already.
    first: BytesMut,
}

impl<S> Watched<S> {
    /// Watches a stream, whose first bytes have been read.
    pub(super) const fn new(stream: S, activity: Activity, first: BytesMut) -> Self {
        Self { stream, activity, first }
    }

    /// Gives back what was read already.
    #[cold]
    fn again(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(length));
        if self.first.is_empty() {
            // Its memory, too.
            self.first = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            self.again(buffer);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.0.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            self.activity.add(2);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_nothing_for_the_limit_is_idle() {
        let mut idle = Idle::default();
        let looks: Vec<_> = (0..6).map(|_| idle.look(0, false)).collect();
        assert_eq!(looks, [false, false, false, false, true, true]);
    }

    #[test]
    fn work_and_writing_begin_the_limit_anew() {
        let (activity, mut idle) = (Activity::default(), Idle::default());
        let look = |idle: &mut Idle| activity.look(idle);
        for _ in 0..LOOKS {
            assert!(!look(&mut idle));
        }
        let work = activity.begin();
        // However long it takes.
        for _ in 0..100 {
            assert!(!look(&mut idle));
        }
        drop(work);
        for _ in 0..100 {
            activity.add(2);
            assert!(!look(&mut idle));
        }
        for _ in 1..LOOKS {
            assert!(!look(&mut idle));
        }
        assert!(look(&mut idle), "a quarter more at most: the look that saw the last is the first");
    }

    #[tokio::test]
    async fn writes_count_and_reads_do_not() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut here, there) = tokio::io::duplex(64);
        let activity = Activity::default();
        let mut watched = Watched::new(there, activity.clone(), BytesMut::from(&b"0123"[..]));
        let mut first = [0; 3];
        watched.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"012", "what was read already comes first");
        let mut first = [0; 1];
        watched.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"3");
        here.write_all(b"abc").await.unwrap();
        let mut read = [0; 3];
        watched.read_exact(&mut read).await.unwrap();
        assert_eq!(activity.0.count.load(Relaxed), 0);
        watched.write_all(b"abc").await.unwrap();
        assert_eq!(activity.0.count.load(Relaxed), 2);
        // More than the other side has room for: no idleness, however long.
        let mut idle = Idle::default();
        {
            let mut more = std::pin::pin!(watched.write_all(&[0; 100]));
            let poll = std::future::poll_fn(|context| Poll::Ready(more.as_mut().poll(context)));
            assert!(poll.await.is_pending());
            assert!((0..100).all(|_| !activity.look(&mut idle)));
        }
        let mut rest = [0; 64];
        here.read_exact(&mut rest).await.unwrap();
        watched.write_all(b"abc").await.unwrap();
        assert!((0..=LOOKS).any(|_| activity.look(&mut idle)));
    }
}
