//! The pages, embedded in the binary from `web/`.

use axum::Router;

pub(super) fn router() -> Router {
    Router::new()
}
