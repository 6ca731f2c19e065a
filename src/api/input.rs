//! What a request brings: a JSON object or a query, read within a limit, its
//! fields known by name. A misspelt field is told, not passed over: an
//! overlooked `ticket` would cost somebody their place.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{BODY_BYTES_MAX, Problem};

/// The fields of a request, by the names that the call knows.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Held)>);

/// What a field holds.
#[derive(Debug)]
enum Held {
    Text(String),
    Null,
    Other,
}

impl Fields {
    /// The JSON object that a body is; no body is an object without fields.
    ///
    /// # Errors
    /// When it is too large, breaks off, is no JSON object, has a field twice,
    /// or one that is not of `known`.
    pub(crate) async fn read<B>(body: B, known: &[&'static str]) -> Result<Self, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let text = collected.map_err(|fault| cut(&*fault))?.to_bytes();
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut json = serde_json::Deserializer::from_slice(&text);
        let read = Known(known).deserialize(&mut json);
        match read.and_then(|read| json.end().map(|()| read)) {
            Ok(read) => read,
            // Every value is taken as it comes, so only the whole can be of a wrong type.
            Err(fault) if fault.is_data() => Err(malformed("the body must be a JSON object")),
            Err(fault) => Err(malformed(format!("the body is no JSON: {fault}"))),
        }
    }

    /// The known fields of a query. Others are passed over: links and
    /// scripts add theirs.
    ///
    /// # Errors
    /// When one stands there twice.
    pub(crate) fn query(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let Some(known) = known.iter().find(|known| **known == name) else {
                continue;
            };
            fields.add(known, Held::Text(value.into_owned()))?;
        }
        Ok(fields)
    }

    /// A field that stands there twice has two readings.
    fn add(&mut self, name: &'static str, held: Held) -> Result<(), Problem> {
        if self.0.iter().any(|(known, _)| *known == name) {
            return Err(Problem::input(name, "stands there twice"));
        }
        self.0.push((name, held));
        Ok(())
    }

    /// A text; `null` and an absent field are the same.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let held = self.0.iter().find(|(known, _)| *known == name);
        match held.map(|(_, held)| held) {
            None | Some(Held::Null) => Ok(None),
            Some(Held::Text(text)) => Ok(Some(text)),
            Some(Held::Other) => Err(Problem::input(name, "must be a string")),
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

/// Reads an object's fields without making a map of them: polls come here.
struct Known<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = Result<Fields, Problem>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Known<'_> {
    type Value = Result<Fields, Problem>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = Ok(Fields::default());
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(known) = self.0.iter().find(|known| **known == name) else {
                map.next_value::<IgnoredAny>()?;
                let known = self.0.join(", ");
                let detail = format!("is not known here; known are {known}");
                read = read.and(Err(Problem::input(shown(&name), detail)));
                continue;
            };
            let held = map.next_value()?;
            if let Ok(fields) = &mut read
                && let Err(twice) = fields.add(known, held)
            {
                read = Err(twice);
            }
        }
        Ok(read)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Whatever)
    }
}

/// Takes every value: a text as it is, of others only that they were there.
struct Whatever;

impl<'de> Visitor<'de> for Whatever {
    type Value = Held;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Held, E> {
        Ok(Held::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Held, E> {
        Ok(Held::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Held, E> {
        Ok(Held::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Held, E> {
        Ok(Held::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Held, E> {
        Ok(Held::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Held, E> {
        Ok(Held::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Held, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Held::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Held::Other)
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
        for bad in ["[]", "{", "\u{1}", "nul", "{}{}", "7", r#"{"a":"x"#] {
            let problem = read(bad).await.unwrap_err();
            assert_eq!(problem.word, "malformed", "{bad}");
        }
        for bad in [r#"{"c":1}"#, r#"{"a":"x","a":"y"}"#, r#"{"d":[],"a":1}"#] {
            assert_eq!(read(bad).await.unwrap_err().word, "input", "{bad}");
        }
        for other in ["7", "-7", "0.5", "true", "[[1]]", r#"{"b":{}}"#] {
            let body = format!(r#"{{"a":{other}}}"#).leak();
            assert!(read(body).await.unwrap().text("a").is_err(), "{other}");
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
