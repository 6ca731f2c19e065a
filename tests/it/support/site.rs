//! A whole server between an origin and its visitors, from a configuration as
//! an operator writes it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use sumun::config::Config;
use sumun::ledger::{Ledger, View};
use sumun::run::Reload;
use sumun::token::{Key, Keyring};

use super::{Origin, Server, Visitor, until};

/// A port of the system's choice.
const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The secret of a signing key.
fn secret(id: &str) -> String {
    format!("{id}-secret.{}", "x".repeat(32))
}

/// The keys of these names: what a site of these keys has.
pub(crate) fn ring(ids: &[&str]) -> Keyring {
    let key = |id: &&str| Key::new(id, secret(id).as_bytes()).unwrap();
    Keyring::new(ids.iter().map(key).collect())
}

/// What an operator writes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    top: String,
    event: String,
    tables: String,
    keys: Vec<&'static str>,
    state_dir: String,
    listen: SocketAddr,
}

impl Plan {
    /// The event `main` for everything, with these settings (lines of TOML).
    pub(crate) fn event(settings: &str) -> Self {
        Self {
            top: String::new(),
            event: settings.to_owned(),
            tables: String::new(),
            keys: vec!["a"],
            state_dir: String::new(),
            listen: ANY_PORT,
        }
    }

    /// Other settings for `main`.
    pub(crate) fn settings(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.event);
        self
    }

    /// Settings of the whole gateway.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top.push_str(lines);
        self.top.push('\n');
        self
    }

    /// More tables, such as another `[[event]]`.
    pub(crate) fn tables(mut self, lines: &str) -> Self {
        self.tables.push_str(lines);
        self.tables.push('\n');
        self
    }

    /// The signing keys; none: the server makes its own.
    pub(crate) fn keys(mut self, ids: &[&'static str]) -> Self {
        self.keys = ids.to_vec();
        self
    }

    /// Where state is kept.
    pub(crate) fn state(mut self, dir: &Path) -> Self {
        self.state_dir = dir.display().to_string();
        self
    }

    /// The public address, where it must be known before.
    pub(crate) fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    pub(super) fn config(&self, origin: SocketAddr) -> Config {
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|id| format!("{{ id = {id:?}, secret = {:?} }}", secret(id)))
            .collect();
        let Self {
            top,
            event,
            tables,
            state_dir,
            listen,
            ..
        } = self;
        let text = format!(
            "listen = \"{listen}\"\norigin = \"http://{origin}\"\nstate_dir = {state_dir:?}\n\
             {top}\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = false\n\
             [signing]\nkeys = [{}]\n[[event]]\nid = \"main\"\n{event}\n{tables}",
            keys.join(", ")
        );
        let text = with_default(
            with_default(text, "drain_delay", "0s"),
            "drain_timeout",
            "4s",
        );
        Config::parse(&text, std::iter::empty()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    /// Opens a site with an origin of its own.
    pub(crate) async fn open(self) -> Site {
        let origin = Origin::open().await;
        self.open_before(&origin).await
    }

    /// Opens a site before this origin.
    pub(crate) async fn open_before(self, origin: &Origin) -> Site {
        let server = self.start_before(origin.address).await;
        Site {
            origin: origin.clone(),
            door: server.door,
            admin: server.admin,
            server,
            plan: self,
        }
    }

    /// Starts a server before whatever listens there.
    pub(crate) async fn start_before(&self, origin: SocketAddr) -> Server {
        let config = self.config(origin);
        let started = tokio::task::spawn_blocking(|| Server::start(config));
        started.await.unwrap()
    }
}

fn with_default(text: String, key: &str, value: &str) -> String {
    if text.contains(&format!("{key} =")) {
        return text;
    }
    format!("{key} = {value:?}\n{text}")
}

/// A running server, its origin and its door.
pub(crate) struct Site {
    pub(crate) origin: Origin,
    /// The public door.
    pub(crate) door: SocketAddr,
    /// The admin door.
    pub(crate) admin: SocketAddr,
    pub(crate) server: Server,
    plan: Plan,
}

impl Site {
    /// A site with one event of these settings (lines of TOML).
    pub(crate) async fn with(settings: &str) -> Self {
        Plan::event(settings).open().await
    }

    /// Somebody new at the door.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::at(self.door)
    }

    /// Somebody who walked in.
    pub(crate) async fn visitor_inside(&self) -> Visitor {
        self.visitor().inside().await
    }

    /// Somebody who took a ticket.
    pub(crate) async fn visitor_in_line(&self) -> Visitor {
        self.visitor().in_line().await
    }

    /// Somebody inside, and the house is full: for `limit = 1`.
    pub(crate) async fn filled_by_one(&self) -> Visitor {
        let visitor = self.visitor_inside().await;
        self.until_busy().await;
        visitor
    }

    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        let site = self.server.running.reception.site.load();
        Arc::clone(site.ledgers.get("main").expect("no event main"))
    }

    /// What the gateway sees of the store.
    pub(crate) fn view(&self) -> Arc<View> {
        self.ledger().view().expect("not looked yet")
    }

    /// Waits until the gateway sees it.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&View) -> bool) {
        until(what, async || is(&self.view()).then_some(())).await;
    }

    /// Waits until newcomers take tickets.
    pub(crate) async fn until_busy(&self) {
        self.until("busy", View::is_busy).await;
    }

    /// The hash of the configuration that a plan comes to here.
    pub(crate) fn hash(&self, plan: &Plan) -> String {
        plan.config(self.origin.address).hash()
    }

    /// The operator writes another file.
    pub(crate) async fn rewrite(&mut self, plan: Plan) {
        self.plan = plan;
        let config = self.plan.config(self.origin.address);
        let fresh = Reload::Fresh(Box::new(config));
        self.server.reload.send(fresh).await.unwrap();
    }

    /// The operator changes the settings of `main`.
    pub(crate) async fn change(&mut self, settings: &str) {
        let plan = self.plan.clone().settings(settings);
        let wanted = plan.config(self.origin.address).events[0].clone();
        self.rewrite(plan).await;
        let ledger = self.ledger();
        until("new settings", async || {
            let rules = ledger.view()?.snapshot.meta.rules.clone();
            (**ledger.settings.load() == wanted && rules == ledger.rules()).then_some(())
        })
        .await;
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn begin_stop(&mut self) {
        self.server.begin_stop();
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(&mut self) {
        self.server.ended().await;
    }

    /// Stops the server as SIGTERM does and opens another one with `plan`
    /// before the same origin.
    pub(crate) async fn replaced_by(mut self, plan: Plan) -> Self {
        self.begin_stop();
        self.ended().await;
        plan.open_before(&self.origin).await
    }

    /// The same again, after a stop.
    pub(crate) async fn restarted(self) -> Self {
        let plan = self.plan.clone();
        self.replaced_by(plan).await
    }
}
