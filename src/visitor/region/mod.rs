//! Region and network of an address, from files that the owner supplies (those of
//! `MaxMind`, and what has their format and layout). They are read whole into memory and
//! exchanged while the server runs; one that cannot be used leaves the one before
//! it in its place.

mod countries;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader, WithinOptions};

pub use countries::Country;

/// The largest file that is read, in bytes: several times the largest there is.
const FILE_MAX: u64 = 1 << 30;

/// So many networks of a file are read before it is used, and so many addresses
/// all over it are looked up: what is damaged in large parts is found.
const TRIED: u32 = 4096;

/// Longer names of networks are cut, in characters.
const NAME_MAX: usize = 200;

/// What a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Country and subdivision.
    City,
    /// Network.
    Asn,
}

impl Content {
    /// The setting's name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::City => "city_db",
            Self::Asn => "asn_db",
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::City => {
                "holds no countries: name a city or country database in the layout of MaxMind"
            }
            Self::Asn => {
                "holds no networks: name a database of autonomous systems in the layout of MaxMind"
            }
        }
    }
}

/// A file that cannot be used, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it should tell.
    pub content: Content,
    /// Its name.
    pub file: PathBuf,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, file) = (self.content.key(), self.file.display());
        write!(to, "{key} {file}: {}", self.remedy)
    }
}

impl std::error::Error for Fault {}

/// Which files there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Countries and subdivisions.
    pub city: Option<PathBuf>,
    /// Networks.
    pub asn: Option<PathBuf>,
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The country; `None` without a file of countries.
    pub country: Option<Country>,
    /// The first subdivision (ISO 3166-2, without the country).
    pub subdivision: Option<String>,
    /// The number of the autonomous system.
    pub asn: Option<u32>,
    /// Whose it is.
    pub organization: Option<String>,
}

/// What was found when the files were looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another database, of this file, is used from now on.
    Renewed(PathBuf),
    /// It cannot be used; the one before it is used on.
    Bad(Fault),
}

/// A database in memory.
struct Database {
    reader: Reader<Vec<u8>>,
}

impl Database {
    fn read(content: Content, file: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(file)
            .map_err(|fault| unread(&fault))?
            .len();
        if size > FILE_MAX {
            return Err(format!("is larger than {FILE_MAX} bytes: name a database"));
        }
        let bytes = std::fs::read(file).map_err(|fault| unread(&fault))?;
        let reader = Reader::from_source(bytes).map_err(|fault| {
            format!(
                "is no whole MaxMind database ({fault}): fetch it anew and put it there by renaming"
            )
        })?;
        let database = Self { reader };
        if database.tells(content)? {
            return Ok(database);
        }
        Err(content.missing().to_owned())
    }

    /// Whether it tells what it should, as far as it is tried.
    fn tells(&self, content: Content) -> Result<bool, String> {
        let damaged = |fault| format!("is damaged ({fault}): fetch it anew");
        let mut tells = false;
        let networks = self.reader.networks(WithinOptions::default());
        for network in networks.map_err(damaged)?.take(TRIED as usize) {
            let found = network.map_err(damaged)?;
            tells |= match content {
                Content::City => country(&found).map_err(damaged)?.is_some(),
                Content::Asn => asn(&found).map_err(damaged)?.is_some(),
            };
        }
        for at in 0..TRIED {
            let address = IpAddr::from((at * (u32::MAX / TRIED)).to_be_bytes());
            let found = self.reader.lookup(address).map_err(damaged)?;
            match content {
                Content::City => country(&found).map(|_| ()),
                Content::Asn => asn(&found).map(|_| ()),
            }
            .map_err(damaged)?;
        }
        Ok(tells)
    }
}

type Found<'a> = maxminddb::LookupResult<'a, Vec<u8>>;
type Told<T> = Result<Option<T>, maxminddb::MaxMindDbError>;

/// Where the address is; else where it is registered.
fn country<'a>(found: &Found<'a>) -> Told<&'a str> {
    let code = |of| found.decode_path(&[PathElement::Key(of), PathElement::Key("iso_code")]);
    match code("country")? {
        None => code("registered_country"),
        known => Ok(known),
    }
}

fn subdivision<'a>(found: &Found<'a>) -> Told<&'a str> {
    found.decode_path(&[
        PathElement::Key("subdivisions"),
        PathElement::Index(0),
        PathElement::Key("iso_code"),
    ])
}

fn asn(found: &Found<'_>) -> Told<u32> {
    found.decode_path(&[PathElement::Key("autonomous_system_number")])
}

