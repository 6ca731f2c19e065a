//! The events: listed, shown, made, changed and deleted. A change is an
//! override in the store; it is in force here at once and on the other
//! gateways at their next look.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, RawQuery, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tracing::info;

use super::problem::{Problem, short};
use super::wanted::{Versions, Words};
use super::{Door, no_content, object, status};
use crate::api::rfc3339;
use crate::catalog::{ENTRIES_MAX, EVENTS_MAX, Record, Source, is_tombstone};
use crate::room::event::EventId;
use crate::store::{Put, StoredEvent};

/// How often a change is tried when others change the same event.
const TRIES: usize = 5;

/// Events of one page of the list, without and with `limit`.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// What the path names. A name that is no text is the name of no event.
pub(super) struct Named<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(named) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::no_event())?;
        Ok(Self(named))
    }
}

/// A change of the event that the path names: which versions it may meet, and
/// what it says.
pub(super) struct Change {
    id: EventId,
    versions: Versions,
    body: Map<String, Value>,
}

impl<S: Send + Sync> FromRequest<S> for Change {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Named(event) = Named::<String>::from_request_parts(&mut parts, state).await?;
        let versions = Versions::read(&parts.headers)?;
        let body = object(body).await?;
        Ok(Self {
            id: event_id(&event)?,
            versions,
            body,
        })
    }
}

pub(super) async fn list(
    State(door): State<Arc<Door>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let page = Page::read(query.as_deref())?;
    let mut records = door.catalog.records();
    records.sort_by(|a, b| a.settings.id.cmp(&b.settings.id));
    let mut rest = records
        .iter()
        .filter(|record| record.settings.id.as_str() > page.after.as_str());
    let items: Vec<&Record> = rest.by_ref().take(page.limit).collect();
    let next = items.last().filter(|_| rest.next().is_some());
    let document = json!({
        "next": next.map(|record| record.settings.id.as_str()),
        "items": items.iter().map(|record| document(&door, record)).collect::<Vec<_>>(),
    });
    Ok(super::json(StatusCode::OK, &document))
}

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
) -> Result<Response, Problem> {
    let id = known(&door, &event)?;
    shown(&door, &id, StatusCode::OK)
}

