//! The gate under load: what closes it, how it lets people in while the
//! origin is weak, and that it opens again. Time is moved by hand; only the
//! origin's answers take the time they take.

use std::time::Duration;

use sumun::room::gate::Gate;
use tokio::sync::watch;

use crate::support::{Ask, ByHand, Reply, Visitor};

const SLOW: Duration = Duration::from_millis(80);

/// An event with one threshold.
async fn with_threshold(threshold: &str) -> ByHand {
    ByHand::with(&format!(
        "ticket_idle = \"5m\"\n[event.queue_when]\nmin_requests = 5\nrelease_after = \"5s\"\n{threshold}"
    ))
    .await
}

/// So many people walk in.
async fn people(hand: &ByHand, count: usize) -> Vec<Visitor> {
    let mut inside = Vec::new();
    for _ in 0..count {
        inside.push(hand.visitor_inside().await);
    }
    inside
}

/// The gate is closed for newcomers, and only for them.
async fn must_queue(hand: &ByHand, inside: &mut [Visitor]) {
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Queueing);
    hand.visitor_in_line().await;
    assert_eq!(hand.visitor().send(Ask::fetch("/api")).await.status, 503);
    for visitor in inside {
        let answer = visitor.open("/").await;
        assert!(answer.is_from_origin() || answer.status >= 500);
        assert!(!answer.is_waiting_page());
    }
}

#[tokio::test]
async fn a_slow_origin_closes_the_gate() {
    let mut hand = with_threshold("latency_p95 = \"40ms\"").await;
    let mut inside = people(&hand, 6).await;
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Open);
    hand.origin.answers(|_| Reply::page().after(SLOW));
    for visitor in &mut inside {
        visitor.open("/").await.must_come_from_the_origin();
    }
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut inside).await;
}

#[tokio::test]
async fn a_failing_origin_closes_the_gate() {
    let mut hand = with_threshold("failure_ratio = 0.2").await;
    let mut inside = people(&hand, 6).await;
    hand.origin.answers(|_| Reply::page().status(500));
    for visitor in &mut inside[..3] {
        assert_eq!(visitor.open("/").await.status, 500);
    }
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut inside).await;
}

#[tokio::test]
async fn an_origin_that_is_gone_closes_the_gate() {
    let hand = with_threshold("failure_ratio = 0.2").await;
    let mut hand = hand.before_nobody().await;
    for _ in 0..6 {
        let answer = hand.visitor().open("/").await;
        assert_eq!(answer.status, 502);
    }
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut []).await;
}

#[tokio::test]
async fn requests_in_flight_close_the_gate() {
    let mut hand = with_threshold("in_flight = 3").await;
    let inside = people(&hand, 3).await;
    let (open, gate) = watch::channel(false);
    hand.origin.answers(move |_| Reply::page().behind(&gate));
    let before = hand.origin.seen().len();
    let held: Vec<_> = inside
        .iter()
        .map(|visitor| {
            let mut visitor = visitor.clone();
            tokio::spawn(async move { visitor.open("/").await })
        })
        .collect();
    crate::support::until("three at the origin", async || {
        (hand.origin.seen().len() == before + 3).then_some(())
    })
    .await;
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Queueing);
    hand.visitor_in_line().await;
    open.send_replace(true);
    for visitor in held {
        visitor.await.unwrap().must_come_from_the_origin();
    }
}

#[tokio::test]
async fn requests_per_second_close_the_gate() {
    let mut hand = with_threshold("requests_per_second = 3").await;
    let mut inside = people(&hand, 2).await;
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Open);
    for _ in 0..40 {
        inside[0]
            .send(Ask::fetch("/api"))
            .await
            .must_come_from_the_origin();
    }
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut inside).await;
}

#[tokio::test]
async fn arrivals_per_second_close_the_gate() {
    let mut hand = with_threshold("arrivals_per_second = 1").await;
    let mut inside = people(&hand, 12).await;
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut inside[..2]).await;
}

#[tokio::test]
async fn sessions_close_the_gate_below_the_limit() {
    let mut hand = with_threshold("sessions = 3").await;
    let mut inside = people(&hand, 3).await;
    hand.pass_seconds(1).await;
    must_queue(&hand, &mut inside).await;
}

#[tokio::test]
async fn too_few_requests_are_no_signal() {
    let mut hand = with_threshold("failure_ratio = 0.1").await;
    hand.origin.answers(|_| Reply::page().status(500));
    for _ in 0..3 {
        hand.visitor().open("/").await;
    }
    hand.pass_seconds(2).await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Open);
}

