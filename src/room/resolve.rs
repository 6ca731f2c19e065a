//! From what was written to an event's effective settings.
//!
//! Whatever door the words came through, they are checked here as one whole:
//! hosts and paths brought to their normal form, defaults filled in, and what
//! contradicts itself refused.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    event::{Bypass, CookieSettings, EventId, EventSettings, Exclude, QueueWhen, SameSite, Secure},
    faults::Faults,
    host, paths,
    schema::join,
    settings::{RawBypass, RawCookie, RawEvent, RawExclude, RawQueueWhen, RawRule},
    units,
};

/// Shortest bypass secret, in bytes: it opens the gate to whoever guesses it.
pub const BYPASS_SECRET_MIN: usize = 16;

impl RawEvent {
    /// The effective settings, checked as a whole; `None` when any fault was
    /// noted. What is not written has its default, but `paths` has none: an
    /// event without paths covers no request (the file's `["/"]` is put in
    /// by whoever reads the file).
    #[must_use]
    pub fn resolve(&self, path: &str, faults: &mut Faults) -> Option<EventSettings> {
        let before = faults.len();
        let mut at = At { path, faults };
        let id = at.id(self.id.as_deref());
        // Without an id nothing comes of it, but its other faults are told.
        let mut settings = EventSettings::new(id.unwrap_or_else(EventId::unnamed));
        if let Some(name) = self.name.as_ref().filter(|name| !name.trim().is_empty()) {
            settings.name.clone_from(name);
        }
        settings.mode = self.mode.unwrap_or_default();
        settings.hosts = at.hosts(self.hosts.as_deref().unwrap_or_default());
        settings.paths = at.paths(self.paths.as_deref().unwrap_or_default());
        if let Some(rules) = &self.exclude {
            settings.exclude = at.excludes(rules);
        }
        settings.limit = self.limit;
        settings.admit_per_second = self.admit_per_second;
        settings.session_idle = self.session_idle.unwrap_or(settings.session_idle);
        settings.session_max = self.session_max.unwrap_or(settings.session_max);
        settings.ticket_idle = self.ticket_idle.unwrap_or(settings.ticket_idle);
        settings.waiting_max = self.waiting_max.unwrap_or(settings.waiting_max);
        settings.joins_per_address_per_minute = self
            .joins_per_address_per_minute
            .unwrap_or(settings.joins_per_address_per_minute);
        settings.sessions_per_address_ratio = self
            .sessions_per_address_ratio
            .unwrap_or(settings.sessions_per_address_ratio);
        let shared = self.shared_addresses.as_deref().unwrap_or_default();
        settings.shared_addresses = at.networks("shared_addresses", shared);
        settings.session_requests_per_second = self
            .session_requests_per_second
            .unwrap_or(settings.session_requests_per_second);
        settings.session_requests_in_flight = self
            .session_requests_in_flight
            .unwrap_or(settings.session_requests_in_flight);
        settings.success_url = at.success_url(self.success_url.as_deref());
        settings.waiting_status = self.waiting_status.unwrap_or(settings.waiting_status);
        settings.crawlers = self.crawlers.unwrap_or_default();
        settings.message = self.message.clone().filter(|text| !text.trim().is_empty());
        settings.queue_when = self.queue_when.resolve();
        settings.cookie = at.cookie(&self.cookie, &settings.hosts);
        settings.bypass = at.bypass(&self.bypass);
        settings.bots = self.bots.resolve(path, &settings.paths, at.faults);
        if settings.session_idle > settings.session_max {
            at.fault(
                "session_idle",
                &units::duration_text(settings.session_idle),
                &format!(
                    "write at most session_max, which is {}",
                    units::duration_text(settings.session_max)
                ),
            );
        }
        (faults.len() == before).then_some(settings)
    }
}

impl RawQueueWhen {
    /// With defaults where nothing is written.
    fn resolve(&self) -> QueueWhen {
        let default = QueueWhen::default();
        QueueWhen {
            sessions: self.sessions,
            arrivals_per_second: self.arrivals_per_second,
            requests_per_second: self.requests_per_second,
            in_flight: self.in_flight,
            latency_p95: self.latency_p95,
            failure_ratio: self.failure_ratio,
            window: self.window.unwrap_or(default.window),
            min_requests: self.min_requests.unwrap_or(default.min_requests),
            release_ratio: self.release_ratio.unwrap_or(default.release_ratio),
            release_after: self.release_after.unwrap_or(default.release_after),
        }
    }
}

