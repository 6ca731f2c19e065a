//! Verified tokens, remembered per data thread: a signature is checked once,
//! not with each of a page's forty requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ahash::AHashMap;

use crate::ledger::Stay;
use crate::token::{Keyring, Pass, Token, Verdict};

/// Tokens remembered before the older half is forgotten.
const TOKENS_MAX: usize = 8_192;

/// A token that was looked at.
pub struct Known {
    /// What it is. Its time is for the caller to judge, each time.
    pub verdict: Verdict,
    /// The pass that it is or stands for.
    pub pass: Option<Rc<Pass>>,
    /// Its session, once found.
    pub stay: RefCell<Option<Arc<Stay>>>,
}

impl Known {
    fn new(verdict: Verdict) -> Self {
        let pass = match &verdict {
            Verdict::Good(Token::Pass(pass)) => Some(pass.clone()),
            Verdict::Good(Token::Success(success)) => Some(success.pass()),
            Verdict::Good(Token::Ticket(_)) | Verdict::UnknownKey | Verdict::Nothing => None,
        };
        Self {
            verdict,
            pass: pass.map(Rc::new),
            stay: RefCell::default(),
        }
    }
}

/// The end of a token, within its signature: nobody but us can make two that agree
/// there, and it takes a tenth of the time to look up.
type Ending = [u8; 32];

/// Verified tokens by their endings, each with its whole text.
type Tokens = AHashMap<Ending, (Box<[u8]>, Rc<Known>)>;

fn find(tokens: &Tokens, ending: &Ending, text: &[u8]) -> Option<Rc<Known>> {
    let (whole, known) = tokens.get(ending)?;
    (**whole == *text).then(|| Rc::clone(known))
}

/// One data thread's memory of tokens.
#[derive(Default)]
pub struct TokenMemory {
    recent: RefCell<Tokens>,
    older: RefCell<Tokens>,
}

impl TokenMemory {
    /// What a text is, if it is remembered.
    #[must_use]
    pub fn remembered(&self, text: &str) -> Option<Rc<Known>> {
        let text = text.as_bytes();
        let ending = text.last_chunk()?;
        let recent = find(&self.recent.borrow(), ending, text);
        recent.or_else(|| find(&self.older.borrow(), ending, text))
    }

    /// What a text is, from memory or by checking it.
    pub fn know(&self, text: impl AsRef<[u8]>, keyring: &Keyring) -> Rc<Known> {
        let text = text.as_ref();
        let Some(ending) = text.last_chunk() else {
            return Rc::new(Known::new(Verdict::Nothing));
        };
        if let Some(known) = find(&self.recent.borrow(), ending, text) {
            return known;
        }
        let remembered = find(&self.older.borrow(), ending, text);
        let known = remembered.unwrap_or_else(|| {
            let verdict = std::str::from_utf8(text).map(|text| keyring.verify(text));
            Rc::new(Known::new(verdict.unwrap_or(Verdict::Nothing)))
        });
        // What is nothing is not worth remembering: anybody can make it up. Nor
        // is a ticket: each answer signs it anew, so its text does not come back.
        if known.pass.is_some() {
            let mut recent = self.recent.borrow_mut();
            if recent.len() >= TOKENS_MAX / 2 {
                *self.older.borrow_mut() = std::mem::take(&mut recent);
            }
            recent.insert(*ending, (text.into(), Rc::clone(&known)));
        }
        known
    }

    /// Forgets all: what verified them may not be a key any more.
    pub fn forget(&self) {
        self.recent.borrow_mut().clear();
        self.older.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::event::EventId;
    use crate::room::ticket::SessionKey;
    use crate::token::Key;

    #[test]
    fn memory_is_bounded_and_forgeries_are_not_remembered() {
        let key = Key::new("a", &[7; 32]).unwrap();
        let keyring = Keyring::new(vec![key]);
        let memory = TokenMemory::default();
        memory.know("a.b.c", &keyring);
        assert_eq!(memory.recent.borrow().len(), 0);
        for issued_at in 0..10_000 {
            let pass = Pass {
                event: EventId::new("main").unwrap(),
                scope: None,
                visitor: "v".into(),
                issued_at,
                expires: 0,
                session: SessionKey([0; 16]),
                begun: 0,
            };
            let text = keyring.sign(&Token::Pass(pass), &[]).unwrap();
            memory.know(&text, &keyring);
        }
        let remembered = memory.recent.borrow().len() + memory.older.borrow().len();
        assert!(remembered <= TOKENS_MAX, "{remembered}");
    }
}
