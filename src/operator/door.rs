//! The admin door of a running gateway, as a caller sees it.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Trouble;
use crate::config::{self, Config};
use crate::room::secret::Secret;

/// To reach the door.
const CONNECT: Duration = Duration::from_secs(3);

/// For a whole answer; an order waits for the store.
const ANSWER: Duration = Duration::from_secs(15);

/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// Events of one page of their list.
const PAGE: usize = 1_000;

/// The door, and the token that opens it.
pub(super) struct Door {
    address: SocketAddr,
    token: Option<Secret>,
    /// Which file says so.
    file: Option<String>,
}

impl Door {
    /// The door that a file names, and its variables; without a file the usual one.
    pub(super) fn of(file: Option<&Path>, admin: Option<&str>) -> Result<Self, Trouble> {
        let file = config::found(file);
        let name = file.as_ref().map(|file| file.display().to_string());
        let text = file.as_deref().map_or(Ok(String::new()), config::text);
        let found = text.and_then(|text| Config::admin_of(&text, config::variables()));
        let found = found.map_err(|faults| Trouble::File {
            file: name.clone().unwrap_or_else(|| "environment".to_owned()),
            faults: faults.to_string(),
        })?;
        let address = match admin {
            Some(text) => named(text)?,
            None => found.listen,
        };
        Ok(Self {
            address: near(address),
            token: found.token,
            file: name,
        })
    }

    /// Where it is called.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ids of all events.
    pub(super) async fn events(&self) -> Result<Vec<String>, Trouble> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = self
                .ask(&format!("/v1/events?limit={PAGE}&after={after}"))
                .await?;
            let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
            let ids = items.iter().filter_map(|item| item["eventId"].as_str());
            all.extend(ids.map(str::to_owned));
            match page["next"].as_str() {
                Some(next) if next > after.as_str() => next.clone_into(&mut after),
                _ => return Ok(all),
            }
        }
    }

    /// A question.
    pub(super) async fn ask(&self, path: &str) -> Result<Value, Trouble> {
        self.call(Method::GET, path, None).await
    }

    /// An order.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, Trouble> {
        self.call(method, path, Some(body)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let (status, said) = self.exchange(method, path, body).await?;
        if status.is_success() {
            return Ok(said);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.token());
        }
        let kind = said["type"].as_str().unwrap_or_default();
        let event = path.strip_prefix("/v1/events/");
        if let Some(event) = event.filter(|_| kind.ends_with(":event")) {
            return Err(Box::pin(self.no_event(event)).await);
        }
        let text = |field: &str| said[field].as_str().filter(|text| !text.is_empty());
        let Some(detail) = text("detail").or(text("title")) else {
            return Err(self.stranger(format!("it answers {status}")));
        };
        Err(Trouble::Refused(match text("field") {
            Some(field) => format!("{field}: {detail}"),
            None => detail.to_owned(),
        }))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Trouble> {
        let request = self.request(method, path, body)?;
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await;
        let tcp = connected
            .map_err(|_| self.late("no connection", CONNECT))?
            .map_err(|fault| self.no_answer(fault.to_string()))?;
        let answered = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            let (head, body) = answer?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            connection.abort();
            Ok::<_, hyper::Error>((head, body))
        };
        let (head, body) = tokio::time::timeout(ANSWER, answered)
            .await
            .map_err(|_| self.late("no answer", ANSWER))?
            .map_err(|fault| self.stranger(fault.to_string()))?;
        let body = body.map_err(|fault| self.stranger(fault.to_string()))?;
        let bytes = body.to_bytes();
        let said = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .map_err(|_| self.stranger(format!("it answers {} without JSON", head.status)))?
        };
        Ok((head.status, said))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut bearer = bearer.map_err(|_| self.token())?;
            bearer.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let usage = |fault: http::Error| Trouble::Usage(fault.to_string());
        request.body(Full::new(body)).map_err(usage)
    }

    /// What there is instead of an event that there is not.
    async fn no_event(&self, path: &str) -> Trouble {
        let id = path.split(['/', '?']).next().unwrap_or_default();
        let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        let known = match self.events().await.unwrap_or_default().as_slice() {
            [] => "is none".to_owned(),
            [one] => format!("is {one}"),
            more => format!("are {}", more.join(", ")),
        };
        Trouble::NoEvent {
            event: id.escape_debug().to_string(),
            known,
        }
    }

    /// Something took too long.
    pub(super) fn late(&self, what: &str, time: Duration) -> Trouble {
        self.no_answer(format!("{what} within {} s", time.as_secs()))
    }

    fn no_answer(&self, why: String) -> Trouble {
        Trouble::NoAnswer {
            address: self.address,
            why,
        }
    }

    fn stranger(&self, why: String) -> Trouble {
        Trouble::Stranger {
            address: self.address,
            why,
        }
    }

    fn token(&self) -> Trouble {
        let whose = match (&self.token, &self.file) {
            (Some(_), Some(file)) => format!("the token of {file} (admin.token)"),
            (Some(_), None) => "the token of SUMUN_ADMIN_TOKEN".to_owned(),
            (None, Some(file)) => format!("orders without a token: {file} has no admin.token"),
            (None, None) => {
                let remedy = "name its file by --config, or set SUMUN_ADMIN_TOKEN_FILE";
                format!("orders without a token: {remedy}")
            }
        };
        Trouble::Token {
            address: self.address,
            whose,
        }
    }
}

/// The address that is named on the command line.
fn named(text: &str) -> Result<SocketAddr, Trouble> {
    let mut found = text.to_socket_addrs().map_err(|fault| {
        Trouble::Usage(format!(
            "--admin \"{}\" is no address ({fault}): write one like 127.0.0.1:9090",
            text.escape_debug()
        ))
    })?;
    let none = || Trouble::Usage(format!("--admin {text}: the name has no address"));
    found.next().ok_or_else(none)
}

/// A door at every address of the machine is called at the nearest one.
fn near(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_at_every_address_is_called_at_the_nearest() {
        let near = |text: &str| near(text.parse().unwrap()).to_string();
        assert_eq!(near("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(near("[::]:1"), "[::1]:1");
        assert_eq!(near("10.1.2.3:1"), "10.1.2.3:1");
    }
}
