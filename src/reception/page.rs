//! The waiting page of a place, as both doors show it.

use super::Line;
use crate::ledger::Ledger;
use crate::pages::{Enter, HeldBy, Language, WaitingPage};
use crate::room::time::millis;

/// The waiting page of a place.
#[must_use]
pub fn render(
    ledger: &Ledger,
    language: Language,
    line: &Line,
    token: &str,
    enter: Enter<'_>,
    unix_ms: u64,
) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "waits are positive and far below 2^53 seconds"
    )]
    let seconds = |seconds: f64| seconds.clamp(0.0, 1e9) as u64;
    let settings = ledger.settings.load();
    WaitingPage {
        language,
        event_id: ledger.id.as_str(),
        event_name: &settings.name,
        ticket: token,
        position: line.ticket.position,
        behind: line.behind,
        low_seconds: line.wait.map(|wait| seconds(wait.low)),
        high_seconds: line.wait.map(|wait| seconds(wait.high)),
        about: line.about,
        called: line.ticket.called && !line.shared,
        poll_after_ms: millis(line.poll_after),
        message: settings.message.as_deref(),
        updated_unix_ms: unix_ms,
        held: if line.degraded {
            Some(HeldBy::StoreAway)
        } else {
            line.shared.then_some(HeldBy::AddressShare)
        },
        enter,
        decoy: settings.bots.decoy(),
    }
    .render()
}
