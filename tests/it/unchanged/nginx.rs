//! A real nginx with a small site of files: pages, assets, and a large file
//! that is mostly holes on the disk.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::{bounded, free_address, noise};

/// A megabyte.
pub(super) const MB: u64 = 1 << 20;

/// The large file: 1 GB, most of it holes on the disk.
pub(super) const LARGE: u64 = 1024 * MB;

/// What is written at the beginning of each megabyte; no two are the same.
const MARK_BYTES: usize = 4096;

/// The bytes of the large file's megabyte of this index.
pub(super) fn megabyte(index: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(MB).unwrap()];
    for (place, byte) in bytes.iter_mut().take(MARK_BYTES).enumerate() {
        let mixed = (index * 31 + place as u64).wrapping_mul(2_654_435_761);
        *byte = u8::try_from((mixed >> 13) & 0xff).unwrap();
    }
    bytes
}

fn write_site(root: &Path) {
    let pages = root.join("pages");
    fs::create_dir_all(&pages).unwrap();
    for page in ["index.html", "pages/tickets.html", "pages/예매.html"] {
        let mut html = "<!doctype html><meta charset=utf-8>\
            <link rel=stylesheet href=/site.css><script src=/site.js></script>"
            .to_owned();
        for row in 0..400 {
            let _ = writeln!(html, "<p>{page}: row {row}, 좌석 {row}</p>");
        }
        fs::write(root.join(page), html).unwrap();
    }
    fs::write(root.join("site.css"), "p { color: #123 }\n".repeat(300)).unwrap();
    fs::write(root.join("site.js"), "console.log('here');\n".repeat(300)).unwrap();
    fs::write(root.join("empty.txt"), "").unwrap();
    fs::write(root.join("poster.png"), noise(300_000)).unwrap();
    let large = fs::File::create(root.join("large.bin")).unwrap();
    large.set_len(LARGE).unwrap();
    for index in 0..LARGE / MB {
        let bytes = megabyte(index);
        large
            .write_all_at(&bytes[..MARK_BYTES], index * MB)
            .unwrap();
    }
}

/// A running nginx; it ends when it is dropped.
pub(super) struct Nginx {
    process: Child,
    pub(super) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    pub(super) async fn open() -> Self {
        // Its workers may have given up the right to read another's folder.
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("site");
        write_site(&root);
        for _ in 0..5 {
            if let Some((process, address)) = start_nginx(folder.path()).await {
                return Self {
                    process,
                    address,
                    _folder: folder,
                };
            }
        }
        let said = fs::read_to_string(folder.path().join("error.log"));
        panic!("nginx does not start: {said:?}");
    }
}

/// Starts nginx on a port that was free a moment ago; `None` if it was taken.
async fn start_nginx(prefix: &Path) -> Option<(Child, SocketAddr)> {
    let address = free_address();
    // nginx zips nothing for requests with `Via` unless told to (gzip_proxied).
    let conf = format!(
        "daemon off; master_process off; worker_processes 1;\n\
         pid nginx.pid; error_log error.log warn;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
           types {{ text/html html; text/css css; text/javascript js; image/png png; text/plain txt; }}\n\
           default_type application/octet-stream;\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_timeout 30s;\n\
           client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
           uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
           gzip on; gzip_proxied any; gzip_min_length 256; gzip_vary on; gzip_types text/css text/javascript;\n\
           etag on;\n\
           server {{\n\
             listen {address}; root site; charset utf-8;\n\
             location / {{ add_header X-Two one always; add_header X-Two two always; }}\n\
             location = /site.css {{ add_header Cache-Control \"public, max-age=600\"; }}\n\
             location /old/ {{ return 301 /pages/tickets.html?from=old; }}\n\
             location = /nothing {{ return 204; }}\n\
             location = /cookies {{ add_header Set-Cookie \"a=1; Path=/\"; add_header Set-Cookie \"b=2; HttpOnly\"; return 200 \"two cookies\"; }}\n\
             location = /broken {{ return 500 \"broken\"; }}\n\
           }}\n\
         }}\n"
    );
    fs::write(prefix.join("nginx.conf"), conf).unwrap();
    let mut process = Command::new("nginx")
        .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
        .arg(prefix)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx; tests/run installs it");
    bounded("nginx", async {
        loop {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).await.is_ok() {
                return Some((process, address));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
