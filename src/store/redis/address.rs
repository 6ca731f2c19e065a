//! Where the shared store is: the forms of `store.url`, read once.
//!
//! One server, the sentinels that know which server is the primary, or some
//! nodes of a cluster. Several hosts are separated by commas, which no URL
//! parser knows, so each host is read as a URL of its own.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, TlsCertificates, TlsMode,
};
use url::Url;

use super::connection::{CONNECT, Way};

/// How often a command is sent again inside a cluster before its caller hears of it.
const CLUSTER_RETRIES: u32 = 3;

/// A shared store's address. It holds passwords, and is not shown.
#[derive(Clone)]
pub struct Address {
    form: Form,
    hosts: Vec<(String, u16)>,
    tls: bool,
    login: Login,
    database: i64,
}

#[derive(Clone)]
enum Form {
    Single,
    /// A server on this machine, by its socket.
    Socket(Box<ConnectionInfo>),
    Sentinel {
        service: String,
        login: Login,
    },
    Cluster,
}

/// A user's name and password; neither has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Login {
    user: Option<String>,
    password: Option<String>,
}

const SINGLE: &str =
    "write redis://user:password@host:port/database; all but the host may be missing";
const SOCKET: &str =
    "write redis+unix:///path/of/the/socket?db=0&user=…&pass=…; all but the path may be missing";
const SENTINEL: &str = "write redis-sentinel://user:password@host:26379,host:26379/name-of-the-primary/database\
     ?sentinel_username=…&sentinel_password=…; a host and the name must be there";
const CLUSTER: &str = "write redis-cluster://user:password@host:port,host:port; a host must be there, \
     and a cluster has no databases";

impl Address {
    /// Reads `redis://`, `redis-sentinel://`, `redis-cluster://`, the same with
    /// `rediss` for TLS, and `redis+unix://` for a socket.
    ///
    /// # Errors
    /// What to write instead. It never repeats the text, which may hold passwords.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        if scheme == "redis+unix" {
            let info = text.into_connection_info().map_err(|_| SOCKET)?;
            return Ok(Self {
                form: Form::Socket(Box::new(info)),
                hosts: Vec::new(),
                tls: false,
                login: Login::default(),
                database: 0,
            });
        }
        let (kind, tls) = match scheme.strip_prefix("rediss") {
            Some(kind) => (kind, true),
            None => (scheme.strip_prefix("redis").unwrap_or("?"), false),
        };
        let (remedy, port) = match kind {
            "" => (SINGLE, 6379),
            "-sentinel" => (SENTINEL, 26_379),
            "-cluster" => (CLUSTER, 6379),
            _ => {
                return Err(
                    "write \"memory:\", redis://…, redis-sentinel://… or redis-cluster://… \
                     (rediss for TLS)",
                );
            }
        };
        let parts = Parts::of(rest).ok_or(remedy)?;
        let hosts = parts.hosts(port).ok_or(remedy)?;
        let (form, database) = match kind {
            "-sentinel" => {
                let (service, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
                let service = decoded(service).filter(|name| !name.is_empty());
                let form = Form::Sentinel {
                    service: service.ok_or(remedy)?,
                    login: parts.sentinel_login().ok_or(remedy)?,
                };
                (form, database)
            }
            "-cluster" => (Form::Cluster, parts.path),
            _ => (Form::Single, parts.path),
        };
        let is_sentinel = matches!(form, Form::Sentinel { .. });
        let one_too_many = matches!(form, Form::Single) && hosts.len() != 1
            || !is_sentinel && !parts.query.is_empty()
            || matches!(form, Form::Cluster) && !database.is_empty();
        let database = match database {
            "" => 0,
            digits => i64::from(digits.parse::<u16>().map_err(|_| remedy)?),
        };
        if one_too_many {
            return Err(remedy);
        }
        Ok(Self {
            form,
            hosts,
            tls,
            login: parts.login().ok_or(remedy)?,
            database,
        })
    }

    /// Which store this is, without secrets: the same text for the same store,
    /// in whatever order its hosts are named.
    #[must_use]
    pub fn name(&self) -> String {
        let hosts = self.hosts.iter();
        let mut hosts: Vec<String> = hosts.map(|(host, port)| format!("{host}:{port}")).collect();
        hosts.sort();
        let hosts = hosts.join(",");
        let database = self.database;
        match &self.form {
            Form::Single => format!("single {hosts} {database}"),
            Form::Socket(info) => format!("single {} {}", info.addr(), info.redis_settings().db()),
            Form::Sentinel { service, .. } => format!("sentinel {hosts} {service} {database}"),
            Form::Cluster => format!("cluster {hosts}"),
        }
    }

    /// The client that opens connections there.
    pub(super) fn way(&self, certificates: Option<TlsCertificates>) -> RedisResult<Way> {
        match &self.form {
            Form::Single => {
                let nodes = self.nodes().into_iter().next();
                let node = nodes.ok_or((ErrorKind::InvalidClientConfig, "no host is named"))?;
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(node, certificates),
                    None => Client::open(node),
                };
                client.map(Box::new).map(Way::Single)
            }
            Form::Socket(info) => Client::open(info.as_ref().clone())
                .map(Box::new)
                .map(Way::Single),
            Form::Sentinel { service, login } => {
                let sentinels = self.sentinels(service, login, certificates)?;
                Ok(Way::Sentinel(Arc::new(tokio::sync::Mutex::new(sentinels))))
            }
            Form::Cluster => {
                let mut builder = ClusterClient::builder(self.nodes())
                    .retries(CLUSTER_RETRIES)
                    .connection_timeout(CONNECT);
                if self.tls {
                    builder = builder.tls(TlsMode::Secure);
                }
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                builder.build().map(Box::new).map(Way::Cluster)
            }
        }
    }

    fn addresses(&self) -> Vec<ConnectionAddr> {
        let each = self.hosts.iter().cloned().map(|(host, port)| {
            if self.tls {
                ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                }
            } else {
                ConnectionAddr::Tcp(host, port)
            }
        });
        each.collect()
    }

    fn nodes(&self) -> Vec<ConnectionInfo> {
        let mut info = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.login.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.login.password {
            info = info.set_password(password);
        }
        self.addresses()
            .into_iter()
            .filter_map(|address| address.into_connection_info().ok())
            .map(|node| node.set_redis_settings(info.clone()))
            .collect()
    }

    fn sentinels(
        &self,
        service: &str,
        login: &Login,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<SentinelClient> {
        let mut builder =
            SentinelClientBuilder::new(self.addresses(), service, SentinelServerType::Master)?
                .set_client_to_redis_db(self.database);
        if let Some(user) = &self.login.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &login.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build()
    }
}

