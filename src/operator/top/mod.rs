//! `sumun top`: how things stand, second by second, on a whole terminal.
//!
//! `look` asks the admin door, `screen` remembers what was seen and which keys
//! were pressed, `draw` makes lines of it.

mod draw;
mod look;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Trouble, Where};
use crate::clock::Clock;
use crate::config;
pub use look::{Look, Looker};
pub use screen::{Press, Screen};

/// How often the door is asked, and the screen drawn at least.
const EACH: Duration = Duration::from_secs(1);

/// What `sumun top` is told.
#[derive(Args)]
pub struct TopArguments {
    /// The event; all of them otherwise, one after the other by the arrow keys
    event: Option<String>,
    /// Of which gateway
    #[command(flatten)]
    at: Where,
}

/// Shows how things stand until `q` is pressed.
///
/// # Errors
/// When there is no terminal, or no gateway answers at first. One that goes away
/// later is waited for.
pub async fn show(arguments: &TopArguments) -> Result<(), Trouble> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let remedy = "top draws on a terminal and this is none: ask `sumun status`, \
                      with --json for programs";
        return Err(Trouble::Usage(remedy.to_owned()));
    }
    let mut looker = Looker::at(&arguments.at, arguments.event.as_deref())?;
    // What is wrong from the beginning is told on the terminal as it was.
    let first = looker.look(None).await?;
    let clock = Clock::system();
    let mut screen = Screen::new(looker.address(), !config::is_colour_unwanted());
    screen.take(clock.monotonic_ms(), Ok(first));
    let mut terminal = ratatui::try_init().map_err(Trouble::Terminal)?;
    let ended = follow(&mut terminal, &mut screen, looker, &clock).await;
    let restored = ratatui::try_restore();
    ended.and(restored).map_err(Trouble::Terminal)
}

/// Looks, draws and takes keys until the end is wanted.
async fn follow(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    looker: Looker,
    clock: &Clock,
) -> io::Result<()> {
    let (choose, chosen) = watch::channel(None);
    let (tell, mut looks) = mpsc::channel(1);
    // Beside the keys: a gateway that does not answer holds up no `q`.
    let asking = tokio::spawn(ask(looker, chosen, tell));
    let mut keys = EventStream::new();
    let mut stop = signal(SignalKind::terminate())?;
    let mut seconds = interval(EACH);
    let ended = loop {
        if let Err(fault) = terminal.draw(|frame| screen.draw(clock.monotonic_ms(), frame)) {
            break Err(fault);
        }
        tokio::select! {
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) => match screen.press(key) {
                    Press::End => break Ok(()),
                    Press::Choose(event) => {
                        choose.send_replace(Some(event));
                    }
                    Press::Nothing => {}
                },
                // A window of another size is drawn anew, and so is all else.
                Some(Ok(_)) => {}
                Some(Err(fault)) => break Err(fault),
                None => break Ok(()),
            },
            look = looks.recv() => match look {
                Some(look) => screen.take(clock.monotonic_ms(), look),
                None => break Ok(()),
            },
            _ = stop.recv() => break Ok(()),
            _ = seconds.tick() => {}
        }
    };
    asking.abort();
    ended
}

/// Asks each second, and at once when another event is chosen.
async fn ask(
    mut looker: Looker,
    mut chosen: watch::Receiver<Option<String>>,
    tell: mpsc::Sender<Result<Look, Trouble>>,
) {
    let mut seconds = interval(EACH);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is over at once, and the first look is there already.
    seconds.tick().await;
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            changed = chosen.changed() => if changed.is_err() {
                return;
            },
        }
        let event = chosen.borrow_and_update().clone();
        let look = looker.look(event.as_deref()).await;
        if tell.send(look).await.is_err() {
            return;
        }
    }
}
