//! The shared store's state in the form that backends are compared in: read
//! key by key with plain commands, not atomically, for tests only.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use super::keys::Keys;
use super::reply::Fields;
use super::{RedisStore, StoreError};
use crate::room::event::EventId;
use crate::room::pages::Bits;
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::dump::{Dump, Gateway, Named};

type Pages = BTreeMap<u64, (u64, [Bits; 2])>;

impl RedisStore {
    /// An event's whole state; `None` when it is not known.
    ///
    /// # Errors
    /// When the server cannot be asked or its data is damaged.
    pub async fn dump(&self, event: &EventId) -> Result<Option<Dump>, StoreError> {
        let keys = Keys::new(&self.inner.prefix, event);
        let meta = keys.key("meta");
        let pairs = self.read("HGETALL", &meta, &[]).await?;
        if pairs.is_over() {
            return Ok(None);
        }
        let raw: BTreeMap<String, String> = self
            .read("HGETALL", &meta, &[])
            .await?
            .all(|fields| Ok((fields.text()?, fields.text()?)))?
            .into_iter()
            .collect();
        let life =
            [raw.get("born"), raw.get("resets")].map(|text| text.cloned().unwrap_or_default());
        Ok(Some(Dump {
            meta: pairs.meta()?,
            tally: self
                .read("HGETALL", &keys.key("tally"), &[])
                .await?
                .tally()?,
            live: self.windows(&keys, "pages", 0).await?,
            fresh: self.windows(&keys, "fresh_pages", 2).await?,
            spent: self.spent(&keys).await?,
            active: self.sessions(&keys.key("active")).await?,
            offers: self.offers(&keys).await?,
            ended: self.sessions(&keys.key("ended")).await?,
            unproven: self.sessions(&keys.key("unproven")).await?,
            ids: self.ids(&keys, &life).await?,
            density: self
                .read("HGETALL", &keys.key("density"), &[])
                .await?
                .all(|fields| Ok((fields.whole()?, fields.density()?)))?
                .into_iter()
                .collect(),
            gateways: self.gateways(&keys.key("gateways")).await?,
        }))
    }

    async fn read(&self, command: &str, key: &str, rest: &[&str]) -> Result<Fields, StoreError> {
        let mut command = redis::cmd(command);
        command.arg(key).arg(rest);
        let reply = self.inner.connection.send(&command).await?;
        match reply {
            list @ (Value::Array(_) | Value::Map(_) | Value::Set(_)) => Fields::new(key, list),
            one => Fields::new(key, Value::Array(vec![one])),
        }
    }

    async fn bits(&self, key: &str) -> Result<Bits, StoreError> {
        let bytes = self.read("GET", key, &[]).await?.bytes()?;
        Ok(Bits::from_bytes(&bytes))
    }

    async fn windows(&self, keys: &Keys, index: &str, part: usize) -> Result<Pages, StoreError> {
        let all = ["0", "-1", "WITHSCORES"];
        let pages = self.read("ZRANGE", &keys.key(index), &all).await?;
        let mut windows = BTreeMap::new();
        for (page, turned) in pages.all(|fields| Ok((fields.whole()?, fields.whole()?)))? {
            let mut bitmaps = keys.page(page).skip(part);
            let even = bitmaps.next().unwrap_or_default();
            let odd = bitmaps.next().unwrap_or_default();
            let slots = [self.bits(&even).await?, self.bits(&odd).await?];
            windows.insert(page, (turned, slots));
        }
        Ok(windows)
    }

    async fn spent(&self, keys: &Keys) -> Result<BTreeMap<u64, Bits>, StoreError> {
        let pages = self.read("SMEMBERS", &keys.key("spent_pages"), &[]).await?;
        let mut spent = BTreeMap::new();
        for page in pages.all(Fields::whole)? {
            let bits = self
                .bits(&keys.page(page).last().unwrap_or_default())
                .await?;
            if !bits.is_empty() {
                spent.insert(page, bits);
            }
        }
        Ok(spent)
    }