/// Networks by their names: an address, a CIDR, `"loopback"` or `"private"`
/// (RFC 1918, RFC 4193, link-local).
///
/// # Errors
/// The remedy, when it is none of these.
pub fn networks(text: &str) -> Result<Vec<IpNet>, &'static str> {
    let v4 = |a, b, c, d, bits| Ipv4Net::new([a, b, c, d].into(), bits).map(IpNet::V4);
    let v6 = |first, last, bits| {
        Ipv6Net::new([first, 0, 0, 0, 0, 0, 0, last].into(), bits).map(IpNet::V6)
    };
    let named = match text {
        "loopback" => vec![v4(127, 0, 0, 0, 8), v6(0, 1, 128)],
        "private" => vec![
            v4(10, 0, 0, 0, 8),
            v4(172, 16, 0, 0, 12),
            v4(192, 168, 0, 0, 16),
            v4(169, 254, 0, 0, 16),
            v6(0xfc00, 0, 7),
            v6(0xfe80, 0, 10),
        ],
        _ => {
            let single = text
                .parse()
                .map(|address: std::net::IpAddr| IpNet::from(address.to_canonical()));
            return text
                .parse::<IpNet>()
                .or(single)
                .map(|network| vec![network.trunc()])
                .map_err(|_| {
                    "write an address, a network like \"10.0.0.0/8\", \"loopback\" or \"private\""
                });
        }
    };
    Ok(named.into_iter().flatten().collect())
}

/// Faults of one event, by the names of its keys.
struct At<'a> {
    path: &'a str,
    faults: &'a mut Faults,
}

