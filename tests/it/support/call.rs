//! A call of a program: exactly these headers, one connection, the whole
//! answer. It blocks, because most of those who call have nothing else to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{Answer, BOUND};

/// A call, before it is sent.
pub(crate) struct Call {
    to: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(to: SocketAddr, method: &str, path: &str) -> Self {
        Self {
            to,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A header; `Host` replaces the usual one.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Answer {
        self.text(&body.to_string())
    }

    pub(crate) fn text(self, body: &str) -> Answer {
        self.header("Content-Type", "application/json").raw(body)
    }

    pub(crate) fn raw(mut self, body: &str) -> Answer {
        body.as_bytes().clone_into(&mut self.body);
        self.send()
    }

    pub(crate) fn send(self) -> Answer {
        let mut stream = TcpStream::connect(self.to).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream.write_all(self.head().as_bytes()).unwrap();
        // A refusal may come, and the connection close, before all is sent.
        let _ = stream.write_all(&self.body);
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
        }
        Answer::read(&bytes)
    }

    fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            self.method, self.path
        );
        let names_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if !self.headers.iter().any(names_host) {
            head.push_str(&["Host: ", &self.to.to_string(), "\r\n"].concat());
        }
        for (name, value) in &self.headers {
            head.push_str(&[name, ": ", value, "\r\n"].concat());
        }
        if !self.body.is_empty() {
            let length = self.body.len().to_string();
            head.push_str(&["Content-Length: ", &length, "\r\n"].concat());
        }
        head + "\r\n"
    }
}
