//! How requests share the connections of an origin, and what becomes of those that
//! it does not look at.

use std::pin::pin;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};

use super::origin::{Order, Two};
use super::{ask, before, client, get, read, whole};
use crate::support::{Call, bounded, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_by_http_2_and_says_what_http_2_says() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let mut request = get("/a?b=c");
    let headers = request.headers_mut();
    headers.insert("te", "trailers".parse().unwrap());
    headers.append("cookie", "a=1".parse().unwrap());
    headers.append("cookie", "b=2".parse().unwrap());
    let answer = ask(&client, request).await;
    let stream = origin.next().await;
    let (uri, headers) = (stream.request.uri(), stream.request.headers());
    assert_eq!(uri, "http://shop.example/a?b=c");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["via"], "2.0 sumun");
    assert_eq!(headers["x-forwarded-host"], "shop.example");
    for gone in ["host", "connection", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    stream.answer("a page");
    let (answer, trailers) = whole(answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body(), "a page");
    assert!(trailers.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_a_connection_as_far_as_the_origin_lets_them() {
    let origin = Two::open(3).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let mut answers = Vec::new();
    for number in 0..5 {
        answers.push(ask(&client, get(&format!("/{number}"))).await);
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(origin.next().await);
    }
    let on = |number| {
        streams
            .iter()
            .filter(|one| one.connection == number)
            .count()
    };
    assert_eq!((origin.connections(), on(1), on(2)), (2, 3, 2));
    for stream in streams {
        stream.answer("so it is");
    }
    for answer in answers {
        assert_eq!(whole(answer).await.unwrap().0.body(), "so it is");
    }
    // What is under way and what stands is counted.
    let admin = server.admin;
    until("nothing is under way", async || {
        let call = move || Call::new(admin, "GET", "/v1/origins").send().json();
        let all = tokio::task::spawn_blocking(call).await.unwrap();
        let shown = &all["items"][0];
        (shown["inFlight"] == 0).then(|| assert!(shown["connections"]["open"] != 1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_leaves_finishes_what_it_has_and_gets_nothing_new_there() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let first = ask(&client, get("/first")).await;
    let running = origin.next().await;
    origin.order(Order::Leave);
    // Whatever comes once the GOAWAY has come goes by another connection.
    let moved = until("a second connection", async || {
        let answer = ask(&client, get("/second")).await;
        let stream = origin.next().await;
        let connection = stream.connection;
        stream.answer("the second");
        assert_eq!(whole(answer).await.unwrap().0.body(), "the second");
        (connection == 2).then_some(connection)
    })
    .await;
    assert_eq!((running.connection, moved), (1, 2));
    running.answer("the first");
    assert_eq!(whole(first).await.unwrap().0.body(), "the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_sent_once_more_with_all_of_its_body() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let request = Request::post("http://shop.example/order").body(()).unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut body) = ready.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"two "), false).unwrap();
    let mut refused = origin.next().await;
    let begun = refused.request.body_mut().data().await;
    assert_eq!(begun.unwrap().unwrap(), "two ");
    refused.respond.send_reset(Reason::REFUSED_STREAM);
    let mut again = origin.next().await;
    body.send_data(Bytes::from_static(b"tickets"), true)
        .unwrap();
    let sent = read(again.request.body_mut()).await.unwrap();
    assert_eq!(sent, "two tickets");
    again.answer("yours");
    assert_eq!(whole(answer).await.unwrap().0.body(), "yours");

    // Twice is enough, and what was looked at is not sent again.
    for (reset, times) in [(Reason::REFUSED_STREAM, 2), (Reason::INTERNAL_ERROR, 1)] {
        let answer = ask(&client, get("/again")).await;
        for _ in 0..times {
            origin.next().await.respond.send_reset(reset);
        }
        assert_eq!(whole(answer).await.unwrap().0.status(), 502, "{reset:?}");
    }
    let answer = ask(&client, get("/last")).await;
    let stream = origin.next().await;
    assert_eq!(stream.path(), "/last");
    stream.answer("");
    assert_eq!(whole(answer).await.unwrap().0.status(), 200);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_very_many_pieces_is_not_kept_to_be_sent_once_more() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    for (pieces, is_kept) in [(256, true), (257, false)] {
        let request = Request::post("http://shop.example/up").body(()).unwrap();
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, mut up) = ready.send_request(request, false).unwrap();
        let mut refused = origin.next().await;
        for _ in 0..pieces {
            // One by one, so that each stays a piece.
            up.send_data(Bytes::from_static(b"x"), false).unwrap();
            let piece = refused.request.body_mut().data();
            let piece = bounded("a piece", piece).await.unwrap().unwrap();
            assert_eq!(piece, "x");
            let room = refused.request.body_mut().flow_control();
            room.release_capacity(piece.len()).unwrap();
        }
        refused.respond.send_reset(Reason::REFUSED_STREAM);
        let mut answered = pin!(whole(answer));
        let again = tokio::select! {
            again = origin.next() => Some(again),
            answer = &mut answered => {
                assert_eq!(answer.unwrap().0.status(), 502);
                None
            }
        };
        assert_eq!(again.is_some(), is_kept, "{pieces}");
        if let Some(mut again) = again {
            up.send_data(Bytes::new(), true).unwrap();
            let sent = read(again.request.body_mut()).await.unwrap();
            assert_eq!(sent.len(), pieces);
            again.answer("yours");
            assert_eq!(answered.await.unwrap().0.body(), "yours");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_small_pieces_that_has_to_wait_comes_whole() {
    /// So many may wait for an origin that takes nothing (docs/configuration.md).
    const PIECES: usize = 2_000;
    let mut builder = h2::server::Builder::new();
    // It takes no more of a body until it reads.
    builder.initial_window_size(500);
    let origin = Two::with(builder, |tcp| async { Some(tcp) }).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let request = Request::post("http://shop.example/up").body(()).unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut up) = ready.send_request(request, false).unwrap();
    let mut slow = origin.next().await;
    for _ in 0..PIECES {
        up.send_data(Bytes::from_static(b"piece"), false).unwrap();
    }
    up.send_data(Bytes::new(), true).unwrap();
    let beside = ask(&client, get("/beside")).await;
    origin.next().await.answer("");
    assert_eq!(whole(beside).await.unwrap().0.status(), 200);
    let came = read(slow.request.body_mut()).await.unwrap();
    assert_eq!(came, b"piece".repeat(PIECES));
    slow.answer("all of it");
    assert_eq!(whole(answer).await.unwrap().0.body(), "all of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_its_own_stream_with_it_and_no_other() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let (leaver, stayer) = (client(server.door).await, client(server.door).await);
    let left = ask(&leaver, get("/leave")).await;
    let mut lost = origin.next().await;
    let kept = ask(&leaver, get("/stay")).await;
    let stays = origin.next().await;
    assert_eq!((lost.connection, stays.connection), (1, 1));
    drop(left);
    let told = std::future::poll_fn(|context| lost.respond.poll_reset(context));
    let reason = bounded("a reset", told).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
    stays.answer("still here");
    assert_eq!(whole(kept).await.unwrap().0.body(), "still here");

    // In the middle of an upload, and of the answer to it.
    let request = Request::put("http://shop.example/up").body(()).unwrap();
    let mut ready = stayer.clone().ready().await.unwrap();
    let (answer, mut up) = ready.send_request(request, false).unwrap();
    up.send_data(Bytes::from_static(b"half"), false).unwrap();
    let mut both = origin.next().await;
    let head = both.respond.send_response(Response::new(()), false);
    let mut down = head.unwrap();
    let (_head, body) = bounded("a head", answer).await.unwrap().into_parts();
    drop((body, up));
    let told = std::future::poll_fn(|context| down.poll_reset(context));
    assert_eq!(bounded("a reset", told).await.unwrap(), Reason::CANCEL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_takes_nothing_holds_up_nobody_else() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let page = Bytes::from(vec![b'x'; 1 << 20]);
    let slow = ask(&client, get("/slow")).await;
    let mut stream = origin.next().await;
    let mut down = stream
        .respond
        .send_response(Response::new(()), false)
        .unwrap();
    down.send_data(page.clone(), true).unwrap();
    let (_head, untaken) = bounded("a head", slow).await.unwrap().into_parts();
    // A client of its own: the first one's connection is full.
    let other = super::client(server.door).await;
    for _ in 0..3 {
        let quick = ask(&other, get("/quick")).await;
        let mut stream = origin.next().await;
        let mut down = stream
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        down.send_data(page.clone(), true).unwrap();
        let (answer, _) = whole(quick).await.unwrap();
        assert_eq!(answer.body().len(), page.len());
    }
    drop(untaken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_take_nothing_of_small_pieces_end_nobody_elses_answer() {
    const PIECE: &[u8] = b"0123456789abcdef";
    /// As many as the gateway holds of one answer.
    const PIECES: usize = 128 * 1024 / PIECE.len();
    let mut builder = h2::server::Builder::new();
    // The next piece may be sent when the last one is on its way.
    builder.max_send_buffer_size(PIECE.len());
    let origin = Two::with(builder, |tcp| async { Some(tcp) }).await;
    let server = before(&origin, "").await;
    let tcp = tokio::net::TcpStream::connect(server.door).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(0)
        .initial_connection_window_size(1 << 20)
        .data_frame_budget(usize::MAX);
    let (client, mut connection) = builder.handshake(tcp).await.unwrap();
    let (take, taking) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ended = &mut connection => return,
            window = taking => connection.set_initial_window_size(window.unwrap()).unwrap(),
        }
        let _ended = connection.await;
    });
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(ask(&client, get("/events")).await);
        let mut stream = origin.next().await;
        let head = stream.respond.send_response(Response::new(()), false);
        let mut down = head.unwrap();
        for _ in 0..PIECES {
            down.reserve_capacity(PIECE.len());
            while down.capacity() < PIECE.len() {
                let room = std::future::poll_fn(|context| down.poll_capacity(context));
                bounded("room", room).await.unwrap().unwrap();
            }
            down.send_data(Bytes::from_static(PIECE), false).unwrap();
        }
        down.send_data(Bytes::new(), true).unwrap();
    }
    // It comes behind all of that.
    let quick = ask(&client, get("/quick")).await;
    let mut stream = origin.next().await;
    stream
        .respond
        .send_response(Response::new(()), true)
        .unwrap();
    assert_eq!(whole(quick).await.unwrap().0.status(), 200);
    take.send(1 << 20).unwrap();
    for answer in futures_util::future::join_all(answers.into_iter().map(whole)).await {
        assert_eq!(answer.unwrap().0.body(), &PIECE.repeat(PIECES));
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_empty_pieces_are_the_most_that_a_connection_lives_through() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let answered = async |empty: usize| {
        let answer = ask(&client, get("/flushes")).await;
        let mut stream = origin.next().await;
        let head = stream.respond.send_response(Response::new(()), false);
        let mut down = head.unwrap();
        for _ in 0..empty {
            down.send_data(Bytes::new(), false).unwrap();
        }
        // The connection may have ended already.
        let _sent = down.send_data(Bytes::from_static(b"a page"), true);
        let answer = whole(answer).await;
        let is_whole = answer.is_ok_and(|(answer, _)| answer.body() == "a page");
        (stream.connection, is_whole)
    };
    // The docs say so, and h2 tells us nothing of them.
    assert_eq!(answered(100).await, (1, true));
    assert_eq!(answered(1).await, (1, false));
    assert_eq!(answered(0).await, (2, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_ends_its_requests_and_the_next_one_opens_another() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let unanswered = ask(&client, get("/unanswered")).await;
    let _silent = origin.next().await;
    let begun = ask(&client, get("/begun")).await;
    let mut stream = origin.next().await;
    let head = Response::builder().header("content-length", "4");
    let head = head.body(()).unwrap();
    let mut down = stream.respond.send_response(head, false).unwrap();
    down.send_data(Bytes::from_static(b"ab"), false).unwrap();
    let (_head, mut body) = bounded("a head", begun).await.unwrap().into_parts();
    assert_eq!(body.data().await.unwrap().unwrap(), "ab");
    origin.order(Order::Cut);
    assert_eq!(whole(unanswered).await.unwrap().0.status(), 502);
    // Half an answer never looks whole.
    assert!(bounded("an end", body.data()).await.unwrap().is_err());
    let answer = ask(&client, get("/next")).await;
    origin.next().await.answer("here again");
    assert_eq!(whole(answer).await.unwrap().0.body(), "here again");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stream_has_limits_of_its_own() {
    let origin = Two::open(100).await;
    let limits = "[timeouts]\nfirst_byte = \"200ms\"\nidle = \"1m\"\n";
    let server = before(&origin, limits).await;
    let client = client(server.door).await;
    let going = ask(&client, get("/going")).await;
    let mut stream = origin.next().await;
    let mut down = stream
        .respond
        .send_response(Response::new(()), false)
        .unwrap();
    down.send_data(Bytes::from_static(b"first, "), false)
        .unwrap();
    let late = ask(&client, get("/late")).await;
    let mut silent = origin.next().await;
    assert_eq!(whole(late).await.unwrap().0.status(), 504);
    let told = std::future::poll_fn(|context| silent.respond.poll_reset(context));
    assert_eq!(bounded("a reset", told).await.unwrap(), Reason::CANCEL);
    down.send_data(Bytes::from_static(b"last"), true).unwrap();
    assert_eq!(whole(going).await.unwrap().0.body(), "first, last");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_gets_no_more_requests_until_it_speaks() {
    let origin = Two::open(100).await;
    let limits = "[timeouts]\nfirst_byte = \"1s\"\nidle = \"1m\"\n";
    let server = before(&origin, limits).await;
    let client = client(server.door).await;
    let going = ask(&client, get("/going")).await;
    let mut stream = origin.next().await;
    let head = stream.respond.send_response(Response::new(()), false);
    let mut down = head.unwrap();
    let (_head, mut body) = bounded("a head", going).await.unwrap().into_parts();
    let next_goes_by = async || {
        let answer = ask(&client, get("/next")).await;
        let stream = origin.next().await;
        let connection = stream.connection;
        stream.answer("");
        assert_eq!(whole(answer).await.unwrap().0.status(), 200);
        connection
    };
    let late = ask(&client, get("/late")).await;
    let silent = origin.next().await;
    assert_eq!(whole(late).await.unwrap().0.status(), 504);
    assert_eq!((silent.connection, next_goes_by().await), (1, 2));
    down.send_data(Bytes::from_static(b"here"), false).unwrap();
    assert_eq!(
        bounded("a piece", body.data()).await.unwrap().unwrap(),
        "here"
    );
    assert_eq!(next_goes_by().await, 1);
    // Another's answer says that it is there, whoever waits in vain.
    let late = ask(&client, get("/late")).await;
    let _silent = origin.next().await;
    down.send_data(Bytes::from_static(b"again"), false).unwrap();
    assert_eq!(
        bounded("a piece", body.data()).await.unwrap().unwrap(),
        "again"
    );
    assert_eq!(whole(late).await.unwrap().0.status(), 504);
    assert_eq!(next_goes_by().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_connections_are_limited_requests_wait_for_a_place() {
    let origin = Two::open(2).await;
    let one = "[origin_pool]\nconnections = 1\nconnection_wait = \"1m\"\n";
    let server = before(&origin, one).await;
    let client = client(server.door).await;
    let mut answers = Vec::new();
    for number in 0..4 {
        answers.push(ask(&client, get(&format!("/{number}"))).await);
    }
    let mut running = vec![origin.next().await, origin.next().await];
    let admin = server.admin;
    let waiting = async |count: u64| {
        until("they wait", async || {
            let call = move || Call::new(admin, "GET", "/v1/origins").send().json();
            let all = tokio::task::spawn_blocking(call).await.unwrap();
            let connections = &all["items"][0]["connections"];
            let is = connections["waiting"] == count && connections["open"] == 1;
            is.then_some(())
        })
        .await;
    };
    waiting(2).await;
    running.remove(0).answer("done");
    running.push(origin.next().await);
    waiting(1).await;
    running.remove(0).answer("done");
    running.push(origin.next().await);
    waiting(0).await;
    for stream in running {
        stream.answer("done");
    }
    for answer in answers {
        assert_eq!(whole(answer).await.unwrap().0.body(), "done");
    }
    assert_eq!(origin.connections(), 1);
    // A visitor on another thread has the one that nobody uses closed.
    for _ in 0..6 {
        let other = super::client(server.door).await;
        let answer = ask(&other, get("/other")).await;
        origin.next().await.answer("done");
        assert_eq!(whole(answer).await.unwrap().0.status(), 200);
    }
}