    async fn sessions(&self, key: &str) -> Result<BTreeMap<SessionKey, Timestamp>, StoreError> {
        let sessions = self.read("ZRANGE", key, &["0", "-1", "WITHSCORES"]).await?;
        let sessions = sessions.all(|fields| Ok((fields.session()?, fields.time()?)))?;
        Ok(sessions.into_iter().collect())
    }

    async fn offers(&self, keys: &Keys) -> Result<BTreeMap<Number, (Timestamp, bool)>, StoreError> {
        let all = ["0", "-1", "WITHSCORES"];
        let numbers = self.read("ZRANGE", &keys.key("offers"), &all).await?;
        let numbers = numbers.all(|fields| Ok((fields.number()?, fields.number()?)))?;
        let due = self.read("ZRANGE", &keys.key("offers_due"), &all).await?;
        let due = due.all(|fields| Ok((fields.number()?, fields.time()?)))?;
        let asked = self.read("SMEMBERS", &keys.key("asked"), &[]).await?;
        let asked: BTreeSet<Number> = asked.all(Fields::number)?.into_iter().collect();
        let same =
            numbers.len() == due.len() && numbers.iter().all(|(member, score)| member == score);
        if !same
            || !asked
                .iter()
                .all(|number| due.iter().any(|(other, _)| other == number))
        {
            return Err(StoreError::Refused(
                "offers, offers_due and asked do not name the same numbers".to_owned(),
            ));
        }
        Ok(due
            .into_iter()
            .map(|(number, due)| (number, (due, asked.contains(&number))))
            .collect())
    }

    async fn ids(
        &self,
        keys: &Keys,
        [born, resets]: &[String; 2],
    ) -> Result<BTreeMap<[u8; 16], Named>, StoreError> {
        let mut command = redis::cmd("KEYS");
        command.arg(keys.key("ids:*").replace('{', "\\{"));
        let reply = self.inner.connection.send(&command).await?;
        let mut ids = BTreeMap::new();
        for key in Fields::new("ids", reply)?.all(Fields::text)? {
            let pairs = self.read("HGETALL", &key, &[]).await?;
            for (id, text) in pairs.all(|fields| Ok((fields.session()?, fields.text()?)))? {
                let session = text.strip_prefix(&format!("s:{born}:"));
                let ticket = text.strip_prefix(&format!("t:{born}:{resets}:"));
                let session = session.and_then(|text| {
                    let (key, begun) = text.split_once(':')?;
                    let begun = Timestamp(begun.parse().ok()?);
                    Some(Named::Session(SessionKey::parse(key)?, begun))
                });
                let named = session.or_else(|| Some(Named::Ticket(Number(ticket?.parse().ok()?))));
                ids.extend(named.map(|named| (id.0, named)));
            }
        }
        Ok(ids)
    }

    async fn gateways(&self, key: &str) -> Result<BTreeMap<String, Gateway>, StoreError> {
        let mut rows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let pairs = self.read("HGETALL", key, &[]).await?;
        for (field, value) in pairs.all(|fields| Ok((fields.text()?, fields.text()?)))? {
            if let Some((gateway, part)) = field.rsplit_once(':') {
                let row = rows.entry(gateway.to_owned()).or_default();
                row.insert(part.to_owned(), value);
            }
        }
        rows.into_iter()
            .map(|(gateway, row)| {
                let fields = Fields::new(key, Value::Array(Vec::new()))?;
                let text = |part: &str| row.get(part).map_or("", String::as_str);
                let whole =
                    |part: &str| fields.parse_whole(row.get(part).map_or("0", String::as_str));
                let row = Gateway {
                    slot: u8::try_from(whole("slot")?).unwrap_or(u8::MAX),
                    seen: Timestamp(whole("seen")?),
                    report: serde_json::from_str(text("report")).unwrap_or_default(),
                    pushed: whole("pushed")?,
                    batch: whole("batch")?,
                    reply: text("reply")
                        .lines()
                        .map(|line| fields.entered(line))
                        .collect::<Result<_, _>>()?,
                };
                Ok((gateway, row))
            })
            .collect()
    }
}
