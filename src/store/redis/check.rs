//! Asks the server what it is: too old a version is a fault, a policy that
//! may evict our keys a warning.

use redis::Value;

use super::reply::Fields;
use super::{RedisStore, StoreError};

/// The oldest server that the scripts run on.
const OLDEST: (u64, u64) = (7, 0);

/// The policy that throws nothing away.
const SAFE: &str = "noeviction";

/// What was found out about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The version that it gives.
    pub version: String,
    /// What it does when memory is full; `None` when it would not tell.
    pub eviction: Option<String>,
    /// What should be changed there, with the remedy.
    pub warnings: Vec<String>,
}

impl RedisStore {
    /// Asks for the server's version and its policy when memory is full.
    ///
    /// # Errors
    /// When the server cannot be asked or is older than 7.0.
    pub async fn check(&self) -> Result<Checked, StoreError> {
        let connection = &self.inner.connection;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let mut oldest: Option<String> = None;
        for reply in of_each_node(connection.send(&info).await?) {
            let text = Fields::new("INFO server", Value::Array(vec![reply]))?.text()?;
            let version = version(&text)?;
            if oldest
                .as_ref()
                .is_none_or(|oldest| numbers(&version) < numbers(oldest))
            {
                oldest = Some(version);
            }
        }
        let version = oldest.ok_or_else(|| {
            StoreError::Unavailable("no server of the cluster answers".to_owned())
        })?;
        let mut policy = redis::cmd("CONFIG");
        policy.arg("GET").arg("maxmemory-policy");
        let eviction = match connection.send(&policy).await {
            Ok(reply) => {
                let mut policies = Vec::new();
                for reply in of_each_node(reply) {
                    policies.extend(Fields::new("CONFIG GET", reply)?.all(Fields::text)?.pop());
                }
                let evicting = policies.iter().find(|policy| *policy != SAFE).cloned();
                evicting.or(policies.pop())
            }
            // Not every user may ask, and a hosted server may not know it.
            Err(StoreError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        let mut warnings = Vec::new();
        if let Some(policy) = eviction.as_deref().filter(|policy| *policy != SAFE) {
            warnings.push(format!(
                "the store's maxmemory-policy is {policy}: it may throw away places in line when \
                 its memory is full; set `maxmemory-policy noeviction`"
            ));
        }
        for warning in &warnings {
            tracing::warn!(%warning, "the store may lose data");
        }
        Ok(Checked {
            version,
            eviction,
            warnings,
        })
    }
}

/// The server's version, if it is new enough. Valkey gives the version of
/// Redis that it is compatible with under the same name.
fn version(info: &str) -> Result<String, StoreError> {
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .map(str::trim)
        .ok_or_else(|| StoreError::Refused("the server does not tell its version".to_owned()))?;
    if numbers(version) < OLDEST {
        return Err(StoreError::Refused(format!(
            "the server's version is {version}, but 7.0 or newer is needed (Redis or Valkey)"
        )));
    }
    Ok(version.to_owned())
}

fn numbers(version: &str) -> (u64, u64) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// A cluster's client asks every node and gives each one's answer by its
/// address; one server's is its answer.
fn of_each_node(reply: Value) -> Vec<Value> {
    match reply {
        Value::Map(nodes) => nodes.into_iter().map(|(_, answer)| answer).collect(),
        one => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_older_than_seven_is_a_fault_that_names_both_versions() {
        let fault = version("# Server\r\nredis_version:6.2.14\r\n").unwrap_err();
        assert!(fault.to_string().contains("6.2.14"));
        assert!(fault.to_string().contains("7.0"));
        assert_eq!(version("redis_version:7.0.15\r\n").unwrap(), "7.0.15");
        assert_eq!(version("redis_version:10.2.1\r\n").unwrap(), "10.2.1");
    }
}
