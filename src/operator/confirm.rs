//! What cannot be taken back is asked for twice.

use std::io::{self, IsTerminal, Write};

use super::Trouble;

/// Has the person at the terminal write the event's name.
#[expect(
    clippy::print_stderr,
    reason = "a question to the person at the terminal"
)]
pub(super) fn reset(event: &str, waiting: Option<u64>) -> Result<(), Trouble> {
    if !io::stdin().is_terminal() {
        let remedy = "nothing was done: every place in line would become void. \
                      Where nobody can be asked, say --yes";
        return Err(Trouble::Unconfirmed(remedy.to_owned()));
    }
    let waiting = waiting.map_or_else(String::new, |count| format!(" ({count} wait)"));
    eprint!("Every place in line of {event} becomes void{waiting}. Write {event} to go on: ");
    let _shown = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == event {
        return Ok(());
    }
    Err(Trouble::Unconfirmed("nothing was done".to_owned()))
}
