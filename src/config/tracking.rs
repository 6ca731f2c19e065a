//! The operator's routes and `[statistics]`: from what the file says to what is used.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::raw::{RawRoute, RawStatistics};
use crate::room::event::EventId;
use crate::room::faults::Faults;
use crate::room::units;
use crate::tracking::{Named, Pattern};

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(pub Named);

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("pattern", self.0.pattern.as_str())?;
        if let Some(event) = &self.0.event {
            map.serialize_entry("event", event.as_str())?;
        }
        map.end()
    }
}

/// `[statistics]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Whether routes are tracked and statistics kept.
    pub enabled: bool,
    /// How long slices of ten seconds are kept.
    #[serde(with = "units::as_text")]
    pub seconds: Duration,
    /// How long slices of a minute are kept.
    #[serde(with = "units::as_text")]
    pub minutes: Duration,
    /// How long slices of an hour are kept.
    #[serde(with = "units::as_text")]
    pub hours: Duration,
}

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn statistics(raw: &RawStatistics) -> Statistics {
    Statistics {
        enabled: raw.enabled.unwrap_or(true),
        seconds: raw.seconds.unwrap_or(2 * HOUR),
        minutes: raw.minutes.unwrap_or(48 * HOUR),
        hours: raw.hours.unwrap_or(90 * 24 * HOUR),
    }
}

/// Each `[[route]]`. An event need not be in the file: the API makes some.
pub(super) fn routes(raw: Vec<RawRoute>, faults: &mut Faults) -> Vec<Route> {
    let mut sound: Vec<Route> = Vec::new();
    for (index, route) in raw.into_iter().enumerate() {
        let path = format!("route[{index}]");
        let text = route.pattern.unwrap_or_default();
        let pattern = match Pattern::parse(&text) {
            Ok(pattern) => pattern,
            Err(remedy) => {
                faults.text(&format!("{path}.pattern"), &text, remedy);
                continue;
            }
        };
        let event = match route.event.as_deref().map(EventId::new) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                let text = route.event.unwrap_or_default();
                let remedy = "write the id of an event: 1 to 32 of a-z, 0-9 and -";
                faults.text(&format!("{path}.event"), &text, remedy);
                continue;
            }
        };
        let route = Route(Named { pattern, event });
        if sound.contains(&route) {
            let remedy = "stands here twice: remove one";
            faults.text(&format!("{path}.pattern"), &text, remedy);
            continue;
        }
        sound.push(route);
    }
    sound
}
