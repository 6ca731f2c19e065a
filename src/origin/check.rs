//! A question to an origin how it is: one GET on a connection of its own, of
//! whose answer only the head is waited for; in HTTP/2 where requests go by it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::connect::{Wire, connect};
use super::fault::Broken;
use super::remote::Remote;
use super::two::head;
use super::{HostHeader, OriginError, OriginSettings};

/// Asks within `limit`, connecting included.
pub(super) async fn ask(
    remote: &Remote,
    path: &PathAndQuery,
    limit: Duration,
) -> Result<StatusCode, OriginError> {
    let asked = exchange(remote, path, limit);
    match tokio::time::timeout(limit, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(OriginError::FirstByteTimeout),
    }
}

async fn exchange(
    remote: &Remote,
    path: &PathAndQuery,
    limit: Duration,
) -> Result<StatusCode, OriginError> {
    let settings = &remote.settings;
    let opened = connect(
        (settings, settings.http2),
        &remote.names,
        limit.min(settings.connect),
    )
    .await?;
    let request = question(settings, path);
    if opened.speaks_two {
        let request = head(&request, settings.tls.is_some())?;
        let answered = in_stream(opened.wire, request).await;
        return answered.map_err(|fault| OriginError::Reset(Broken::Two(fault)));
    }
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(settings.title_case_headers)
        .handshake(TokioIo::new(opened.wire))
        .await
        .map_err(|fault| OriginError::Reset(Broken::One(fault)))?;
    // The answer's head is all that is wanted: the rest goes with the connection.
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        // An answer that came with the connection's end is there by now.
        _ended = connection => answer.await,
    };
    let answered = answered.map_err(|fault| OriginError::Reset(Broken::One(fault)))?;
    Ok(answered.status())
}

/// The same over HTTP/2.
async fn in_stream(wire: Wire, request: Request<()>) -> Result<StatusCode, h2::Error> {
    let (mut sender, connection) = h2::client::handshake(wire).await?;
    let (mut answer, _no_body) = sender.send_request(request, true)?;
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        _ended = connection => answer.await,
    };
    answered.map(|answered| answered.status())
}

fn question(settings: &OriginSettings, path: &PathAndQuery) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.clone().into();
    let host = match &settings.host_header {
        HostHeader::Name(name) => name.clone(),
        HostHeader::Preserve | HostHeader::Origin => settings.authority.clone(),
    };
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("sumun-check"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}
