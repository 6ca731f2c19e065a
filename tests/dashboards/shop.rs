//! The customer's site: quick, slow or broken by path. It ends sessions at `/done`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_millis(150);

/// Opens a shop, which stays as long as the test.
pub(crate) fn open() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    address
}

/// Answers one request; an error means that the other side has gone.
fn serve(mut stream: &TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    lines
        .find(|line| line.as_ref().is_ok_and(String::is_empty))?
        .ok()?;
    let path = first.split(' ').nth(1)?;
    let more = match path {
        // Breaks off without an answer.
        "/broken" => return None,
        "/slow" => {
            std::thread::sleep(SLOW);
            ""
        }
        "/done" => "sumun-session: complete\r\n",
        _ => "",
    };
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 11\r\n{more}\
         connection: close\r\n\r\n<p>the shop"
    );
    stream.write_all(answer.as_bytes()).ok()
}
