//! What was answered, whoever asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads what came on a connection up to its end.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let end = super::raw::find(bytes, b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let (first, lines) = head.split_once("\r\n").unwrap_or((head, ""));
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        Self {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: lines.lines().map(header).collect(),
            body: Bytes::copy_from_slice(&bytes[end + 4..]),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the origin gave it.
    pub(crate) fn is_from_origin(&self) -> bool {
        self.headers.contains_key("x-origin")
    }

    /// Whether it is a waiting page.
    pub(crate) fn is_waiting_page(&self) -> bool {
        self.header("sumun-status") == Some("wait") && self.text().contains("id=\"data\"")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault}: {self:?}"))
    }

    /// What a waiting page tells its script.
    pub(crate) fn data(&self) -> Value {
        let text = self.text();
        let (_, rest) = text
            .split_once("<script type=\"application/json\" id=\"data\">")
            .unwrap_or_else(|| panic!("no waiting page: {} {text}", self.status));
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    /// The place in line that a waiting page shows.
    pub(crate) fn position(&self) -> u64 {
        self.data()["info"]["rank"].as_u64().expect("no position")
    }

    /// Every `Set-Cookie` of ours.
    pub(crate) fn our_cookies(&self) -> Vec<String> {
        self.headers
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .filter(|value| value.starts_with("sumun_") || value.starts_with("__Host-sumun_"))
            .collect()
    }

    /// The cookie that this sets, as a `Cookie` header.
    #[track_caller]
    pub(crate) fn cookie(&self) -> String {
        let set = self.header("set-cookie");
        let set = set.unwrap_or_else(|| panic!("no cookie: {self:?}"));
        set.split(';').next().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn must_come_from_the_origin(&self) -> &Self {
        assert!(self.is_from_origin(), "{} {}", self.status, self.text());
        self
    }

    #[track_caller]
    pub(crate) fn must_be_a_waiting_page(&self) -> &Self {
        assert!(self.is_waiting_page(), "{self:?}");
        self
    }
}
