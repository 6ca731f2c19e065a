//! Which event a request belongs to.
//!
//! By host, then by path segments; the longest match wins. A path counts in
//! every reading that an origin may give it (`paths`): no spelling leaves an
//! event or slips into an exclusion.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    event::{EventSettings, Exclude, contains},
    paths::{Readings, covers, lies_below, readings},
};

/// What of a request decides its event.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host in normal form; `None` where none was named, or nothing that a
    /// host is written like.
    pub host: Option<&'a str>,
    /// The path as sent.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The visitor's address, behind trusted proxies.
    pub client: IpAddr,
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To an event.
    Matched {
        /// Its index in the list that the routes were made of.
        event: usize,
        /// An `exclude` of the event holds: forwarded, counted as load only.
        excluded: bool,
    },
    /// To none: forwarded.
    NoEvent,
    /// To a host that nobody named, while events name hosts: 421.
    UnknownHost,
    /// To different events, depending on who reads the path: 400.
    Ambiguous,
}

/// Two events that claim the same host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// Index of the first.
    pub first: usize,
    /// Index of the second.
    pub second: usize,
    /// The host in normal form; `None`: any.
    pub host: Option<String>,
    /// The path.
    pub path: String,
}

/// The paths of one host, longest first, and whose they are.
type Claims = Vec<(Vec<u8>, usize)>;

/// All events' hosts and paths, made for looking up.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    by_host: HashMap<String, Claims>,
    any_host: Claims,
    pass_hosts: HashSet<String>,
    events: Vec<Arc<EventSettings>>,
}

impl Routes {
    /// Takes settings whose hosts and paths are in normal form (as `resolve`
    /// makes them), and the hosts that pass without any event.
    #[must_use]
    pub fn new(events: &[Arc<EventSettings>], pass_hosts: &[String]) -> Self {
        let mut routes = Self {
            pass_hosts: pass_hosts.iter().cloned().collect(),
            events: events.to_vec(),
            ..Self::default()
        };
        for (index, event) in events.iter().enumerate() {
            let claims = || {
                let path = |path: &String| path.trim_end_matches('/').as_bytes().to_vec();
                event.paths.iter().map(move |text| (path(text), index))
            };
            if event.hosts.is_empty() {
                routes.any_host.extend(claims());
            }
            for host in &event.hosts {
                let at_host = routes.by_host.entry(host.clone()).or_default();
                at_host.extend(claims());
            }
        }
        for claims in routes.by_host.values_mut().chain([&mut routes.any_host]) {
            claims.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        routes
    }

    /// Where a request belongs. A plain path costs no allocation.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Route {
        let at_host = asked
            .host
            .and_then(|host| self.by_host.get(host))
            .map(Vec::as_slice);
        if at_host.is_none() {
            let passes = asked
                .host
                .is_some_and(|host| self.pass_hosts.contains(host));
            if passes {
                return Route::NoEvent;
            }
            if !self.by_host.is_empty() {
                return Route::UnknownHost;
            }
        }
        // `OPTIONS *` speaks to the whole server.
        let path = if asked.path.starts_with('/') {
            asked.path
        } else {
            "/"
        };
        match readings(path) {
            Readings::One(one) => self.settle(at_host, &[one.as_ref()], asked),
            Readings::Many(many) => self.settle(at_host, &many, asked),
            Readings::TooMany => Route::Ambiguous,
        }
    }

    /// The list that the routes were made of: [`Route::Matched`] gives an index into it.
    #[must_use]
    pub fn events(&self) -> &[Arc<EventSettings>] {
        &self.events
    }

    /// The path by which an event covers a request: the longest, for people.
    #[must_use]
    pub fn claim(&self, event: usize, asked: &Asked<'_>) -> Option<&str> {
        let paths = &self.events.get(event)?.paths;
        let all = all(asked.path);
        let claims = paths.iter().filter(|claim| {
            let claim = claim.as_bytes();
            all.iter().any(|path| covers(claim, path))
        });
        claims.max_by_key(|claim| claim.len()).map(String::as_str)
    }

    /// The first `exclude` of an event that holds for a request, for people.
    #[must_use]
    pub fn exclusion(&self, event: usize, asked: &Asked<'_>) -> Option<&Exclude> {
        let path = all(asked.path).into_iter().next()?;
        let mut rules = self.events.get(event)?.exclude.iter();
        rules.find(|rule| rule.holds(&path, asked))
    }