/// What stands behind `://`.
struct Parts<'a> {
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Option<Self> {
        if rest.contains('#') {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        Some(Self {
            login,
            hosts,
            path,
            query,
        })
    }

    /// Each host with its port.
    fn hosts(&self, usual_port: u16) -> Option<Vec<(String, u16)>> {
        let host = |text: &str| {
            let url = Url::parse(&format!("redis://{text}")).ok()?;
            let host = url.host_str().filter(|host| !host.is_empty())?;
            let plain = url.username().is_empty() && matches!(url.path(), "" | "/");
            let host = host.trim_matches(['[', ']']).to_owned();
            plain.then(|| (host, url.port().unwrap_or(usual_port)))
        };
        self.hosts.split(',').map(host).collect()
    }

    fn login(&self) -> Option<Login> {
        let (user, password) = match self.login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (self.login, None),
        };
        let password = match password {
            Some(password) => Some(decoded(password)?),
            None => None,
        };
        Some(Login {
            user: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password,
        })
    }

    fn sentinel_login(&self) -> Option<Login> {
        let mut login = Login::default();
        for (name, value) in url::form_urlencoded::parse(self.query.as_bytes()) {
            let of = match name.as_ref() {
                "sentinel_username" => &mut login.user,
                "sentinel_password" => &mut login.password,
                _ => return None,
            };
            *of = Some(value.into_owned());
        }
        Some(login)
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, name) in [
            ("redis://127.0.0.1", "single 127.0.0.1:6379 0"),
            ("redis://[::1]:7000/3", "single ::1:7000 3"),
            (
                "rediss://user:p%40ss@cache.example",
                "single cache.example:6379 0",
            ),
            (
                "redis-sentinel://c,b:5000,a/shop",
                "sentinel a:26379,b:5000,c:26379 shop 0",
            ),
            (
                "redis-sentinel://:pw@a/shop/2?sentinel_password=x",
                "sentinel a:26379 shop 2",
            ),
            (
                "redis+unix:///run/redis.sock?db=2&pass=x",
                "single /run/redis.sock 2",
            ),
            ("redis-cluster://u:p@a:1,b:2", "cluster a:1,b:2"),
            ("rediss-cluster://a/", "cluster a:6379"),
        ] {
            let address = Address::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(address.name(), name, "{text}");
            assert_eq!(address.tls, text.starts_with("rediss"));
        }
    }

    #[test]
    fn logins_are_decoded_and_kept_apart() {
        let text =
            "redis-sentinel://us%65r:p%40%3a@a/shop?sentinel_username=s&sentinel_password=t%26";
        let address = Address::parse(text).unwrap();
        let login = |user: &str, password: &str| Login {
            user: Some(user.into()),
            password: Some(password.into()),
        };
        assert_eq!(address.login, login("user", "p@:"));
        let Form::Sentinel { login: theirs, .. } = &address.form else {
            panic!("a sentinel's address")
        };
        assert_eq!(*theirs, login("s", "t&"));
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        for text in [
            "",
            "redis",
            "redis://",
            "redis://a,b",
            "redis://a/x",
            "redis://a/0?x=1",
            "redis://a/0#x",
            "redis://a:99999",
            "redis-sentinel://a",
            "redis-sentinel://a/",
            "redis-sentinel://a/shop/x",
            "redis-sentinel://a/shop?password=x",
            "redis-cluster://",
            "redis-cluster://a,,b",
            "redis-cluster://a/1",
            "http://a",
            "redis-cloud://a",
            "redis://%ff@a",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
