//! The origins that a configuration names, as the fleet takes them.

use std::path::PathBuf;

use http::HeaderValue;
use tracing::{error, warn};

use super::RunError;
use crate::config::{Config, Origin, OriginHost};
use crate::origin::{HostHeader, OriginSettings, OriginTls, Trust};
use crate::origins::{Affinity, Check, Named, Plan};
use crate::room::health::Rules;
use crate::room::time::millis;

/// What plans are made with besides the file.
pub(super) struct Planner {
    /// What names origins in cookies.
    secrets: Vec<Vec<u8>>,
    /// TLS as it was last made ready, if an origin needs it.
    tls: Option<OriginTls>,
    /// `origin_tls.ca_file` and `verify` that it was made of.
    made_of: Option<(Option<PathBuf>, bool)>,
}

impl Planner {
    pub(super) fn new(secrets: Vec<Vec<u8>>) -> Self {
        Self {
            secrets,
            tls: None,
            made_of: None,
        }
    }

    /// The plan of a configuration.
    ///
    /// # Errors
    /// When an origin cannot be used, or nobody is trusted to be one.
    pub(super) fn plan(&mut self, config: &Config) -> Result<Plan, RunError> {
        let events = config.events.iter().zip(&config.event_origins);
        let with_own = events.filter(|(_, own)| !own.is_empty());
        let with_own: Vec<_> = with_own.collect();
        let mut all = config
            .origins
            .iter()
            .chain(with_own.iter().flat_map(|(_, own)| own.iter()));
        for warning in config.warnings() {
            warn!("{warning}");
        }
        if all.any(|origin| origin.tls) {
            self.secure(config)?;
        }
        let named = |list: &[Origin]| -> Result<Vec<Named>, RunError> {
            list.iter()
                .map(|origin| self.named(config, origin))
                .collect()
        };
        let mut events = Vec::new();
        for (event, own) in with_own {
            events.push((event.id.clone(), named(own)?));
        }
        Ok(Plan {
            origins: named(&config.origins)?,
            events,
            rules: rules(config),
            eject_share: config.origin_health.eject_share,
            eject_on_5xx: config.origin_health.eject_5xx,
            check: check(config),
            affinity: self.affinity(config),
        })
    }

    /// The plan of another configuration, with these secrets from now on.
    ///
    /// # Errors
    /// As [`Self::plan`]; then all is as it was.
    pub(super) fn replan(
        &mut self,
        secrets: Vec<Vec<u8>>,
        config: &Config,
    ) -> Result<Plan, RunError> {
        let mut next = Self {
            secrets,
            tls: self.tls.clone(),
            made_of: self.made_of.clone(),
        };
        let plan = next.plan(config)?;
        *self = next;
        Ok(plan)
    }

    /// Makes TLS ready anew. A file that is bad at the moment leaves it as it was.
    fn secure(&mut self, config: &Config) -> Result<(), RunError> {
        let settings = &config.origin_tls;
        let trust = match &settings.ca_file {
            _ if !settings.verify => Ok(Trust::Anybody),
            Some(file) => Trust::own(file)
                .map_err(|fault| format!("origin_tls.ca_file {}: {fault}", file.display())),
            None => Ok(Trust::Machine { extra: Vec::new() }),
        };
        let made_of = Some((settings.ca_file.clone(), settings.verify));
        match trust.and_then(OriginTls::new) {
            Ok(fresh) => {
                // One that believes the same is kept, with the sessions that it remembers.
                if self.tls.as_ref() != Some(&fresh) {
                    self.tls = Some(fresh);
                }
                self.made_of = made_of;
                Ok(())
            }
            // The same file, bad at the moment.
            Err(fault) if self.tls.is_some() && self.made_of == made_of => {
                error!(%fault, "the authority of the origins' certificates cannot be read; the one before it is believed on");
                Ok(())
            }
            Err(fault) => Err(RunError::Origin(fault)),
        }
    }

    fn named(&self, config: &Config, origin: &Origin) -> Result<Named, RunError> {
        let name = Some(config.origin_tls.server_name.as_str());
        let name = name.filter(|name| !name.is_empty());
        let url = origin.to_string();
        let mut settings = OriginSettings::with_tls(&url, self.tls.as_ref(), name)
            .map_err(|fault| RunError::Origin(fault.to_string()))?;
        settings.connect = config.timeouts.connect;
        settings.first_byte = config.timeouts.first_byte;
        settings.idle = config.timeouts.idle;
        settings.tunnel_idle = config.timeouts.tunnel_idle;
        settings.connections = config.origin_pool.connections;
        settings.connection_wait = config.origin_pool.connection_wait;
        settings.names_kept = config.origin_pool.dns_ttl;
        settings.http2 = config.origin_http2;
        settings.host_header = host_header(&config.origin_host)?;
        Ok(Named {
            name: format!("{}:{}", origin.host, origin.port),
            url,
            settings,
        })
    }

    fn affinity(&self, config: &Config) -> Option<Affinity> {
        let cookie = config.origin_pool.affinity_cookie.as_str();
        let secrets = self.secrets.iter().map(Vec::as_slice);
        (!cookie.is_empty()).then(|| Affinity::new(cookie, secrets))
    }
}

fn host_header(host: &OriginHost) -> Result<HostHeader, RunError> {
    Ok(match host {
        OriginHost::Preserve => HostHeader::Preserve,
        OriginHost::Origin => HostHeader::Origin,
        OriginHost::Named(name) => HostHeader::Name(
            HeaderValue::from_str(name)
                .map_err(|_| RunError::Origin(format!("origin_host {name:?} is no host")))?,
        ),
    })
}

fn rules(config: &Config) -> Rules {
    let (health, check) = (&config.origin_health, &config.origin_check);
    Rules {
        eject_after: health.eject_after,
        eject_ms: millis(health.eject_time),
        eject_max_ms: millis(health.eject_time_max),
        slow_start_ms: millis(health.slow_start),
        fall: check.fall,
        rise: check.rise,
    }
}

fn check(config: &Config) -> Option<Check> {
    let check = &config.origin_check;
    Some(Check {
        path: check.path.clone()?,
        interval: check.interval,
        timeout: check.timeout,
        statuses: check.status.clone(),
    })
}
