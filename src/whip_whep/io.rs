//! Work that goes on when the request that asked for it is gone.

use std::future::Future;

/// Runs `work` to its end even if the caller stops waiting, so that a client that hangs up half-way
/// leaves nothing half made. `None`: it panicked.
pub(super) async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

/// Runs `work` by itself.
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
