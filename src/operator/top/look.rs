//! One look at a gateway: what its admin door says of an event, of those beside
//! it, and of the origins.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::super::door::Door;
use super::super::{Trouble, Where, path};
use crate::clock::Clock;

/// For all answers of a look together.
const LOOK: Duration = Duration::from_secs(5);

/// Events of the list that are asked about: the chosen one and those beside it.
const BESIDE: usize = 9;

/// How many looks the list of events and the load of routes hold for.
const HOLDS: u32 = 10;

/// Over how long the load of routes is told, in seconds.
pub(super) const ROUTES_SECONDS: u64 = 60;

/// Whoever looks, again and again.
pub struct Looker {
    door: Door,
    clock: Clock,
    /// The only event that is wanted.
    event: Option<String>,
    events: Vec<String>,
    /// Of which event, and the load of its routes.
    routes: Option<(String, Vec<Value>)>,
    /// How many more looks both are good for.
    holds: u32,
}

/// What was seen.
pub struct Look {
    /// The event that is looked at.
    pub(super) chosen: String,
    /// How it stands.
    pub(super) status: Value,
    /// All events, by their ids.
    pub(super) events: Vec<String>,
    /// How those beside it stand, itself among them; empty where it is the only one.
    pub(super) beside: Vec<Value>,
    /// The origins.
    pub(super) origins: Vec<Value>,
    /// Its routes, the heaviest one first.
    pub(super) routes: Vec<Value>,
}

impl Looker {
    /// Looks at the gateway there: at one event, or at all.
    ///
    /// # Errors
    /// When it is not known where the gateway is.
    pub fn at(gateway: &Where, event: Option<&str>) -> Result<Self, Trouble> {
        Ok(Self {
            door: gateway.door()?,
            clock: Clock::system(),
            event: event.map(str::to_owned),
            events: Vec::new(),
            routes: None,
            holds: 0,
        })
    }

    /// Where the gateway is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Looks at the event that was chosen, or at the first one.
    ///
    /// # Errors
    /// When the gateway does not answer in time, or refuses.
    pub async fn look(&mut self, chosen: Option<&str>) -> Result<Look, Trouble> {
        let looked = Box::pin(tokio::time::timeout(LOOK, self.ask(chosen))).await;
        let looked = looked.unwrap_or_else(|_| Err(self.door.late("no answer", LOOK)));
        if looked.is_err() {
            // Whatever it was, the list may be another one now.
            self.holds = 0;
        }
        looked
    }

    async fn ask(&mut self, chosen: Option<&str>) -> Result<Look, Trouble> {
        let is_old = self.holds == 0;
        if is_old {
            self.events = match &self.event {
                Some(event) => vec![event.clone()],
                None => self.door.events().await?,
            };
        }
        self.holds = if is_old { HOLDS } else { self.holds - 1 };
        let place = self
            .events
            .iter()
            .position(|id| Some(id.as_str()) == chosen);
        let place = place.unwrap_or(0);
        let Some(chosen) = self.events.get(place).cloned() else {
            return Err(Trouble::Refused(
                "there is no event: write one into the file, or make one by the API".to_owned(),
            ));
        };
        let status = self.door.ask(&path(&chosen, "/status")).await?;
        let beside = self.beside(place, &status).await?;
        let origins = self.door.ask("/v1/origins").await?;
        if is_old || self.routes.as_ref().is_none_or(|(of, _)| *of != chosen) {
            self.routes = Some((chosen.clone(), self.routes_of(&chosen).await?));
        }
        let routes = self.routes.as_ref().map(|(_, routes)| routes.clone());
        Ok(Look {
            chosen,
            status,
            events: self.events.clone(),
            beside,
            origins: items(origins),
            routes: routes.unwrap_or_default(),
        })
    }

    /// The chosen event and those beside it in the list.
    async fn beside(&self, place: usize, status: &Value) -> Result<Vec<Value>, Trouble> {
        if self.events.len() < 2 {
            return Ok(Vec::new());
        }
        let last = self.events.len().saturating_sub(BESIDE);
        let from = place.saturating_sub(BESIDE / 2).min(last);
        let shown = self.events.iter().enumerate().skip(from).take(BESIDE);
        let mut all = Vec::with_capacity(BESIDE);
        for (index, event) in shown {
            if index == place {
                all.push(status.clone());
                continue;
            }
            // One that was deleted since is no more of them.
            match self.door.ask(&path(event, "/status")).await {
                Err(Trouble::NoEvent { .. }) => {}
                said => all.push(said?),
            }
        }
        Ok(all)
    }

    /// What each route bore of late. A gateway that cannot tell has none.
    async fn routes_of(&self, event: &str) -> Result<Vec<Value>, Trouble> {
        let from = (self.clock.unix_ms() / 1000).saturating_sub(ROUTES_SECONDS);
        let call = format!("/stats?from={from}&step=total&group_by=route");
        match self.door.ask(&path(event, &call)).await {
            Ok(said) => Ok(items(said)),
            Err(Trouble::Refused(_) | Trouble::NoEvent { .. }) => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }
}

fn items(mut said: Value) -> Vec<Value> {
    match said["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
