//! What a plain HTTP request on an HTTPS port gets: the address that works, in words or as a redirect.

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;

/// A page is redirected (307, nothing a browser keeps); anything else, whose secrets just crossed the
/// network in the clear, is refused with the address to use.
pub(super) fn answer(request: &Request<()>) -> Response<Body> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse::<Authority>().ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Some(address) = host.map(|host| format!("https://{host}{path}")) else {
        return refuse("This port speaks HTTPS. Use https:// in the address.\n".to_owned());
    };
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    match HeaderValue::from_str(&address) {
        Ok(location) if safe => {
            let text = format!("This port speaks HTTPS: {address}\n");
            let headers = [(header::LOCATION, location), (header::CONNECTION, CLOSE)];
            (StatusCode::TEMPORARY_REDIRECT, headers, text).into_response()
        }
        _ => refuse(format!("This port speaks HTTPS. Use {address}\n")),
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

fn refuse(text: String) -> Response<Body> {
    (StatusCode::BAD_REQUEST, [(header::CONNECTION, CLOSE)], text).into_response()
}
