//! Who walks in, who waits, and in what order they are called.

use sumun::token::Token;

use crate::support::{ByHand, Site, completes_at_done};

#[tokio::test]
async fn visitors_walk_in_up_to_the_limit_and_the_next_one_waits() {
    let site = Site::with("limit = 3").await;
    for _ in 0..3 {
        site.visitor_inside().await;
    }
    for _ in 0..3 {
        site.visitor_in_line().await;
    }
    site.until("three and three", |view| {
        view.snapshot.sessions == 3 && view.waiting() == 3
    })
    .await;
}

#[tokio::test]
async fn first_come_is_first_called() {
    let site = Site::with("limit = 1").await;
    site.origin.answers(completes_at_done);
    let mut inside = site.filled_by_one().await;
    let mut line = Vec::new();
    for _ in 0..4 {
        line.push(site.visitor_in_line().await);
    }
    for turn in 0..line.len() {
        inside.open("/done").await;
        let number = line[turn].ticket().number;
        site.until("a call", |view| view.snapshot.meta.called > number)
            .await;
        for later in &mut line[turn + 1..] {
            later.open("/").await.must_be_a_waiting_page();
        }
        line[turn].open_until_inside("/").await;
        inside = line[turn].clone();
    }
}

#[tokio::test]
async fn the_page_shows_the_place_and_who_stands_behind_and_the_place_never_grows() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut line = Vec::new();
    for _ in 0..4 {
        line.push(hand.visitor_in_line().await);
        hand.pass_seconds(1).await;
    }
    for (index, visitor) in line.iter_mut().enumerate() {
        let answer = visitor.open("/").await;
        assert_eq!(answer.position(), index as u64 + 1);
        assert_eq!(answer.data()["info"]["behind"], 3 - index);
    }
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    line[0].open("/").await.must_come_from_the_origin();
    hand.pass_seconds(1).await;
    for (index, visitor) in line.iter_mut().enumerate().skip(1) {
        assert_eq!(visitor.open("/").await.position(), index as u64);
    }
}

#[tokio::test]
async fn a_newcomer_takes_a_ticket_while_the_only_waiter_is_called_and_has_not_claimed() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    let meta = hand.view().snapshot.meta.clone();
    assert_eq!(meta.called, meta.issued, "nobody is left to be called");
    let newcomer = hand.visitor_in_line().await;
    assert!(newcomer.ticket().number > waiter.ticket().number);
    waiter.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn of_two_called_tickets_the_later_may_ask_first_and_neither_loses() {
    let mut hand = ByHand::with("limit = 2").await;
    hand.origin.answers(completes_at_done);
    let mut inside = [hand.visitor_inside().await, hand.visitor_inside().await];
    let mut early = hand.visitor_in_line().await;
    let mut late = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    for visitor in &mut inside {
        visitor.open("/done").await;
    }
    hand.pass_seconds(1).await;
    late.open("/").await.must_come_from_the_origin();
    early.open("/").await.must_come_from_the_origin();
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.sessions, 2);
}

#[tokio::test]
async fn the_slot_goes_to_the_earlier_of_two_called_tickets_while_its_offer_stands() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut early = hand.visitor_in_line().await;
    let mut late = hand.visitor_in_line().await;
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    late.open("/").await.must_be_a_waiting_page();
    // The early one does not come: after five seconds the next one is called.
    hand.pass_seconds(7).await;
    late.open("/").await.must_come_from_the_origin();
    // Its turn is kept: it takes the next slot, before anybody later.
    early.open("/").await.must_be_a_waiting_page();
    let _newcomer = hand.visitor_in_line().await;
    late.open("/done").await;
    // One who is held asks the store once a second at most.
    hand.pass_seconds(1).await;
    early.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn a_ticket_that_was_used_is_worth_nothing_after_its_session_is_over() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    let ticket = waiter.ticket();
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    waiter.open("/").await.must_come_from_the_origin();
    waiter.open("/done").await;
    let _other = hand.visitor_inside().await;
    let mut again = hand.visitor();
    again.hold(&Token::Ticket(ticket.clone()));
    again.open("/").await.must_be_a_waiting_page();
    assert!(
        again.ticket().number > ticket.number,
        "a new place, at the end"
    );
}

#[tokio::test]
async fn a_ticket_shown_twice_gets_the_same_session() {
    let mut hand = ByHand::with("limit = 1").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let mut waiter = hand.visitor_in_line().await;
    let mut twin = waiter.clone();
    hand.pass_seconds(1).await;
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    waiter.open("/").await.must_come_from_the_origin();
    twin.open("/").await.must_come_from_the_origin();
    assert_eq!(twin.pass().session, waiter.pass().session);
    hand.pass_seconds(1).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
}
