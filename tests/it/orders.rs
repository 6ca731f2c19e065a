//! Orders and questions at a terminal, to a gateway as a process of its own.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Doors, Process, run};
use crate::support::{Call, wait_until};

const TOKEN: &str = "a token for operators alone";

/// A gateway whose admin door wants a token, and the folder that its file is in.
fn gateway(event: &str) -> (TempDir, Process) {
    let (folder, doors) = (tempfile::tempdir().unwrap(), Doors::free());
    write(folder.path(), doors, TOKEN, event);
    let gateway = Process::run(&folder.path().join("gateway.toml"), doors);
    wait_until("it is ready", || gateway.is_ready().then_some(()));
    (folder, gateway)
}

fn write(folder: &Path, doors: Doors, token: &str, event: &str) {
    let text = doors.file("127.0.0.1:9".parse().unwrap(), event);
    let text = text.replacen("[admin]\n", &format!("[admin]\ntoken = \"{token}\"\n"), 1);
    std::fs::write(folder.join("gateway.toml"), text).unwrap();
}

#[test]
fn an_order_is_in_force_at_once_and_is_taken_back_by_a_word() {
    let (folder, _gateway) = gateway("limit = 7");
    let say = |arguments: &[&str]| {
        let (code, said) = run(folder.path(), arguments);
        assert_eq!(code, 0, "{said}");
        said
    };
    assert_eq!(say(&["limit", "main", "1200"]), "main: limit 1200\n");
    wait_until("the limit is shown", || {
        say(&["status", "main"]).contains("of 1,200,").then_some(())
    });
    assert_eq!(
        say(&["limit", "main", "file"]),
        "main: limit 7, as the file says\n"
    );
    assert_eq!(say(&["mode", "main", "pause"]), "main: mode pause\n");
    let expected = ["main", "PAUSED", "pause", "0", "7"];
    wait_until("the list shows both", || {
        let shown = say(&["status"]);
        let cells: Vec<&str> = shown.lines().nth(1)?.split_whitespace().collect();
        (cells.get(..5) == Some(&expected)).then_some(())
    });
    let whole = say(&["status", "main"]);
    for part in [
        "mode pause",
        "inside ",
        "waiting ",
        "pressure ",
        "gateways   1",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let raw: Value = serde_json::from_str(&say(&["status", "main", "--json"])).unwrap();
    assert_eq!(raw["mode"], "pause");
    let raw: Value = serde_json::from_str(&say(&["status", "--json"])).unwrap();
    assert_eq!(raw[0]["eventId"], "main");
}

#[test]
fn a_reset_asks_first_and_nobody_is_asked_without_a_terminal() {
    let (folder, _gateway) = gateway("");
    let (code, said) = run(folder.path(), &["reset", "main"]);
    assert!(code == 1 && said.contains("--yes"), "{code}: {said}");
    let status = || {
        let said = run(folder.path(), &["status", "main", "--json"]).1;
        serde_json::from_str::<Value>(&said).unwrap()["generation"].clone()
    };
    assert_eq!(status(), 0);
    let (code, said) = run(folder.path(), &["reset", "main", "--yes"]);
    assert!(code == 0 && said.contains("void"), "{code}: {said}");
    wait_until("a new generation", || (status() != 0).then_some(()));
}

#[test]
fn a_message_stands_on_the_waiting_page_until_it_is_taken_away() {
    let (folder, gateway) = gateway("mode = \"queue\"\nmessage = \"from the file\"");
    let say = |arguments: &[&str]| {
        let (code, said) = run(folder.path(), arguments);
        assert_eq!(code, 0, "{said}");
        said
    };
    let page = |holds: &dyn Fn(&str) -> bool| {
        wait_until("the page says so", || {
            let page = Call::new(gateway.doors.public, "GET", "/");
            let page = page.header("accept", "text/html").send();
            (page.status == 503 && holds(&page.text())).then_some(())
        });
    };
    page(&|page| page.contains("from the file"));
    let said = say(&["message", "main", "곧 다시 <엽니다>"]);
    assert_eq!(said, "main: message 곧 다시 <엽니다>\n");
    page(&|page| page.contains("곧 다시 &lt;엽니다&gt;") && !page.contains("from the file"));
    assert_eq!(say(&["message", "main", "--clear"]), "main: message none\n");
    page(&|page| !page.contains("곧") && !page.contains("from the file"));
    say(&["message", "main", "--file"]);
    page(&|page| page.contains("from the file"));
    let long = "x".repeat(501);
    let (code, said) = run(folder.path(), &["message", "main", &long]);
    assert!(code == 1 && said.contains("message: "), "{said}");
    assert_eq!(run(folder.path(), &["message", "main"]).0, 2, "no text");
}

#[test]
fn what_a_request_would_meet_is_told_and_leaves_no_trace() {
    let (folder, gateway) = gateway(
        "mode = \"queue\"\npaths = [\"/sale\"]\n\
         exclude = [\"/sale/assets/\", { path = \"/sale/notify\", methods = [\"POST\"] }]\n\
         [event.bypass]\naddresses = [\"203.0.113.7\"]",
    );
    let told = |arguments: &[&str], wants: &[&str]| {
        let (code, said) = run(folder.path(), &[&["explain"], arguments].concat());
        assert_eq!(code, 0, "{said}");
        for part in wants {
            assert!(said.contains(part), "{part}: {said}");
        }
        said
    };
    let page = [
        "navigation",
        "main, QUEUEING",
        "path: ",
        "(/sale)",
        "a place in line",
        "(503)",
    ];
    wait_until("it queues", || {
        let said = run(folder.path(), &["explain", "/sale/1?a=b"]).1;
        page.iter().all(|part| said.contains(part)).then_some(())
    });
    let inside = told(&["https://shop.example/sale"], &["who is inside"]);
    assert!(inside.contains("forwarded, inside the session"), "{inside}");
    let script = ["--header", "Accept: application/json"];
    told(
        &[&["/sale"], &script[..]].concat(),
        &["api", "problem document"],
    );
    let crawler = ["--header", "User-Agent: Yeti/1.1"];
    told(
        &[&["/sale"], &crawler[..]].concat(),
        &["crawler", "503 with a short text"],
    );
    told(&["/sale/assets/a.css"], &["exclude: ", "/sale/assets/"]);
    told(
        &["/sale/notify", "--method", "POST"],
        &["exclude: ", "POST"],
    );
    told(&["/sale/notify"], &["path: "]);
    told(&["/sale", "--address", "203.0.113.7"], &["bypass: "]);
    told(&["/about"], &["no_event: "]);
    told(&["/__sumun/livez"], &["own: "]);
    let fails = |arguments: &[&str], wants: &str| {
        let (code, said) = run(folder.path(), &[&["explain"], arguments].concat());
        assert!(code == 1 && said.contains(wants), "{code}: {said}");
    };
    fails(&["sale"], "url: ");
    fails(&["/sale", "--method", "G E T"], "method: ");
    fails(&["/sale", "--address", "nobody"], "address: ");
    fails(&["/sale", "--header", "Accept"], "no colon");
    fails(&["/sale", "--header", "A b: c"], "headers: ");
    let status = run(folder.path(), &["status", "main", "--json"]).1;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["totals"]["ticketsIssued"], 0);
    assert_eq!(status["counts"]["waiting"], 0);
    assert!(!gateway.shows("sumun_tickets_issued_total{event=\"main\"} 1"));
}