impl At<'_> {
    fn fault(&mut self, name: &str, value: &str, remedy: &str) {
        self.faults.text(&join(self.path, name), value, remedy);
    }

    fn id(&mut self, id: Option<&str>) -> Option<EventId> {
        let Some(text) = id else {
            let remedy = "give the event an id of 1 to 32 of a-z, 0-9 and -";
            self.faults.add(&join(self.path, "id"), "", remedy);
            return None;
        };
        let id = EventId::new(text);
        if let Err(error) = id {
            self.fault("id", text, &error.to_string());
        }
        id.ok()
    }

    /// Each text in its normal form, none twice.
    fn each(
        &mut self,
        name: &str,
        texts: &[String],
        normal: impl Fn(&str) -> Result<String, &'static str>,
    ) -> Vec<String> {
        let mut sound: Vec<String> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let at = format!("{name}[{index}]");
            match normal(text) {
                Ok(text) if sound.contains(&text) => {
                    self.fault(&at, &text, "stands here twice: remove one");
                }
                Ok(text) => sound.push(text),
                Err(remedy) => self.fault(&at, text, remedy),
            }
        }
        sound
    }

    fn hosts(&mut self, hosts: &[String]) -> Vec<String> {
        self.each("hosts", hosts, host::configured)
    }

    fn paths(&mut self, written: &[String]) -> Vec<String> {
        self.each("paths", written, paths::configured)
    }

    fn networks(&mut self, name: &str, texts: &[String]) -> Vec<IpNet> {
        let mut sound = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match networks(text) {
                Ok(networks) => sound.extend(networks),
                Err(remedy) => self.fault(&format!("{name}[{index}]"), text, remedy),
            }
        }
        sound
    }

    fn excludes(&mut self, rules: &[RawExclude]) -> Vec<Exclude> {
        let mut sound = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            let at = format!("exclude[{index}]");
            match rule {
                RawExclude::Path(path) => match excluded_path(path, true) {
                    Ok(path) => sound.push(Exclude::path(&path)),
                    Err(remedy) => self.fault(&at, path, remedy),
                },
                RawExclude::Rule(rule) => sound.extend(self.exclude(&at, rule)),
            }
        }
        sound
    }

    fn exclude(&mut self, at: &str, rule: &RawRule) -> Option<Exclude> {
        if rule.path.is_none() && rule.query.is_none() {
            let remedy = "name a path, a query parameter, or both";
            self.faults.add(&join(self.path, at), "", remedy);
            return None;
        }
        let alone = rule.query.is_none() && rule.methods.is_empty() && rule.from.is_empty();
        let mut sound = Exclude::default();
        if let Some(path) = &rule.path {
            match excluded_path(path, alone) {
                Ok(path) => sound.path = Some(path),
                Err(remedy) => self.fault(&format!("{at}.path"), path, remedy),
            }
        }
        if let Some(query) = &rule.query {
            if query.is_empty() || query.contains(['=', '&', '?', '#', '%', '+', ' ']) {
                let remedy = "write the name of one query parameter, without = & ? # % + or spaces";
                self.fault(&format!("{at}.query"), query, remedy);
            }
            sound.query = Some(query.clone());
        }
        sound.methods = self.each(&format!("{at}.methods"), &rule.methods, |method| {
            if !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                Ok(method.to_owned())
            } else {
                Err("write a method in capitals, like \"POST\"")
            }
        });
        sound.from = self.networks(&format!("{at}.from"), &rule.from);
        Some(sound)
    }

    fn success_url(&mut self, written: Option<&str>) -> Option<String> {
        let text = written.filter(|text| !text.is_empty())?;
        let plain = text.bytes().all(|b| b > b' ' && b != 0x7f && b != b'\\');
        let local = text.starts_with('/') && !text.starts_with("//");
        let whole = (text.starts_with("https://") || text.starts_with("http://"))
            && text
                .parse::<http::Uri>()
                .is_ok_and(|uri| uri.authority().is_some_and(|a| !a.as_str().contains('@')));
        if plain && (local || whole) {
            return Some(text.to_owned());
        }
        let remedy = "write a path like \"/done\" or a URL that begins with https:// or http://";
        self.fault("success_url", text, remedy);
        None
    }

    fn cookie(&mut self, raw: &RawCookie, hosts: &[String]) -> CookieSettings {
        let same_site = raw.same_site.unwrap_or_default();
        let secure = raw.secure.unwrap_or_default();
        if same_site == SameSite::None && secure == Secure::Never {
            let remedy = "browsers drop SameSite=None without Secure: \
                          leave cookie.secure at \"auto\", or write same_site = \"lax\"";
            self.fault("cookie.same_site", "none", remedy);
        }
        let written = raw.domain.as_deref().filter(|domain| !domain.is_empty());
        CookieSettings {
            domain: written.and_then(|text| self.domain(text, hosts)),
            same_site,
            secure,
        }
    }

    fn domain(&mut self, text: &str, hosts: &[String]) -> Option<String> {
        let domain = host::configured(text.strip_prefix('.').unwrap_or(text));
        let named = |domain: &String| {
            domain.contains('.')
                && !domain.starts_with('[')
                && domain.parse::<std::net::IpAddr>().is_err()
        };
        let Some(domain) = domain.ok().filter(named) else {
            let remedy = "write a domain like \"example.com\", no address and no single word";
            self.fault("cookie.domain", text, remedy);
            return None;
        };
        let outside = hosts.iter().find(|host| {
            host.strip_suffix(&domain)
                .is_none_or(|rest| !rest.is_empty() && !rest.ends_with('.'))
        });
        if let Some(host) = outside {
            let remedy = format!("browsers drop the cookie at host {host}, which is not within it");
            self.fault("cookie.domain", text, &remedy);
        }
        Some(domain)
    }

    fn bypass(&mut self, raw: &RawBypass) -> Bypass {
        let mut bypass = Bypass {
            addresses: self.networks(
                "bypass.addresses",
                raw.addresses.as_deref().unwrap_or_default(),
            ),
            secret: raw.secret.clone(),
            ..Bypass::default()
        };
        if let Some(header) = &raw.header {
            let taken = [
                "cookie",
                "authorization",
                "host",
                "connection",
                "content-length",
            ];
            let name = header.parse::<http::HeaderName>();
            if name.is_ok_and(|name| !taken.contains(&name.as_str())) {
                bypass.header.clone_from(header);
            } else {
                let remedy = "write the name of a header of its own, like \"Sumun-Bypass\"";
                self.fault("bypass.header", header, remedy);
            }
        }
        if let Some(secret) = &bypass.secret
            && secret.reveal().len() < BYPASS_SECRET_MIN
        {
            let remedy = format!("write at least {BYPASS_SECRET_MIN} characters");
            self.faults
                .add(&join(self.path, "bypass.secret"), "", remedy);
        }
        bypass
    }
}

/// The path of an exclusion. Alone, it must not exclude everything.
fn excluded_path(path: &str, alone: bool) -> Result<String, &'static str> {
    let path = paths::configured(path)?;
    if alone && path == "/" {
        return Err("this excludes every request; for that write mode = \"off\"");
    }
    Ok(path)
}