    /// One answer for all readings of a path.
    fn settle<P: AsRef<[u8]>>(
        &self,
        at_host: Option<&[(Vec<u8>, usize)]>,
        paths: &[P],
        asked: &Asked<'_>,
    ) -> Route {
        let mut found = None;
        for path in paths {
            let path = path.as_ref();
            let owner =
                owner(at_host.unwrap_or_default(), path).or_else(|| owner(&self.any_host, path));
            match (found, owner) {
                (Some(one), Some(other)) if one != other => return Route::Ambiguous,
                (None, Some(_)) => found = owner,
                _ => {}
            }
        }
        let Some(event) = found else {
            return Route::NoEvent;
        };
        let rules = self
            .events
            .get(event)
            .map_or(&[][..], |event| event.exclude.as_slice());
        let excluded = paths
            .iter()
            .all(|path| rules.iter().any(|rule| rule.holds(path.as_ref(), asked)));
        Route::Matched { event, excluded }
    }
}

/// The paths that two events claim at the same host, each once.
#[must_use]
pub fn clashes(events: &[Arc<EventSettings>]) -> Vec<Clash> {
    let mut owners: HashMap<(Option<&str>, &str), usize> = HashMap::new();
    let mut found = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let any = event.hosts.is_empty().then_some(None);
        let hosts = event.hosts.iter().map(|host| Some(host.as_str()));
        for host in hosts.chain(any) {
            for path in &event.paths {
                let first = *owners
                    .entry((host, path.trim_end_matches('/')))
                    .or_insert(index);
                if first != index {
                    found.push(Clash {
                        first,
                        second: index,
                        host: host.map(str::to_owned),
                        path: path.clone(),
                    });
                }
            }
        }
    }
    found
}

impl Exclude {
    /// Whether all conditions of the rule hold for one reading of the path.
    fn holds(&self, path: &[u8], asked: &Asked<'_>) -> bool {
        let by_path = self
            .path
            .as_ref()
            .is_none_or(|prefix| lies_below(prefix.as_bytes(), path));
        let by_query = self
            .query
            .as_ref()
            .is_none_or(|name| has_parameter(asked.query.unwrap_or_default(), name));
        let by_method =
            self.methods.is_empty() || self.methods.iter().any(|method| method == asked.method);
        let by_client = self.from.is_empty() || contains(&self.from, asked.client);
        by_path && by_query && by_method && by_client
    }
}

/// Every reading of a path; none where there are too many.
fn all(path: &str) -> Vec<Vec<u8>> {
    match readings(path) {
        Readings::One(one) => vec![one.into_owned()],
        Readings::Many(many) => many,
        Readings::TooMany => Vec::new(),
    }
}

/// The event of the longest claim that covers the path.
fn owner(claims: &[(Vec<u8>, usize)], path: &[u8]) -> Option<usize> {
    claims
        .iter()
        .find(|(claim, _)| covers(claim, path))
        .map(|(_, event)| *event)
}

