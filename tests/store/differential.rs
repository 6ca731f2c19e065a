//! Random sequences of operations on the embedded and on the shared store:
//! every reply and the state at the end must be equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use sumun::store::{Claimed, Put, Reply};

use crate::generator::{Known, Operation};
use crate::server::Server;
use crate::world::World;

/// How many sequences, of how many operations each.
const SEQUENCES: u64 = 240;
const OPERATIONS: usize = 80;

#[tokio::test]
async fn random_sequences_leave_both_stores_in_the_same_state() {
    let server = Arc::new(Server::start(&[]));
    let mut met = BTreeMap::new();
    for seed in 0..SEQUENCES {
        run(&server, seed, OPERATIONS, &mut met).await;
    }
    // A sequence that only ever hears "absent" proves nothing.
    for outcome in OUTCOMES {
        assert!(
            met.contains_key(outcome),
            "no sequence met {outcome}: {met:?}"
        );
    }
}

#[tokio::test]
async fn long_random_sequences_leave_both_stores_in_the_same_state() {
    let server = Arc::new(Server::start(&[]));
    for seed in 10_000..10_010 {
        run(&server, seed, 600, &mut BTreeMap::new()).await;
    }
}

#[tokio::test]
#[ignore = "a hunt of ten minutes, after a change of the rules or the scripts"]
async fn very_many_random_sequences_leave_both_stores_in_the_same_state() {
    let server = Arc::new(Server::start(&[]));
    for seed in 20_000..28_000 {
        run(&server, seed, 120, &mut BTreeMap::new()).await;
    }
}

/// What must have been met, so that agreement means something.
const OUTCOMES: [&str; 24] = [
    "Session {",
    "Ticket {",
    "Closed",
    "fresh: true",
    "fresh: false",
    "Held",
    "NotYet",
    "TooLate",
    "Spent",
    "Some(Timestamp",
    "Done([None",
    "Done([true",
    "Done([false",
    "Done(Session {",
    "Ticket(",
    "Done { lapsed: 0",
    "Done { lapsed: 1",
    "LostRace",
    "Some(Loss)",
    "Some(Stale)",
    "Some(Token)",
    "Conflict(Some",
    "Ok(Gone)",
    "Ok(InUse)",
];

async fn run(
    server: &Arc<Server>,
    seed: u64,
    operations: usize,
    met: &mut BTreeMap<&'static str, u64>,
) {
    let mut memory = World::memory();
    let mut redis = World::on(server.clone(), "sumun").await;
    redis.flush().await;
    let mut known = Known::new(seed);
    let mut log = vec![known.birth()];
    for at in 0..=operations {
        let operation = log.last().unwrap().clone();
        let expected = apply(&mut memory, &operation, &mut known, true).await;
        let found = apply(&mut redis, &operation, &mut known, false).await;
        if expected != found {
            for (at, operation) in log.iter().enumerate() {
                eprintln!("{at}: {operation:?}");
            }
            panic!("seed {seed}, operation {at}\nmemory: {expected}\n redis: {found}");
        }
        for outcome in OUTCOMES
            .iter()
            .filter(|outcome| expected.contains(**outcome))
        {
            *met.entry(outcome).or_default() += 1;
        }
        log.push(known.next(memory.now));
    }
    let expected = memory.store.dump(&memory.event).await.unwrap();
    let found = redis.store.dump(&redis.event).await.unwrap();
    assert_eq!(expected, found, "the state at the end of seed {seed}");
}

#[expect(clippy::too_many_lines, reason = "one short arm for each operation")]
/// Does an operation; the reply as text, and what is learnt from it.
async fn apply(world: &mut World, operation: &Operation, known: &mut Known, learn: bool) -> String {
    let event = world.event.clone();
    let store = world.store.clone();
    match operation {
        Operation::Enter(batch) => {
            let reply = store.enter(&event, batch).await;
            if learn && let Ok(Reply::Done(entered)) = &reply {
                known.entered(entered);
            }
            known.met(&reply)
        }
        Operation::Claim(claims) => {
            let reply = store.claim(&event, claims).await;
            if learn && let Ok(Reply::Done(answers)) = &reply {
                let admitted = claims.iter().zip(answers);
                let admitted =
                    admitted.filter(|(_, made)| matches!(made, Claimed::Admitted { .. }));
                known
                    .sessions
                    .extend(admitted.map(|(claim, _)| claim.session));
            }
            known.met(&reply)
        }
        Operation::Beat(pages) => known.met(&store.beat(&event, pages).await),
        Operation::LetIn(visitors) => known.met(&store.let_in(&event, visitors).await),
        Operation::Touch(touches) => known.met(&store.touch(&event, touches).await),
        Operation::Inside(sessions) => known.met(&store.inside(&event, sessions).await),
        Operation::End(sessions) => known.met(&store.end(&event, sessions).await),
        Operation::Leave(tickets) => known.met(&store.leave(&event, tickets).await),
        Operation::Find(id) => known.met(&store.find(&event, *id).await),
        Operation::Snapshot(ask) => {
            let reply = store.snapshot(&event, ask).await;
            if learn && let Ok(Reply::Done(snapshot)) = &reply {
                known.snapshot = Some(snapshot.clone());
            }
            known.met(&reply)
        }
        Operation::Step(step) => known.met(&store.step(&event, step).await),
        Operation::Restore(shadow) => format!("{:?}", store.restore(&event, shadow).await),
        Operation::Reset => known.met(&store.reset(&event).await),
        Operation::Configure(seen, rules) => {
            known.met(&store.configure(&event, *seen, rules).await)
        }
        Operation::Forget(idle) => {
            world.pass(*idle).await;
            format!("{:?}", store.forget(&event).await)
        }
        Operation::PutEvent(seen, stored) => {
            let reply = store.put_event(&event, *seen, stored.as_ref()).await;
            if learn {
                known.versions = match (&reply, stored) {
                    (Ok(Put::Done), Some(stored)) | (Ok(Put::Conflict(Some(stored))), _) => {
                        stored.version
                    }
                    _ => 0,
                };
            }
            format!("{reply:?}")
        }
        Operation::Events => format!("{:?}", store.events().await),
        Operation::Pass(ms) => {
            world.pass(*ms).await;
            String::new()
        }
        Operation::Live(ms) => {
            world.live(*ms).await;
            String::new()
        }
        Operation::Walk(seconds) => world.walk(*seconds).await,
        Operation::Rerun => {
            world.rerun().await;
            String::new()
        }
        Operation::Flush => {
            world.flush().await;
            String::new()
        }
    }
}