fn organization<'a>(found: &Found<'a>) -> Told<&'a str> {
    found.decode_path(&[PathElement::Key("autonomous_system_organization")])
}

fn unread(fault: &io::Error) -> String {
    format!("cannot be read: {fault}")
}

/// What tells that a file is another one: looking costs nothing then.
type Mark = Option<(u64, u64, Option<SystemTime>)>;

fn mark(file: &Path) -> Mark {
    let told = std::fs::metadata(file).ok()?;
    Some((told.len(), told.ino(), told.modified().ok()))
}

/// A file, and what is used of it.
struct Shelf {
    content: Content,
    file: PathBuf,
    shown: ArcSwapOption<Database>,
    /// Of what stood there when it was last looked at, good or bad.
    last: Mutex<Mark>,
}

impl Shelf {
    fn open(content: Content, file: &Path) -> Result<Self, Fault> {
        let shelf = Self {
            content,
            file: file.to_owned(),
            shown: ArcSwapOption::empty(),
            last: Mutex::new(None),
        };
        shelf.read()?;
        Ok(shelf)
    }

    fn read(&self) -> Result<(), Fault> {
        // What is written there meanwhile has another mark, and is read next time.
        let mark = mark(&self.file);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = mark;
        let read = Database::read(self.content, &self.file);
        let database = read.map_err(|remedy| Fault {
            content: self.content,
            file: self.file.clone(),
            remedy,
        })?;
        self.shown.store(Some(Arc::new(database)));
        Ok(())
    }

    fn look_again(&self) -> Option<Change> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if mark(&self.file) == last {
            return None;
        }
        Some(match self.read() {
            Ok(()) => Change::Renewed(self.file.clone()),
            Err(fault) => Change::Bad(fault),
        })
    }
}

/// The owner's files.
#[derive(Default)]
pub struct Regions {
    city: Option<Shelf>,
    asn: Option<Shelf>,
}

impl Regions {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be used, and what to do.
    pub fn open(files: &Files) -> Result<Self, Fault> {
        let open = |content, file: &Option<PathBuf>| {
            let shelf = file.as_ref().map(|file| Shelf::open(content, file));
            shelf.transpose()
        };
        Ok(Self {
            city: open(Content::City, &files.city)?,
            asn: open(Content::Asn, &files.asn)?,
        })
    }

    /// Which files they are.
    #[must_use]
    pub fn files(&self) -> Files {
        let file = |shelf: &Option<Shelf>| shelf.as_ref().map(|shelf| shelf.file.clone());
        Files {
            city: file(&self.city),
            asn: file(&self.asn),
        }
    }

    /// Looks whether other files stand there, and reads those that are.
    pub fn refresh(&self) -> Vec<Change> {
        let shelves = self.city.iter().chain(&self.asn);
        shelves.filter_map(Shelf::look_again).collect()
    }

    /// When the databases in use were made, in Unix seconds, by the setting's name.
    #[must_use]
    pub fn made(&self) -> Vec<(&'static str, u64)> {
        let shelves = self.city.iter().chain(&self.asn);
        let made = shelves.filter_map(|shelf| {
            let database = shelf.shown.load_full()?;
            Some((shelf.content.key(), database.reader.metadata().build_epoch))
        });
        made.collect()
    }

    /// The country of an address, about a microsecond; `None` without a file of them.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        let shown = self.city.as_ref()?.shown.load();
        let found = shown.as_ref()?.reader.lookup(address).ok();
        let code = found.as_ref().and_then(|found| country(found).ok()?);
        Some(Country::of(code))
    }

    /// The number of the autonomous system of an address; `None` without a file of them.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Option<u32> {
        let shown = self.asn.as_ref()?.shown.load();
        let found = shown.as_ref()?.reader.lookup(address).ok()?;
        asn(&found).ok().flatten()
    }

    /// All that is known of an address.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        let mut place = Place {
            country: self.country(address),
            ..Place::default()
        };
        if let Some(city) = self.city.as_ref().and_then(|shelf| shelf.shown.load_full())
            && let Ok(found) = city.reader.lookup(address)
        {
            place.subdivision = subdivision(&found).ok().flatten().map(short);
        }
        if let Some(networks) = self.asn.as_ref().and_then(|shelf| shelf.shown.load_full())
            && let Ok(found) = networks.reader.lookup(address)
        {
            place.asn = asn(&found).ok().flatten();
            place.organization = organization(&found).ok().flatten().map(short);
        }
        place
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}