/// Whether the query has a parameter of exactly this name. Other spellings
/// of it do not count: an exclusion must not be guessed into being.
fn has_parameter(query: &str, name: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::event::EventId;
    use crate::room::host;

    fn event(id: &str, hosts: &[&str], paths: &[&str]) -> EventSettings {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        EventSettings {
            hosts: own(hosts),
            paths: own(paths),
            exclude: Vec::new(),
            ..EventSettings::new(EventId::new(id).unwrap())
        }
    }

    fn routes(events: Vec<EventSettings>) -> Routes {
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        Routes::new(&events, &["static.example.com".to_owned()])
    }

    fn ask<'a>(host: &'a str, target: &'a str) -> Asked<'a> {
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        Asked {
            host: host::normal(host).map(|host| &*host.into_owned().leak()),
            path,
            query,
            method: "GET",
            client: IpAddr::from([203, 0, 113, 7]),
        }
    }

    fn at(event: usize) -> Route {
        Route::Matched {
            event,
            excluded: false,
        }
    }

    fn free(event: usize) -> Route {
        Route::Matched {
            event,
            excluded: true,
        }
    }

    #[test]
    fn the_longest_path_wins_by_segment() {
        let routes = routes(vec![
            event("all", &[], &["/"]),
            event("sale", &[], &["/sale"]),
        ]);
        for (path, index) in [("/", 0), ("/sales", 0), ("/sale", 1), ("/sale/a", 1)] {
            assert_eq!(routes.find(&ask("x", path)), at(index), "{path}");
        }
        assert_eq!(routes.find(&ask("x", "*")), at(0));
    }

    #[test]
    fn an_event_that_names_its_host_goes_before_one_for_any() {
        let routes = routes(vec![
            event("any", &[], &["/", "/deep/path"]),
            event("shop", &["shop.example.com"], &["/deep"]),
        ]);
        let find = |host, path| routes.find(&ask(host, path));
        assert_eq!(find("shop.example.com", "/deep/path"), at(1));
        assert_eq!(find("SHOP.example.com.:443", "/deep"), at(1));
        assert_eq!(find("shop.example.com", "/"), at(0));
        assert_eq!(find("static.example.com", "/"), Route::NoEvent);
        assert_eq!(find("other.example.com", "/"), Route::UnknownHost);
        assert_eq!(find("no host", "/"), Route::UnknownHost);
    }

    #[test]
    fn without_named_hosts_every_host_is_known() {
        let routes = routes(vec![event("a", &[], &["/a"])]);
        assert_eq!(routes.find(&ask("anything", "/a")), at(0));
        assert_eq!(routes.find(&ask("anything", "/b")), Route::NoEvent);
        assert_eq!(routes.find(&ask("", "/a")), at(0));
    }

    #[test]
    fn an_event_without_paths_covers_no_request() {
        let routes = routes(vec![event("a", &[], &[])]);
        assert_eq!(routes.find(&ask("x", "/")), Route::NoEvent);
    }

    #[test]
    fn a_spelling_of_an_events_path_belongs_to_the_event() {
        let routes = routes(vec![event("sale", &[], &["/sale"])]);
        for path in [
            "/%73ale",
            "//sale",
            "/x/../sale",
            "/x/%2e%2e/sale",
            "/x/..%2fsale",
            "/sale;a=b",
            "/sale%2Fx",
            "/%2Fsale",
            "/x\\..\\sale",
            "/%2573ale",
            "/x/%c0%ae%c0%ae/sale",
            "/sale/../other",
        ] {
            assert_eq!(routes.find(&ask("x", path)), at(0), "{path}");
        }
    }

    #[test]
    fn readings_that_belong_to_different_events_are_refused() {
        let routes = routes(vec![
            event("all", &[], &["/"]),
            event("sale", &[], &["/sale"]),
        ]);
        for path in [
            "/x/%2e%2e/sale",
            "/sale/../x",
            "/sale%2fx",
            "//sale",
            "/x/..;/sale",
        ] {
            assert_eq!(routes.find(&ask("x", path)), Route::Ambiguous, "{path}");
        }
        assert_eq!(
            routes.find(&ask("x", "/%73ale")),
            at(1),
            "encoded letters are equal"
        );
    }

    #[test]
    fn an_exclusion_holds_only_in_every_reading() {
        let mut all = event("all", &[], &["/"]);
        all.exclude = vec![Exclude::path("/assets/"), Exclude::path("/robots.txt")];
        let routes = routes(vec![all]);
        for path in [
            "/assets/x",
            "/assets/a%20b",
            "/robots.txt",
            "/assets/x/../y",
            "/assets//x",
        ] {
            assert_eq!(routes.find(&ask("x", path)), free(0), "{path}");
        }
        for path in [
            "/assets",
            "/assets/../x",
            "/assets/%2e%2e/secret",
            "/assets/..%2fx",
            "/assets%2fx",
            "/assets/..;/x",
            "/assets\\x",
            "/assets/%252e%252e/x",
            "/robots.txt2",
            "//assets/x",
            "/assets/..%5cx",
            "/assets/%c0%ae%c0%ae/x",
            "/assets/%u002e%u002e/x",
        ] {
            assert_eq!(routes.find(&ask("x", path)), at(0), "{path}");
        }
    }

    #[test]
    fn an_exclusion_with_conditions_needs_all_of_them() {
        let mut all = event("all", &[], &["/"]);
        all.exclude = vec![
            Exclude {
                path: Some("/pay/notify".to_owned()),
                methods: vec!["POST".to_owned()],
                from: vec!["203.0.113.0/24".parse().unwrap()],
                ..Exclude::default()
            },
            Exclude {
                query: Some("wc-api".to_owned()),
                ..Exclude::default()
            },
        ];
        let routes = routes(vec![all]);
        let post = Asked {
            method: "POST",
            ..ask("x", "/pay/notify")
        };
        let stranger = Asked {
            client: IpAddr::from([198, 51, 100, 1]),
            ..post
        };
        assert_eq!(routes.find(&post), free(0));
        assert_eq!(routes.find(&stranger), at(0));
        assert_eq!(routes.find(&ask("x", "/pay/notify")), at(0));
        assert_eq!(routes.find(&ask("x", "/?a=1&wc-api=x")), free(0));
        assert_eq!(routes.find(&ask("x", "/?wc-api")), free(0));
        for other in ["/?wc-apix=1", "/?a=wc-api", "/?wc%2dapi=1", "/wc-api"] {
            assert_eq!(routes.find(&ask("x", other)), at(0), "{other}");
        }
    }

    #[test]
    fn two_events_with_one_path_are_noticed() {
        let events: Vec<_> = [
            event("a", &[], &["/", "/x"]),
            event("b", &["h"], &["/"]),
            event("c", &["h", "i"], &["/y", "/"]),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let found = clashes(&events);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].first, found[0].second), (1, 2));
        assert_eq!(found[0].host.as_deref(), Some("h"));
    }

    /// One way to write a byte, as a client may.
    fn spelt(byte: u8, way: u8) -> String {
        match way % 6 {
            0 => format!("%{byte:02x}"),
            1 => format!("%{byte:02X}"),
            2 => format!("%25{byte:02x}"),
            3 => format!("%u00{byte:02x}"),
            _ => char::from(byte).to_string(),
        }
    }

    /// A detour that leads back to where it began.
    fn detour(way: u8) -> &'static str {
        match way % 8 {
            0 => "/",
            1 => "/.",
            2 => "/x/..",
            3 => "/x/%2e%2e",
            4 => "/x/..;v=1",
            5 => "/%2e",
            6 => "/x/%c0%ae%c0%ae",
            _ => "",
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Promise: no spelling walks around the gate.
        #[test]
        fn no_spelling_of_a_covered_path_leaves_the_event(
            ways in prop::collection::vec(any::<u8>(), 9),
            detours in prop::collection::vec(any::<u8>(), 2),
            slash in prop::sample::select(vec!["/", "//", "/./", "\\", "%2f", "%5c"]),
        ) {
            let letters: String = b"sale".iter().zip(&ways).map(|(b, w)| spelt(*b, *w)).collect();
            let below: String = b"item".iter().zip(&ways[4..]).map(|(b, w)| spelt(*b, *w)).collect();
            let (first, second) = (detour(detours[0]), detour(detours[1]));
            let path = format!("{first}{second}/{letters}{slash}{below}");
            let routes = routes(vec![event("sale", &[], &["/sale"])]);
            let found = routes.find(&ask("h", &path));
            prop_assert!(found == at(0) || found == Route::Ambiguous, "{path} {found:?}");
        }

        /// No spelling of something else slips into an exclusion.
        #[test]
        fn no_spelling_of_a_path_outside_is_excluded(
            ways in prop::collection::vec(any::<u8>(), 6),
            up in prop::sample::select(vec!["..", "%2e%2e", ".%2e", "%252e%252e", "..;a", "%c0%ae%c0%ae"]),
            slash in prop::sample::select(vec!["/", "//", "\\", "%2f", "%5c", "%252f"]),
        ) {
            let name: String = b"secret".iter().zip(&ways).map(|(b, w)| spelt(*b, *w)).collect();
            let path = format!("/assets{slash}{up}{slash}{name}");
            let mut all = event("all", &[], &["/"]);
            all.exclude = vec![Exclude::path("/assets/")];
            let found = routes(vec![all]).find(&ask("h", &path));
            prop_assert!(found == at(0) || found == Route::Ambiguous, "{path} {found:?}");
        }

        #[test]
        fn any_target_finds_some_route(host in ".{0,40}", path in ".{0,80}") {
            let routes = routes(vec![event("a", &["h"], &["/a"]), event("b", &[], &["/"])]);
            let _ = routes.find(&ask(&host, &path));
        }
    }
}
