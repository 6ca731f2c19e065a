"""The origin and the table of tests/conformance/curl."""

import gzip
import hashlib
import http.server
import json
import socket
import subprocess
import sys

WORDS = b"".join(b"%06d a line of the page\n" % line for line in range(4000))
ETAG = '"' + hashlib.sha256(WORDS).hexdigest()[:16] + '"'
# What lives for one hop, or says when and by whom an answer was made.
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "date"}
# What a proxy says to an origin, and what it keeps to itself.
OURS = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
        "sumun-event", "sumun-client", "host", "expect", "content-length", "http2-settings"}


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def say(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def echo(self):
        """What came, without what a proxy has to say of itself."""
        body = self.body()
        headers = sorted((name.lower(), value) for name, value in self.headers.items()
                         if name.lower() not in HOP | OURS)
        seen = [self.command, self.path, headers, len(body), hashlib.sha256(body).hexdigest()]
        self.say(200, json.dumps(seen).encode(), content_type="application/json")

    def chunks(self, trailers):
        old = self.request_version == "HTTP/1.0"
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        if old:
            self.close_connection = True
        else:
            self.send_header("transfer-encoding", "chunked")
        if trailers:
            self.send_header("trailer", "x-sum")
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(WORDS), 7001):
            part = WORDS[start:start + 7001]
            self.wfile.write(part if old else b"%x\r\n%b\r\n" % (len(part), part))
        if not old:
            self.wfile.write(b"0\r\n%b\r\n" % (b"x-sum: 1234\r\n" if trailers else b""))

    def page(self):
        sent = {"etag": ETAG, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT",
                "accept_ranges": "bytes", "content_type": "text/plain"}
        if self.headers.get("if-none-match") == ETAG or self.headers.get("if-modified-since"):
            return self.say(304, b"", **sent)
        asked = self.headers.get("range", "")
        if not asked:
            return self.say(200, WORDS, **sent)
        first, last = asked.removeprefix("bytes=").split("-")
        if not first:
            first, last = len(WORDS) - int(last), len(WORDS) - 1
        first, last = int(first), min(int(last or len(WORDS) - 1), len(WORDS) - 1)
        if first > last:
            return self.say(416, b"", content_range="bytes */%d" % len(WORDS))
        return self.say(206, WORDS[first:last + 1],
                        content_range="bytes %d-%d/%d" % (first, last, len(WORDS)), **sent)

    def answer(self):
        path = self.path.split("?")[0]
        if path.startswith("/status/"):
            self.body()
            return self.say(int(path[8:]), b"so it is", x_kind="status")
        if path == "/gzip":
            return self.say(200, gzip.compress(WORDS, mtime=0), content_encoding="gzip", vary="accept-encoding")
        if path in ("/chunks", "/trailers"):
            return self.chunks(path == "/trailers")
        if path == "/close":
            self.close_connection = True
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            return self.command == "HEAD" or self.wfile.write(WORDS)
        if path == "/big":
            return self.say(200, WORDS * 200)
        if path == "/moved":
            return self.say(302, b"", location="/echo?moved")
        if path == "/cookies":
            self.send_response(200)
            for cookie in ("a=1; Path=/", "b=2, and more; HttpOnly"):
                self.send_header("set-cookie", cookie)
            self.send_header("content-length", "0")
            return self.end_headers()
        if path == "/locked" and "authorization" not in self.headers:
            return self.say(401, b"who?", www_authenticate='Basic realm="a"')
        if path == "/refused":
            # Answered without the body being looked at (RFC 9110 §9.3).
            self.close_connection = True
            self.say(413, b"too much", connection="close")
            # Closing over unread bytes would take the answer back.
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(65536):
                pass
            return None
        if path == "/length":
            return self.say(200, b"%d" % len(self.body()))
        if path == "/page":
            return self.page()
        return self.echo()

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)


