//! A bounded queue to one listener that nobody ever waits for: who does not read is cut off, and told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

struct Inner<T> {
    waiting: VecDeque<T>,
    /// What may wait.
    limit: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Why nothing comes any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// What was listened to is over.
    Over,
    /// The listener did not read, and more waited for it than may.
    Lagged,
}

/// The end that is read.
pub(super) struct Reader<T>(Arc<Mutex<Inner<T>>>);

/// The end that is written.
pub(super) struct Writer<T>(Arc<Mutex<Inner<T>>>);

/// A queue in which `first` waits already, and at most `limit` more may.
pub(super) fn queue<T>(first: Vec<T>, limit: usize) -> (Writer<T>, Reader<T>) {
    let limit = limit.saturating_add(first.len());
    let inner = Arc::new(Mutex::new(Inner { waiting: first.into(), limit, end: None, waker: None }));
    (Writer(inner.clone()), Reader(inner))
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Writer<T> {
    /// Adds one; `false` when nobody reads (any more).
    pub fn push(&self, item: T) -> bool {
        // A queue that only this end holds has lost its reader.
        if Arc::strong_count(&self.0) < 2 {
            return false;
        }
        let mut inner = lock(&self.0);
        if inner.end.is_none() {
            if inner.waiting.len() >= inner.limit {
                inner.waiting.clear();
                inner.end = Some(End::Lagged);
            } else {
                inner.waiting.push_back(item);
            }
        }
        wake(&mut inner);
        inner.end.is_none()
    }

    /// Adds what is there at the same time, however much that is; `false` when nobody reads (any more).
    pub fn push_all(&self, items: impl IntoIterator<Item = T>) -> bool {
        let mut inner = lock(&self.0);
        if inner.end.is_none() {
            let before = inner.waiting.len();
            inner.waiting.extend(items);
            inner.limit += inner.waiting.len() - before;
        }
        wake(&mut inner);
        inner.end.is_none()
    }

    /// Whether somebody reads.
    pub fn is_read(&self) -> bool {
        Arc::strong_count(&self.0) > 1 && lock(&self.0).end.is_none()
    }

    /// Nothing comes after what waits.
    pub fn finish(&self) {
        let mut inner = lock(&self.0);
        inner.end.get_or_insert(End::Over);
        wake(&mut inner);
    }
}

fn wake<T>(inner: &mut Inner<T>) {
    if let Some(waker) = inner.waker.take() {
        waker.wake();
    }
}

impl<T> Reader<T> {
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inner = lock(&self.0);
        match inner.waiting.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if inner.end.is_some() => Poll::Ready(None),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Why nothing comes any more, once that is so.
    pub fn end(&self) -> Option<End> {
        let inner = lock(&self.0);
        if inner.waiting.is_empty() { inner.end } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next<T>(reader: &mut Reader<T>) -> Poll<Option<T>> {
        reader.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_does_not_read_is_cut_off_and_what_was_there_first_does_not_count() {
        let (writer, mut reader) = queue(vec![1, 2], 2);
        assert!(writer.push(3) && writer.push(4));
        assert_eq!(next(&mut reader), Poll::Ready(Some(1)));
        assert!(writer.push(5), "one was read");
        assert!(!writer.push(6));
        assert_eq!((next(&mut reader), reader.end()), (Poll::Ready(None), Some(End::Lagged)));
    }

    #[test]
    fn what_waits_is_read_before_the_end() {
        let (writer, mut reader) = queue(Vec::new(), 2);
        assert_eq!(next(&mut reader), Poll::Pending);
        assert!(writer.push('a'));
        writer.finish();
        assert!(!writer.push('b') && reader.end().is_none());
        assert_eq!(next(&mut reader), Poll::Ready(Some('a')));
        assert_eq!((next(&mut reader), reader.end()), (Poll::Ready(None), Some(End::Over)));
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (writer, reader) = queue(Vec::new(), 2);
        assert!(writer.is_read());
        drop(reader);
        assert!(!writer.is_read() && !writer.push(1));
    }
}
