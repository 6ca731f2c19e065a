//! The embedded store's state file: one JSON document, written whole.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::state::{EventState, IDS_FEW, Named, Offer, Row};
use crate::room::event::EventId;
use crate::room::pages::{Bits, Windows};
use crate::room::snapshot::{Meta, Tally};
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{IdHash, StoredEvent};

/// The form of the file; another form is refused, not guessed at.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    events: BTreeMap<String, SavedEvent>,
    stored: BTreeMap<String, StoredEvent>,
}

#[derive(Serialize, Deserialize)]
struct SavedEvent {
    meta: Meta,
    #[serde(default)]
    tally: Tally,
    live: Vec<SavedPage>,
    fresh: Vec<SavedPage>,
    spent: Vec<(u64, String)>,
    active: Vec<(SessionKey, Timestamp)>,
    offers: Vec<(Number, Offer)>,
    ended: Vec<(SessionKey, Timestamp)>,
    unproven: Vec<(SessionKey, Timestamp)>,
    ids: Vec<(IdHash, Named)>,
    density: Vec<(u64, [u16; 8])>,
    gateways: BTreeMap<String, Row>,
}

#[derive(Serialize, Deserialize)]
struct SavedPage {
    page: u64,
    turned: u64,
    even: String,
    odd: String,
}

type Contents = (HashMap<EventId, EventState>, BTreeMap<EventId, StoredEvent>);

/// Renders the state as the file's text.
pub(super) fn render(
    events: &HashMap<EventId, EventState>,
    stored: &BTreeMap<EventId, StoredEvent>,
) -> std::io::Result<Vec<u8>> {
    let document = Document {
        schema: SCHEMA,
        events: events
            .iter()
            .map(|(id, state)| (id.to_string(), SavedEvent::of(state)))
            .collect(),
        stored: stored
            .iter()
            .map(|(id, event)| (id.to_string(), event.clone()))
            .collect(),
    };
    serde_json::to_vec(&document).map_err(Error::other)
}

/// Writes a file so that a crash leaves either the old one or the new one.
pub(crate) fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    // It holds who is inside: nobody else's to read.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text)?;
    file.sync_data()?;
    std::fs::rename(&draft, path)
}

/// Reads the file; `None` when there is none.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Contents>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let document: Document = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
    if document.schema != SCHEMA {
        return Err(damaged(&format!("schema {} is not known", document.schema)));
    }
    let mut contents = Contents::default();
    for (id, saved) in document.events {
        contents.0.insert(event_id(&id)?, saved.restore()?);
    }
    for (id, event) in document.stored {
        contents.1.insert(event_id(&id)?, event);
    }
    Ok(Some(contents))
}

fn damaged(what: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("the state file is damaged: {what}"),
    )
}

fn event_id(id: &str) -> std::io::Result<EventId> {
    EventId::new(id).map_err(|error| damaged(&error))
}

fn encode(bits: &Bits) -> String {
    STANDARD.encode(bits.to_bytes())
}

fn decode(text: &str) -> std::io::Result<Bits> {
    let bytes = STANDARD.decode(text).map_err(|error| damaged(&error))?;
    Ok(Bits::from_bytes(&bytes))
}

impl SavedPage {
    fn all(windows: &Windows) -> Vec<Self> {
        windows
            .pages()
            .filter_map(|(page, _)| {
                let (turned, [even, odd]) = windows.page(page)?;
                Some(Self {
                    page,
                    turned,
                    even: encode(even),
                    odd: encode(odd),
                })
            })
            .collect()
    }

    fn restore(pages: Vec<Self>) -> std::io::Result<Windows> {
        let mut windows = Windows::default();
        for saved in pages {
            let slots = [decode(&saved.even)?, decode(&saved.odd)?];
            windows.insert(saved.page, saved.turned, slots);
        }
        Ok(windows)
    }
}

impl SavedEvent {
    fn of(state: &EventState) -> Self {
        Self {
            meta: state.meta.clone(),
            tally: state.tally,
            live: SavedPage::all(&state.live),
            fresh: SavedPage::all(&state.fresh),
            spent: state
                .spent
                .iter()
                .map(|(page, bits)| (*page, encode(bits)))
                .collect(),
            active: state.active.iter().map(|(key, at)| (*key, *at)).collect(),
            offers: state.offers.iter().map(|(n, offer)| (*n, *offer)).collect(),
            ended: state.ended.iter().map(|(key, at)| (*key, *at)).collect(),
            unproven: state.unproven.iter().map(|(key, at)| (*key, *at)).collect(),
            ids: state.ids.iter().map(|(id, named)| (*id, *named)).collect(),
            density: state
                .density
                .iter()
                .map(|(page, row)| (*page, *row))
                .collect(),
            gateways: state.gateways.clone(),
        }
    }

    fn restore(self) -> std::io::Result<EventState> {
        let mut spent = BTreeMap::new();
        for (page, bits) in self.spent {
            spent.insert(page, decode(&bits)?);
        }
        Ok(EventState {
            meta: self.meta,
            tally: self.tally,
            live: SavedPage::restore(self.live)?,
            fresh: SavedPage::restore(self.fresh)?,
            spent,
            expiries: self.active.iter().map(|(key, at)| (*at, *key)).collect(),
            active: self.active.into_iter().collect(),
            offers: self.offers.into_iter().collect(),
            ended: self.ended.into_iter().collect(),
            unproven: self.unproven.into_iter().collect(),
            ids_most: self.ids.len().max(IDS_FEW),
            ids: self.ids.into_iter().collect(),
            density: self.density.into_iter().collect(),
            gateways: self.gateways,
        })
    }
}
