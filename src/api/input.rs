//! What a request brings: a JSON object or a query, read within a limit, its
//! fields known by name. A misspelt field is told, not passed over: an
//! overlooked `ticket` would cost somebody their place.

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::{BODY_BYTES_MAX, Problem};

/// The fields of a request.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The JSON object that a body is; no body is an object without fields.
    ///
    /// # Errors
    /// When it is too large, breaks off, is no JSON object, or has a field
    /// that is not one of `known`.
    pub(crate) async fn read<B>(body: B, known: &[&str]) -> Result<Self, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let text = collected.map_err(|fault| cut(&*fault))?.to_bytes();
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => Self(fields).only(known),
            Ok(_) => Err(malformed("the body must be a JSON object")),
            Err(fault) => Err(malformed(format!("the body is no JSON: {fault}"))),
        }
    }

    /// The known fields of a query. Others are passed over: links and
    /// scripts add theirs.
    ///
    /// # Errors
    /// When one stands there twice.
    pub(crate) fn query(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut fields = Map::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let Some(known) = known.iter().find(|known| **known == name) else {
                continue;
            };
            let value = Value::String(value.into_owned());
            if fields.insert((*known).to_owned(), value).is_some() {
                return Err(Problem::input(*known, "stands there twice"));
            }
        }
        Ok(Self(fields))
    }

    fn only(self, known: &[&str]) -> Result<Self, Problem> {
        let unknown = self.0.keys().find(|name| !known.contains(&name.as_str()));
        match unknown {
            None => Ok(self),
            Some(name) => Err(Problem::input(
                shown(name),
                format!("is not known here; known are {}", known.join(", ")),
            )),
        }
    }

    /// A text; `null` and an absent field are the same.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::input(name, "must be a string")),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is absent, empty or something else.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Problem> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Problem::input(name, "is missing"))
    }
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed",
        "The body cannot be read",
        detail,
    )
}

fn cut(fault: &(dyn std::error::Error + Send + Sync + 'static)) -> Problem {
    if fault.is::<LengthLimitError>() {
        return Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            format!("send at most {BODY_BYTES_MAX} bytes"),
        );
    }
    malformed("the body broke off")
}

/// A name that a stranger chose, short enough to be shown.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    async fn read(text: &'static str) -> Result<Fields, Problem> {
        Fields::read(Full::new(Bytes::from_static(text.as_bytes())), &["a", "b"]).await
    }

    #[tokio::test]
    async fn a_body_is_an_object_of_known_fields() {
        let fields = read(r#"{"a":"x","b":null}"#).await.unwrap();
        assert_eq!(fields.text("a").unwrap(), Some("x"));
        assert_eq!(fields.text("b").unwrap(), None);
        assert!(read(" ").await.unwrap().text("a").unwrap().is_none());
        for bad in ["[]", "{", "\u{1}", r#"{"c":1}"#, "nul"] {
            assert!(read(bad).await.is_err(), "{bad}");
        }
        let fields = read(r#"{"a":7,"b":""}"#).await.unwrap();
        assert!(fields.text("a").is_err() && fields.required("b").is_err());
    }

    #[test]
    fn a_query_is_read_once_decoded() {
        let fields = Fields::query(Some("a=%2Fx+y&b="), &["a", "b"]).unwrap();
        assert_eq!(fields.text("a").unwrap(), Some("/x y"));
        assert!(Fields::query(Some("a=1&a=2"), &["a"]).is_err());
        assert!(Fields::query(Some("utm_source=1"), &["a"]).is_ok());
    }
}
