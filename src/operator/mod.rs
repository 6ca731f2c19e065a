//! The operator's hands at a terminal: orders to a gateway that runs, and
//! questions how it stands, by its admin door (docs/operations.md).

#![expect(
    clippy::indexing_slicing,
    reason = "JSON that is looked into by a name is null where there is none"
)]

mod confirm;
mod door;
mod picture;
pub mod top;
mod trouble;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use door::Door;
pub use trouble::Trouble;

/// The word that takes an order back: the setting is what the file says again.
const BY_FILE: &str = "file";

/// What an operator orders or asks.
#[derive(Subcommand)]
pub enum Order {
    /// How all events stand, or one of them in full
    Status {
        /// The event; all of them otherwise
        event: Option<String>,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
    /// Order how many may be inside at once
    Limit {
        /// The event
        event: String,
        /// Most sessions at once; `file`: as the file says again
        count: String,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
    /// Order how newcomers are met
    Mode {
        /// The event
        event: String,
        /// auto, queue, pause, off, shadow or closed; `file`: as the file says again
        mode: String,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
    /// Say something on every waiting page, from the next poll on
    Message {
        /// The event
        event: String,
        /// At most 500 characters, one line
        #[arg(required_unless_present_any = ["clear", "file"])]
        text: Option<String>,
        /// Say nothing
        #[arg(long, conflicts_with_all = ["text", "file"])]
        clear: bool,
        /// Say what the file says
        #[arg(long, conflicts_with = "text")]
        file: bool,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
    /// What a request would meet now, and why; nothing is counted by asking
    Explain {
        /// A URL, or a path; a browser's visit, unless headers say otherwise
        url: String,
        /// Its method
        #[arg(long, default_value = "GET")]
        method: String,
        /// A header of it, as often as need be
        #[arg(long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
        /// The client's address, for rules that go by it
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
    /// Make every place in line void; sessions stay
    Reset {
        /// The event
        event: String,
        /// Do not ask whether it is meant
        #[arg(long)]
        yes: bool,
        /// Of which gateway
        #[command(flatten)]
        at: At,
    },
}

/// Where the gateway is.
#[derive(Args, Default)]
pub struct Where {
    /// The file with the admin door's address and token; ./gateway.toml, else
    /// /etc/sumun/gateway.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The admin door, wherever the file says it is
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<String>,
}

/// Where the gateway is, and how its answer is shown.
#[derive(Args)]
pub struct At {
    #[command(flatten)]
    gateway: Where,
    /// Show the answer as it came, in JSON
    #[arg(long)]
    json: bool,
}

/// Gives an order or asks a question; what is to be shown for it.
///
/// # Errors
/// When no gateway answers, or it refuses.
pub async fn give(order: &Order) -> Result<String, Trouble> {
    match order {
        Order::Status { event, at } => status(&at.door()?, event.as_deref(), at.json).await,
        Order::Limit { event, count, at } => {
            let count = wanted(count, |count| {
                count.parse::<u64>().map(Value::from).map_err(|_| {
                    Trouble::Usage(format!(
                        "the limit \"{count}\" is no count: write a whole number, or {BY_FILE}"
                    ))
                })
            })?;
            change(at, event, "limit", "limitCnt", count).await
        }
        Order::Mode { event, mode, at } => {
            let mode = wanted(mode, |mode| Ok(mode.into()))?;
            change(at, event, "mode", "mode", mode).await
        }
        Order::Message {
            event,
            text,
            clear,
            file,
            at,
        } => {
            let text = match text {
                _ if *file => Value::Null,
                _ if *clear => "".into(),
                text => text.clone().into(),
            };
            change(at, event, "message", "message", text).await
        }
        Order::Explain {
            url,
            method,
            headers,
            address,
            at,
        } => {
            let question = json!({
                "url": url, "method": method, "address": address, "headers": lines(headers)?,
            });
            let said = at.door()?;
            let said = said.send(Method::POST, "/v1/explain", &question).await?;
            Ok(if at.json {
                pretty(&said)
            } else {
                picture::explained(method, url, &said)
            })
        }
        Order::Reset { event, yes, at } => reset(at, event, *yes).await,
    }
}

impl Where {
    fn door(&self) -> Result<Door, Trouble> {
        Door::of(self.config.as_deref(), self.admin.as_deref())
    }
}

impl At {
    fn door(&self) -> Result<Door, Trouble> {
        self.gateway.door()
    }
}

/// What is wanted of a setting: a value, or none, which is the file's again.
fn wanted(
    word: &str,
    value: impl FnOnce(&str) -> Result<Value, Trouble>,
) -> Result<Value, Trouble> {
    if word == BY_FILE {
        return Ok(Value::Null);
    }
    value(word)
}

async fn status(door: &Door, event: Option<&str>, as_json: bool) -> Result<String, Trouble> {
    if let Some(event) = event {
        let said = door.ask(&path(event, "/status")).await?;
        return Ok(if as_json {
            pretty(&said)
        } else {
            picture::whole(&said)
        });
    }
    let mut all = Vec::new();
    for event in door.events().await? {
        // One that was deleted since is no more of them.
        match door.ask(&path(&event, "/status")).await {
            Err(Trouble::NoEvent { .. }) => {}
            said => all.push(said?),
        }
    }
    Ok(if as_json {
        pretty(&Value::from(all))
    } else {
        picture::list(&all)
    })
}

/// Overrides a setting of an event.
async fn change(
    at: &At,
    event: &str,
    what: &str,
    field: &str,
    value: Value,
) -> Result<String, Trouble> {
    let door = at.door()?;
    let by_file = value.is_null();
    let said = door
        .send(Method::PATCH, &path(event, ""), &json!({ field: value }))
        .await?;
    if at.json {
        return Ok(pretty(&said));
    }
    let now = match said.get(field) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
    };
    let whose = if by_file { ", as the file says" } else { "" };
    Ok(format!("{event}: {what} {now}{whose}"))
}

async fn reset(at: &At, event: &str, yes: bool) -> Result<String, Trouble> {
    let door = at.door()?;
    if !yes {
        let status = door.ask(&path(event, "/status")).await?;
        confirm::reset(event, status["counts"]["waiting"].as_u64())?;
    }
    let body = json!({ "confirm": event });
    let said = door
        .send(Method::POST, &path(event, "/reset"), &body)
        .await?;
    if at.json {
        return Ok(pretty(&said));
    }
    let generation = &said["generation"];
    Ok(format!(
        "{event}: every place in line is void, generation {generation}; sessions stay"
    ))
}

/// Headers by their names; those that a browser sends with a visit, where none are given.
fn lines(headers: &[String]) -> Result<Value, Trouble> {
    if headers.is_empty() {
        return Ok(json!({ "Accept": "text/html" }));
    }
    let mut lines = serde_json::Map::new();
    for line in headers {
        let Some((name, value)) = line.split_once(':') else {
            let line = line.escape_debug();
            return Err(Trouble::Usage(format!(
                "--header \"{line}\" has no colon: write it like \"Accept: text/html\""
            )));
        };
        lines.insert(name.trim().to_owned(), value.trim().into());
    }
    Ok(lines.into())
}

/// The path of a call about an event.
fn path(event: &str, call: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let event = utf8_percent_encode(event, NON_ALPHANUMERIC);
    format!("/v1/events/{event}{call}")
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}
