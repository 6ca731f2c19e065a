//! How requests share the connections of an origin.

use super::origin::Two;
use super::{ask, before, client, get, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_by_http_2_and_says_what_http_2_says() {
    let origin = Two::open(100).await;
    let server = before(&origin, "").await;
    let client = client(server.door).await;
    let mut request = get("/a?b=c");
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    request
        .headers_mut()
        .append("cookie", "a=1".parse().unwrap());
    request
        .headers_mut()
        .append("cookie", "b=2".parse().unwrap());
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
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (200, &b"a page"[..])
    );
    assert!(trailers.is_empty());
}
