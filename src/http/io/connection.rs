//! One connection: TLS or not, then HTTP/1.1 requests until either side has enough.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::trace;

use super::over;
use super::stall::Stalling;
use crate::core::id::Pii;
use crate::core::io::connections::Connections;
use crate::http::{Config, plain};

/// First byte of a TLS record that holds a ClientHello (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;
/// The smallest buffer hyper works with.
const MIN_BUFFER: usize = 8192;

pub(super) struct Server {
    pub(super) router: Router,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) connections: Connections,
    pub(super) config: Config,
}

pub(super) async fn run(
    server: Arc<Server>,
    stream: TcpStream,
    remote: SocketAddr,
    stopped: watch::Receiver<bool>,
) {
    let Some(_place) = server.connections.admit(remote.ip()) else {
        trace!(remote = ?Pii(remote), "too many connections, this one is refused");
        refuse(&server, &stream);
        return;
    };
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &server.acceptor else {
        serve(&server, stream, remote, stopped, false).await;
        return;
    };
    let mut first = [0];
    let limit = server.config.handshake_timeout();
    match timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE] => match timeout(limit, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(&server, stream, remote, stopped, false).await,
            Ok(Err(error)) => trace!(%error, "TLS handshake failed"),
            Err(_) => trace!("TLS handshake took too long"),
        },
        Ok(Ok(1)) => serve(&server, stream, remote, stopped, true).await,
        _ => {}
    }
}

/// Says why before hanging up, where that takes no handshake.
fn refuse(server: &Server, stream: &TcpStream) {
    if server.acceptor.is_none() {
        let _ = stream.try_write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n\
              Content-Type: text/plain\r\nContent-Length: 40\r\n\r\n\
              Too many connections; try again shortly.",
        );
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    server: &Server,
    stream: S,
    remote: SocketAddr,
    mut stopped: watch::Receiver<bool>,
    redirect: bool,
) {
    let config = &server.config;
    let service = service_fn(move |request: Request<Incoming>| async move {
        let response = if redirect {
            plain::answer(&request.map(|_| ()))
        } else {
            answer(server, request.map(Body::new), remote).await
        };
        Ok::<_, Infallible>(response)
    });
    let stream = TokioIo::new(Stalling::new(stream, config.idle_timeout()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout())
        .max_headers(config.max_headers)
        .max_header_size(config.max_header_bytes)
        .max_buf_size(config.max_header_bytes.max(MIN_BUFFER))
        .serve_connection(stream, service)
        // A WebSocket takes the connection over.
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    trace!(%error, "HTTP connection broke off");
                }
                return;
            }
            () = over(&mut stopped), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(server: &Server, mut request: Request<Body>, remote: SocketAddr) -> Response<Body> {
    let declared = request.body().size_hint().lower();
    if declared > server.config.max_body_bytes as u64 {
        return close(StatusCode::PAYLOAD_TOO_LARGE, "The request's body is too large.\n");
    }
    request.extensions_mut().insert(ConnectInfo(remote));
    match timeout(server.config.request_timeout(), server.router.clone().oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => close(StatusCode::REQUEST_TIMEOUT, "The request took too long.\n"),
    }
}

fn close(status: StatusCode, text: &'static str) -> Response<Body> {
    (status, [("connection", "close")], text).into_response()
}