# Name, options and path.
TABLE = [
    ("a page", "/page"),
    ("HEAD", "-I /page"),
    ("a range", "-r 10-99 /page"),
    ("the last bytes", "-r -77 /page"),
    ("a range too far", "-r 999999- /page"),
    ("not changed", "-H If-None-Match:%s /page" % ETAG),
    ("not changed since", "-z 2025-01-01 /page"),
    ("compressed, unpacked", "--compressed /gzip"),
    ("compressed, as sent", "-H Accept-Encoding:gzip /gzip"),
    ("transfer coding asked for", "--tr-encoding /page"),
    ("chunks", "/chunks"),
    ("HEAD of chunks", "-I /chunks"),
    ("trailers", "-H TE:trailers /trailers"),
    ("trailers nobody asked for", "/trailers"),
    ("until the close", "/close"),
    ("HEAD of that", "-I /close"),
    ("a big body", "/big"),
    ("nothing", "/status/204"),
    ("nothing, to a POST", "-d a=1 /status/204"),
    ("an error with a body", "/status/404"),
    ("an origin's own fault", "/status/500"),
    ("a code of its own", "/status/299"),
    ("followed", "-L /moved"),
    ("not followed", "/moved"),
    ("a form", "-d a=1&b=2 /echo"),
    ("a form in parts", "-F a=1 -F file=@UPLOAD /length"),
    ("an upload", "-T UPLOAD /echo"),
    ("an upload without Expect", "-T UPLOAD -H Expect: /echo"),
    ("an upload in chunks", "-T UPLOAD -H Transfer-Encoding:chunked /echo"),
    ("an empty upload", "-T EMPTY /echo"),
    ("a POST of nothing", "-X POST -H Content-Length:0 /echo"),
    ("an upload refused", "-T UPLOAD /refused"),
    ("DELETE", "-X DELETE /echo"),
    ("DELETE with a body", "-X DELETE -d a=1 /echo"),
    ("PATCH", "-X PATCH -d a=1 /echo"),
    ("OPTIONS", "-X OPTIONS /echo"),
    ("OPTIONS of all", "-X OPTIONS --request-target * /"),
    ("a method of others", "-X PROPFIND -d <a/> /echo"),
    ("a query", "/echo?a=1&b=%20&c=/../?"),
    ("a path as it is", "--path-as-is /a/%2E/%C3%A9//b;c=1"),
    ("dots", "--path-as-is /a/../echo"),
    ("cookies", "-b a=1;b=2,3 /echo"),
    ("cookies set", "/cookies"),
    ("a name and a password", "-u me:secret /locked"),
    ("nobody", "/locked"),
    ("a referer", "-e http://a.example/ -A words /echo"),
    ("a header of 20 KB", "-H X-Long:%s /echo" % ("x" * 20000)),
    ("an empty header", "-H X-Empty; /echo"),
    ("twice the same header", "-H X-Two:1 -H X-Two:2 /echo"),
    ("three on one connection", "--next3 /page"),
]


# What curl 7.88.1 makes of any server (nginx 1.22 too): an upload that is declined
# after the answer is an error to it, and a connection of HTTP/2 by prior knowledge
# serves it once.
KNOWN = {
    "--http2": {"an upload refused"},
    "--http2-prior-knowledge": {"an upload refused", "followed", "three on one connection"},
}


def ask(options, base, version, work):
    """What curl got: exit code, then for each answer its status and headers, then all bodies."""
    words = options.replace("UPLOAD", work + "/upload").replace("EMPTY", work + "/empty").split(" ")
    path, times = words.pop(), 1
    if "--next3" in words:
        words.remove("--next3")
        times = 3
    target = [base + path] * times
    output = [word for url in target for word in ("-o", "-")]
    run = subprocess.run(["curl", "-sk", "--max-time", "60", "-D", work + "/heads", *version, *words,
                          "-w", "%{stderr}%{num_connects} ", *output, *target], capture_output=True)
    answers = []
    for head in open(work + "/heads", encoding="latin-1", newline="").read().split("\r\n\r\n"):
        lines = head.split("\r\n")
        status = lines[0].split(" ")[1:2]
        if not status or status[0].startswith("1"):
            continue
        pairs = (line.partition(":")[::2] for line in lines[1:])
        answers.append((status, sorted((name.lower(), value.strip()) for name, value in pairs
                                       if name.lower() not in HOP)))
    body = run.stdout
    if "-I" in words:
        # There curl repeats the head as the body.
        body = b""
    return {"exit": run.returncode, "answers": answers, "body": (len(body), hashlib.sha256(body).hexdigest()),
            "connections": run.stderr.decode()}


def same(name, version, direct, through):
    direct, through = dict(direct), dict(through)
    if version == ["--http1.0"]:
        # It has no chunks and, at this origin, no connection for a second request.
        return direct["body"] == through["body"] and direct["exit"] == through["exit"] and \
            [status for status, _ in direct["answers"]] == [status for status, _ in through["answers"]]
    if name == "three on one connection" or version == []:
        return direct == through
    for one in (direct, through):
        del one["connections"]
    return direct == through


def table(origin, clear, secret, work):
    open(work + "/upload", "wb").write(WORDS * 20)
    open(work + "/empty", "wb")
    failed = asked = 0
    direct_base = "http://127.0.0.1:" + origin
    for base, versions in (("http://127.0.0.1:" + clear, ("--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge")),
                           ("https://127.0.0.1:" + secret, ("--http1.0", "--http1.1", "--http2"))):
        for version in versions:
            differ = []
            for name, options in TABLE:
                old = version == "--http1.0"
                if old and ("chunked" in options or "--next3" in options):
                    continue
                direct = ask(options, direct_base, ["--http1.0" if old else "--http1.1"], work)
                through = ask(options, base, [version], work)
                asked += 1
                if not same(name, [version], direct, through):
                    differ.append((name, direct, through))
            known = KNOWN.get(version, set()) if not (version == "--http2" and base.startswith("http:")) else set()
            failed += len([name for name, _, _ in differ if name not in known])
            print("curl, %s %s: %d of %d differ, %d known" %
                  (base.split(":")[0], version, len(differ), len(TABLE), len(known)))
            for name, direct, through in differ:
                for part in direct:
                    if direct[part] != through[part]:
                        print("  %s, %s: %r, at the origin %r" % (name, part, through[part], direct[part]))
    print("curl: %d of %d commands differ from the origin's own answer beyond what is known" % (failed, asked))
    sys.exit(failed > 0)


if sys.argv[1] == "origin":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Origin)
    server.daemon_threads = True
    server.serve_forever()
else:
    table(*sys.argv[2:])
