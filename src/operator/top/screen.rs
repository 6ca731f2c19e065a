//! What is on the screen: the last look, those before it as a line, the keys.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;

use super::draw;
use super::look::Look;
use crate::operator::Trouble;

/// Looks that are remembered for the line of the past; one a second.
const PAST: usize = 120;

/// How long it is told that the gateway is back, in milliseconds.
const BACK_MS: u64 = 10_000;

/// Lines of a page of scrolling.
const PAGE: usize = 10;

/// What is on the screen.
pub struct Screen {
    pub(super) address: SocketAddr,
    /// Whether there may be colours.
    pub(super) colour: bool,
    pub(super) look: Option<Look>,
    /// When that was, by a clock that never steps.
    pub(super) seen_ms: u64,
    /// Why there was no other since.
    pub(super) trouble: Option<String>,
    /// Whether that is so because nobody answered.
    is_away: bool,
    /// When the gateway came back, and for how long it was away.
    back: Option<(u64, u64)>,
    /// How many waited, look by look.
    pub(super) past: VecDeque<u64>,
    /// How many lines are above the window.
    pub(super) scrolled: usize,
    /// The event that keys have chosen: another one than is seen, until the next look.
    wanted: Option<String>,
}

/// What a key does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Press {
    /// It ends the view.
    End,
    /// It chooses an event.
    Choose(String),
    /// Nothing, or something that is on the screen already.
    Nothing,
}

impl Screen {
    /// An empty screen, for the gateway there.
    #[must_use]
    pub fn new(address: SocketAddr, colour: bool) -> Self {
        Self {
            address,
            colour,
            look: None,
            seen_ms: 0,
            trouble: None,
            is_away: false,
            back: None,
            past: VecDeque::with_capacity(PAST),
            scrolled: 0,
            wanted: None,
        }
    }

    /// Takes what a look has come to.
    pub fn take(&mut self, now_ms: u64, look: Result<Look, Trouble>) {
        let look = match look {
            Ok(look) => look,
            Err(trouble) => {
                self.is_away |= matches!(trouble, Trouble::NoAnswer { .. });
                self.trouble = Some(trouble.to_string());
                return;
            }
        };
        self.trouble = None;
        if std::mem::take(&mut self.is_away) {
            self.back = Some((now_ms, now_ms.saturating_sub(self.seen_ms)));
        }
        let before = self.look.as_ref().map(|look| look.chosen.as_str());
        if before != Some(&look.chosen) {
            self.past.clear();
        }
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        if let Some(waiting) = look.status["counts"]["waiting"].as_u64() {
            self.past.push_back(waiting);
        }
        self.seen_ms = now_ms;
        self.look = Some(look);
    }

    /// For how long the gateway was away, while that is news; in milliseconds.
    pub(super) fn was_away_ms(&self, now_ms: u64) -> Option<u64> {
        let (back, away) = self.back?;
        (now_ms.saturating_sub(back) < BACK_MS).then_some(away)
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent) -> Press {
        if key.kind == KeyEventKind::Release {
            return Press::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Press::End,
            // The terminal makes no signal of it while the screen is ours.
            KeyCode::Char('c') if control => return Press::End,
            KeyCode::Right | KeyCode::Tab => return self.choose(1),
            KeyCode::Left | KeyCode::BackTab => return self.choose(-1),
            KeyCode::Down => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(PAGE),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
        Press::Nothing
    }

    /// The event so many places on in the list, around its end.
    fn choose(&mut self, on: isize) -> Press {
        let Some(look) = &self.look else {
            return Press::Nothing;
        };
        let all = isize::try_from(look.events.len()).unwrap_or(isize::MAX);
        let place = |id: &String| look.events.iter().position(|event| event == id);
        let now = self.wanted.as_ref().and_then(place);
        let now = now.or_else(|| place(&look.chosen)).unwrap_or(0);
        if all < 2 {
            return Press::Nothing;
        }
        let next = (isize::try_from(now).unwrap_or(0) + on).rem_euclid(all);
        let next = look.events.get(next.unsigned_abs()).cloned();
        next.map_or(Press::Nothing, |event| {
            self.wanted = Some(event.clone());
            self.scrolled = 0;
            Press::Choose(event)
        })
    }

    /// Draws it, whatever the size of the terminal.
    pub fn draw(&mut self, now_ms: u64, frame: &mut Frame<'_>) {
        // Nobody scrolls beyond the end: the way back would have to be pressed as often.
        self.scrolled = draw::draw(self, now_ms, frame);
    }
}
