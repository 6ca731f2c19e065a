//! Asking origins how they are: real nginx servers with a health path.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::Gateway;
use crate::support::{Ask, free_address, until};

const CHECKS: &str = "[origin_check]\npath = \"/health\"\ninterval = \"100ms\"\nfall = 2\nrise = 2\n\
    [origin_health]\nslow_start = \"0s\"\n";

/// A running nginx that answers `/health` with whether a file is there.
struct Nginx {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    async fn open(name: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        fs::write(folder.path().join("well"), "well").unwrap();
        let conf = format!(
            "daemon off; master_process off; worker_processes 1;\n\
             pid nginx.pid; error_log error.log warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               access_log checks.log; client_body_temp_path body; proxy_temp_path proxy;\n\
               fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
               server {{\n\
                 listen {address}; root .; error_page 404 =500 /none;\n\
                 location = /health {{ try_files /well =500; }}\n\
                 location / {{ return 200 \"{name}\"; }}\n\
               }}\n\
             }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), conf).unwrap();
        let process = Command::new("nginx")
            .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx; tests/run installs it");
        until("nginx", async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        Self {
            process,
            address,
            folder,
        }
    }

    fn falls_ill(&self) {
        fs::remove_file(self.folder.path().join("well")).unwrap();
    }

    fn recovers(&self) {
        fs::write(self.folder.path().join("well"), "well").unwrap();
    }
}

#[tokio::test]
async fn who_says_that_it_is_ill_gets_no_requests_until_it_is_well() {
    let (one, two) = (Nginx::open("one").await, Nginx::open("two").await);
    let gateway = Gateway::before(&[one.address, two.address], CHECKS).await;
    gateway.until_state(one.address, "UP").await;
    one.falls_ill();
    let shown = gateway.until_state(one.address, "DOWN").await;
    assert_eq!(shown["reason"], "check_status");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await, (200, "two".to_owned()));
    }
    one.recovers();
    gateway.until_state(one.address, "UP").await;
    until("it gets requests again", async || {
        (gateway.get("/").await.1 == "one").then_some(())
    })
    .await;
    let log = fs::read_to_string(one.folder.path().join("checks.log")).unwrap();
    assert!(
        log.contains("GET /health") && log.contains("sumun-check"),
        "{log}"
    );
}

#[tokio::test]
async fn when_all_checks_fail_all_are_tried_all_the_same() {
    let (one, two) = (Nginx::open("one").await, Nginx::open("two").await);
    let gateway = Gateway::before(&[one.address, two.address], CHECKS).await;
    one.falls_ill();
    two.falls_ill();
    gateway.until_state(one.address, "DOWN").await;
    gateway.until_state(two.address, "DOWN").await;
    let mut seen = std::collections::BTreeSet::new();
    until("both answer", async || {
        let answer = gateway.visitor().send(Ask::page("/")).await;
        assert_eq!(answer.status, 200, "a wrong check must not close the site");
        seen.insert(answer.text());
        (seen.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_does_not_answer_to_checks_at_all_is_out_and_without_checks_in_again() {
    let (here, gone) = (Nginx::open("here").await, super::gone().await);
    let gateway = Gateway::before(&[here.address, gone], CHECKS).await;
    let shown = gateway.until_state(gone, "DOWN").await;
    assert_eq!(shown["reason"], "check");
    let none = "[origin_health]\nslow_start = \"0s\"\n";
    let unchecked = super::file(&super::list(&[here.address, gone]), none);
    gateway.rewrite(unchecked).await;
    gateway.until_state(gone, "UP").await;
}