#[test]
fn a_fault_elsewhere_in_the_file_holds_up_no_order() {
    let (folder, gateway) = gateway("limit = 7");
    write(folder.path(), gateway.doors, TOKEN, "limit = \"many\"");
    assert_eq!(run(folder.path(), &["check"]).0, 1);
    let (code, said) = run(folder.path(), &["mode", "main", "off"]);
    assert_eq!((code, said.as_str()), (0, "main: mode off\n"));
}

#[test]
fn what_goes_wrong_is_told_with_what_to_do() {
    let (folder, gateway) = gateway("");
    let fails = |arguments: &[&str], wants: &[&str]| {
        let (code, said) = run(folder.path(), arguments);
        assert_eq!(code, 1, "{said}");
        for part in wants {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains(TOKEN), "{said}");
    };
    fails(&["status", "man"], &["no event \"man\"; there is main"]);
    fails(&["mode", "../x", "off"], &["no event \"../x\""]);
    fails(&["mode", "main", "open"], &["mode: ", "auto", "shadow"]);
    fails(&["limit", "main", "0"], &["limitCnt: "]);
    fails(&["limit", "main", "many"], &["whole number", "file"]);
    let nobody = "127.0.0.1:9";
    fails(
        &["status", "--admin", nobody],
        &[nobody, "is it running", "admin.listen", "--admin"],
    );
    fails(&["status", "--admin", "here"], &["127.0.0.1:9090"]);
    fails(
        &["status", "--config", "gone.toml"],
        &["gone.toml", "cannot be opened"],
    );
    // The public door is no admin door.
    let public = gateway.doors.public.to_string();
    fails(&["status", "--admin", &public], &["no admin door"]);
    write(folder.path(), gateway.doors, "another token, as long", "");
    wait_until("the gateway takes the other token", || {
        (run(folder.path(), &["status"]).0 == 0).then_some(())
    });
    let (other, admin) = (
        tempfile::tempdir().unwrap(),
        gateway.doors.admin.to_string(),
    );
    let (code, said) = run(other.path(), &["status", "--admin", &admin]);
    assert!(code == 1 && said.contains("SUMUN_ADMIN_TOKEN"), "{said}");
    assert_eq!(run(folder.path(), &["limit", "main"]).0, 2, "wrong usage");
}