/// A crowd at the door; each asks once a second until inside.
struct Crowd(Vec<Visitor>);

impl Crowd {
    async fn of(hand: &ByHand, count: usize) -> Self {
        let mut crowd = Self(Vec::new());
        for _ in 0..count {
            crowd.0.push(hand.visitor_in_line().await);
        }
        crowd
    }

    /// A second goes by; tells who got in.
    async fn second(&mut self, hand: &mut ByHand) -> Vec<Visitor> {
        hand.pass_seconds(1).await;
        let mut inside = Vec::new();
        let mut still = Vec::new();
        for mut visitor in self.0.drain(..) {
            if visitor.open("/").await.is_from_origin() {
                inside.push(visitor);
            } else {
                still.push(visitor);
            }
        }
        self.0 = still;
        inside
    }
}

/// A gate that a slow origin has closed, with a crowd before it.
async fn overrun(waiting: usize) -> (ByHand, Vec<Visitor>, Crowd) {
    let mut hand = with_threshold("latency_p95 = \"40ms\"").await;
    let mut inside = people(&hand, 10).await;
    hand.origin.answers(|_| Reply::page().after(SLOW));
    for visitor in &mut inside {
        visitor.open("/").await;
    }
    hand.pass_seconds(1).await;
    let crowd = Crowd::of(&hand, waiting).await;
    (hand, inside, crowd)
}

#[tokio::test]
async fn while_the_origin_is_weak_admissions_fall_to_a_probe() {
    let (mut hand, mut inside, mut crowd) = overrun(25).await;
    let mut entered = 0;
    for _ in 0..20 {
        inside[0].open("/").await.must_come_from_the_origin();
        entered += crowd.second(&mut hand).await.len();
    }
    assert!((1..=6).contains(&entered), "{entered} in 20 s");
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Queueing);
    assert!(hand.view().snapshot.meta.pace.unwrap() < 1.0);
}

#[tokio::test]
async fn when_the_origin_is_well_again_the_line_drains_in_order_and_newcomers_walk_in() {
    let (mut hand, _inside, mut crowd) = overrun(25).await;
    let numbers: Vec<_> = crowd
        .0
        .iter()
        .map(|visitor| visitor.ticket().visitor)
        .collect();
    hand.origin.answers(|_| Reply::page());
    let mut entered = Vec::new();
    for _ in 0..120 {
        entered.extend(crowd.second(&mut hand).await);
        if crowd.0.is_empty() {
            break;
        }
    }
    let order: Vec<_> = entered
        .iter()
        .map(|visitor| visitor.pass().visitor)
        .collect();
    assert_eq!(order, numbers, "in the order of their coming");
    hand.pass_seconds(40).await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Open);
    hand.visitor_inside().await;
    hand.visitor()
        .send(Ask::fetch("/api"))
        .await
        .must_come_from_the_origin();
}

#[tokio::test]
async fn the_line_drains_although_newcomers_keep_trickling_in() {
    let (mut hand, _inside, mut crowd) = overrun(15).await;
    hand.origin.answers(|_| Reply::page());
    for second in 0..240 {
        crowd.second(&mut hand).await;
        if second % 2 == 0 {
            let mut newcomer = hand.visitor();
            if newcomer.open("/").await.is_from_origin() {
                assert!(crowd.0.is_empty(), "before those who wait");
                return;
            }
            crowd.0.push(newcomer);
        }
    }
    panic!("no newcomer ever walked in; {} wait", crowd.0.len());
}

#[tokio::test]
async fn reaching_the_limit_queues_without_touching_the_gate() {
    let mut hand = ByHand::with("limit = 2").await;
    people(&hand, 2).await;
    hand.pass_seconds(1).await;
    hand.visitor_in_line().await;
    assert_eq!(hand.view().snapshot.meta.gate, Gate::Open);
    assert_eq!(hand.view().snapshot.meta.pace, None);
}

#[tokio::test]
async fn admit_per_second_lets_so_many_in_and_no_more() {
    let mut hand = ByHand::with("limit = 1000\nadmit_per_second = 2").await;
    let mut crowd = Crowd(Vec::new());
    let mut entered = 0;
    for _ in 0..25 {
        let mut visitor = hand.visitor();
        if visitor.open("/").await.is_from_origin() {
            entered += 1;
        } else {
            crowd.0.push(visitor);
        }
    }
    assert!(entered <= 2, "{entered} at once");
    for _ in 0..5 {
        entered += crowd.second(&mut hand).await.len();
    }
    assert!((8..=13).contains(&entered), "{entered} in 5 s");
}
