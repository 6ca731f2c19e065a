//! What ends a place or a session by itself.

use crate::support::{Ask, ByHand, completes_at_done};

#[tokio::test]
async fn a_session_that_never_comes_back_ends_after_half_a_minute() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"10m\"").await;
    let _gone = hand.visitor().open("/").await;
    hand.pass_seconds(29).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
    hand.pass_seconds(2).await;
    assert_eq!(hand.view().snapshot.sessions, 0);
    hand.visitor_inside().await;
}

#[tokio::test]
async fn a_session_in_use_stays_and_an_idle_one_ends_and_its_pass_is_worth_nothing() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"2m\"").await;
    let mut visitor = hand.visitor_inside().await;
    let session = visitor.pass().session;
    for _ in 0..6 {
        hand.pass_seconds(25).await;
        visitor.open("/").await.must_come_from_the_origin();
        assert_eq!(visitor.pass().session, session);
    }
    hand.pass_seconds(125).await;
    assert_eq!(hand.view().snapshot.sessions, 0);
    let _next = hand.visitor_inside().await;
    hand.pass_seconds(1).await;
    visitor.open("/").await.must_be_a_waiting_page();
    let answer = visitor.send(Ask::fetch("/api")).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn assets_and_excluded_paths_keep_a_session_too() {
    let mut hand = ByHand::with("limit = 1\nsession_idle = \"1m\"\nexclude = [\"/open/\"]").await;
    let mut visitor = hand.visitor_inside().await;
    for ask in [
        Ask::image("/a.png"),
        Ask::page("/open/x"),
        Ask::fetch("/api"),
    ] {
        for _ in 0..2 {
            hand.pass_seconds(20).await;
            visitor.send(ask.clone()).await.must_come_from_the_origin();
        }
    }
    hand.pass_seconds(20).await;
    assert_eq!(hand.view().snapshot.sessions, 1);
}

#[tokio::test]
async fn no_session_outlives_session_max_while_others_wait() {
    let settings = "limit = 1\nsession_idle = \"1m\"\nsession_max = \"2m\"\nticket_idle = \"1h\"";
    let mut hand = ByHand::with(settings).await;
    let mut visitor = hand.visitor_inside().await;
    for _ in 0..10 {
        hand.pass_seconds(20).await;
        visitor.open("/").await.must_come_from_the_origin();
    }
    let mut waiter = hand.visitor_in_line().await;
    for second in 0..90 {
        hand.pass_seconds(1).await;
        if second % 15 == 0 {
            visitor.open("/").await;
        }
        if second % 3 == 0 && waiter.open("/").await.is_from_origin() {
            return;
        }
    }
    panic!("nobody made room");
}

#[tokio::test]
async fn who_stands_at_the_front_is_asked_to_look_often_enough_to_be_there_when_called() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"10m\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    for _ in 0..3 {
        let mut waiter = hand.visitor_in_line().await;
        for _ in 0..9 {
            hand.pass_seconds(15).await;
            inside.open("/").await.must_come_from_the_origin();
            waiter.open("/").await.must_be_a_waiting_page();
        }
        inside.open("/done").await;
        hand.pass_seconds(1).await;
        waiter.open("/").await.must_come_from_the_origin();
        hand.pass_seconds(1).await;
        waiter.open("/").await.must_come_from_the_origin();
        inside = waiter;
    }
    let mut front = hand.visitor_in_line().await;
    for _ in 0..15 {
        hand.pass_seconds(4).await;
        inside.open("/").await;
        let poll = front.open("/").await.data()["pollAfterMs"].as_u64();
        assert!(poll.unwrap() < 4500, "an offer stands for 5 s: {poll:?}");
    }
}

#[tokio::test]
async fn a_ticket_not_heard_from_is_skipped_and_an_abandoned_line_keeps_nobody_out() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"30s\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    let _gone = hand.visitor_in_line().await;
    let _gone_too = hand.visitor_in_line().await;
    let mut patient = hand.visitor_in_line().await;
    for _ in 0..12 {
        hand.pass_seconds(5).await;
        inside.open("/").await.must_come_from_the_origin();
        patient.open("/").await.must_be_a_waiting_page();
    }
    assert_eq!(hand.view().waiting(), 1);
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    patient.open("/").await.must_come_from_the_origin();
    patient.open("/done").await;
    hand.pass_seconds(1).await;
    hand.visitor_inside().await;
}

#[tokio::test]
async fn a_line_that_everybody_left_lets_newcomers_walk_in() {
    let mut hand = ByHand::with("limit = 1\nticket_idle = \"30s\"").await;
    hand.origin.answers(completes_at_done);
    let mut inside = hand.visitor_inside().await;
    for _ in 0..5 {
        hand.visitor_in_line().await;
    }
    for _ in 0..14 {
        hand.pass_seconds(5).await;
        inside.open("/").await.must_come_from_the_origin();
    }
    assert_eq!(hand.view().waiting(), 0);
    inside.open("/done").await;
    hand.pass_seconds(1).await;
    hand.visitor_inside().await;
}