pub(super) async fn create(State(door): State<Arc<Door>>, body: Body) -> Result<Response, Problem> {
    let body = object(body).await?;
    let id = Words::whole(&body).id()?;
    write(&door, &id, &Versions::Any, |present| {
        if present.is_some() || door.catalog.written(&id).is_some() {
            let detail = format!("the event {id} exists: change it with PUT or PATCH");
            return Err(conflict("exists", "The event exists", detail));
        }
        let made = door.catalog.records();
        if made.iter().filter(|one| one.source == Source::Api).count() >= EVENTS_MAX {
            let detail = format!("the API holds at most {EVENTS_MAX} events: delete one first");
            return Err(conflict("events-max", "Too many events", detail));
        }
        if door.catalog.entries() >= ENTRIES_MAX {
            let detail =
                "too many events were deleted lately: what remembers them goes after a day";
            return Err(conflict("events-max", "Too many events", detail.to_owned()));
        }
        Words::whole(&body).overrides(&door, &id).map(Some)
    })
    .await?;
    let mut answer = shown(&door, &id, StatusCode::CREATED)?;
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/events/{id}")) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

pub(super) async fn replace(
    State(door): State<Arc<Door>>,
    Change { id, versions, body }: Change,
) -> Result<Response, Problem> {
    change(&door, &id, &versions, |_| {
        Words::whole(&body).overrides(&door, &id).map(Some)
    })
    .await?;
    shown(&door, &id, StatusCode::OK)
}

pub(super) async fn patch(
    State(door): State<Arc<Door>>,
    Change { id, versions, body }: Change,
) -> Result<Response, Problem> {
    patched(&door, &id, &versions, &body).await
}

pub(super) async fn limit(
    State(door): State<Arc<Door>>,
    Change { id, versions, body }: Change,
) -> Result<Response, Problem> {
    let missing = "write the most sessions inside at once, or null to take the override back";
    alone(&body, "limitCnt", missing)?;
    patched(&door, &id, &versions, &body).await
}

pub(super) async fn message(
    State(door): State<Arc<Door>>,
    Change { id, versions, body }: Change,
) -> Result<Response, Problem> {
    let missing = "write what the waiting page says, \"\" for nothing, \
                   or null to take the override back";
    alone(&body, "message", missing)?;
    patched(&door, &id, &versions, &body).await
}

/// A body that sets one thing.
fn alone(
    body: &Map<String, Value>,
    field: &'static str,
    missing: &'static str,
) -> Result<(), Problem> {
    if let Some(other) = body.keys().find(|name| *name != field) {
        let detail = format!("this call takes {field} alone");
        return Err(Problem::input(short(other), detail));
    }
    if !body.contains_key(field) {
        return Err(Problem::input(field, missing));
    }
    Ok(())
}

pub(super) async fn remove(
    State(door): State<Arc<Door>>,
    Named(event): Named<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let versions = Versions::read(&headers)?;
    let id = event_id(&event)?;
    change(&door, &id, &versions, |_| Ok(None)).await?;
    Ok(no_content())
}

/// The entity tag of a version.
pub(super) fn etag(version: u64) -> HeaderValue {
    let tag = HeaderValue::from_str(&format!("\"{version}\""));
    tag.unwrap_or(HeaderValue::from_static("\"\""))
}

/// The id of an event that is in force, or that the API keeps.
pub(super) fn known(door: &Door, event: &str) -> Result<EventId, Problem> {
    let id = event_id(event)?;
    if exists(door, &id) {
        Ok(id)
    } else {
        Err(Problem::no_event())
    }
}

fn exists(door: &Door, id: &EventId) -> bool {
    let stored = door.catalog.stored(id);
    door.catalog.written(id).is_some() || stored.is_some_and(|stored| !is_tombstone(&stored))
}

fn event_id(event: &str) -> Result<EventId, Problem> {
    EventId::new(event).map_err(|_| Problem::no_event())
}

fn conflict(word: &'static str, title: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, word, title, detail)
}

async fn patched(
    door: &Arc<Door>,
    id: &EventId,
    versions: &Versions,
    body: &Map<String, Value>,
) -> Result<Response, Problem> {
    change(door, id, versions, |present| {
        Words::patch(present, body).overrides(door, id).map(Some)
    })
    .await?;
    shown(door, id, StatusCode::OK)
}

/// Writes the overrides of an event that exists.
async fn change(
    door: &Arc<Door>,
    id: &EventId,
    versions: &Versions,
    want: impl Fn(Option<&StoredEvent>) -> Result<Option<Value>, Problem>,
) -> Result<(), Problem> {
    write(door, id, versions, |present| {
        if !exists(door, id) {
            return Err(Problem::no_event());
        }
        // An event of the file without overrides is the file's again.
        let in_file = door.catalog.written(id).is_some();
        let wanted = want(present)?;
        Ok(wanted.filter(|wanted| !(in_file && *wanted == json!({}))))
    })
    .await
}

/// Writes what is wanted of what the API keeps, by compare-and-set; `None`
/// buries it. What stands there already is not written again.
async fn write(
    door: &Arc<Door>,
    id: &EventId,
    versions: &Versions,
    want: impl Fn(Option<&StoredEvent>) -> Result<Option<Value>, Problem>,
) -> Result<(), Problem> {
    for _ in 0..TRIES {
        door.catalog.refresh().await.map_err(|_| Problem::away())?;
        let kept = door.catalog.stored(id);
        let version = kept.as_ref().map_or(0, |kept| kept.version);
        let present = kept.filter(|kept| !is_tombstone(kept));
        let wanted = want(present.as_ref());
        // Whether there is such an event comes before which version it has.
        if !matches!(&wanted, Err(problem) if problem.is_not_found()) {
            versions.allow(version)?;
        }
        let wanted = wanted?;
        if present.map(|present| present.overrides) == wanted {
            return Ok(());
        }
        let put = door.catalog.put(id, version, wanted).await;
        match put.map_err(|_| Problem::away())? {
            Put::Done => {
                info!(event = %id, version = version + 1, "changed through the API");
                return Ok(());
            }
            Put::Conflict(_) => {}
        }
    }
    let detail = format!("the event {id} was changed by others {TRIES} times meanwhile: try again");
    Err(conflict("contended", "Others change this event", detail).retry_after(1))
}

/// The event as an answer.
fn shown(door: &Door, id: &EventId, status: StatusCode) -> Result<Response, Problem> {
    let Some(record) = door.catalog.record(id.as_str()) else {
        if exists(door, id) {
            let detail = "what the API keeps of this event cannot be used here: \
                          PUT it anew, or DELETE it";
            return Err(conflict(
                "unusable",
                "The event cannot be used",
                detail.to_owned(),
            ));
        }
        return Err(Problem::no_event());
    };
    let mut answer = super::json(status, &document(door, &record));
    let tag = etag(version(door, id));
    answer.headers_mut().insert(header::ETAG, tag);
    Ok(answer)
}

/// The version of what the API keeps of an event, tombstones included; 0
/// when it never kept anything.
fn version(door: &Door, id: &EventId) -> u64 {
    door.catalog.stored(id).map_or(0, |stored| stored.version)
}

/// An event as the API shows it: its settings, and what made them so.
fn document(door: &Door, record: &Record) -> Value {
    let id = &record.settings.id;
    let mut document = serde_json::to_value(&record.settings).unwrap_or_default();
    let (kept, stored) = (door.catalog.stored(id), record.stored.as_ref());
    let ledger = door.ledger(id.as_str());
    let view = ledger.as_ref().and_then(|ledger| ledger.view());
    let (source, made) = match record.source {
        Source::File => ("FILE", None),
        Source::Api => ("API", stored.map(|stored| stored.created_at)),
    };
    let more = json!({
        "status": ledger.map(|ledger| status::word(ledger.standing())),
        "source": source,
        "overrides": stored.map_or_else(|| json!({}), |stored| stored.overrides.clone()),
        "version": kept.as_ref().map_or(0, |kept| kept.version),
        "createdAt": made.and_then(rfc3339),
        "updatedAt": kept.and_then(|kept| rfc3339(kept.updated_at)),
        "generation": view.map(|view| view.snapshot.meta.generation.0),
    });
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    document
}

/// Which part of a list.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: usize,
    after: String,
}

impl Page {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut page = Self {
            limit: PAGE,
            after: String::new(),
        };
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n));
                    page.limit = limit.ok_or_else(|| {
                        Problem::input(
                            "limit",
                            format!("write a whole number from 1 to {PAGE_MAX}"),
                        )
                    })?;
                }
                "after" => page.after = value.into_owned(),
                _ => {
                    return Err(Problem::input(
                        short(&name),
                        "is not known here; known are limit, after",
                    ));
                }
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_a_misspelt_parameter_is_told() {
        let page = Page::read(Some("limit=2&after=a-b")).unwrap();
        assert_eq!((page.limit, page.after.as_str()), (2, "a-b"));
        assert_eq!(Page::read(None).unwrap().limit, PAGE);
        for bad in ["limit=0", "limit=1001", "limit=x", "limt=3"] {
            assert!(Page::read(Some(bad)).is_err(), "{bad}");
        }
    }
}
