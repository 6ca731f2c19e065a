//! Reading the file again while a gateway runs: at SIGHUP, and when a config
//! map swaps the folder that it is in. A bad file is reported and the old
//! configuration stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::process::{Doors, Process};
use crate::support::wait_until;

/// Nobody is asked for anything here.
const NOBODY: &str = "127.0.0.1:9";

fn write(file: &Path, doors: Doors, limit: &str) {
    let text = doors.file(NOBODY.parse().unwrap(), &format!("limit = {limit}"));
    fs::write(file, text).unwrap();
}

fn has_limit(gateway: &Process, limit: u64) -> bool {
    gateway.shows(&format!(
        "sumun_event_sessions_limit{{event=\"main\"}} {limit}"
    ))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(what, || holds().then_some(()));
}

/// A gateway of this file, with the limit that stands there.
fn running(file: &Path, doors: Doors, limit: u64) -> Process {
    let gateway = Process::run(file, doors);
    until("the gateway", || gateway.is_ready());
    until("the limit", || has_limit(&gateway, limit));
    gateway
}

/// Waits until the log has told of a fault in the limit, once, and the metrics
/// say so.
fn fault_is_told(gateway: &Process) {
    let told = || gateway.said("the old configuration stays");
    until("the fault in the log", || !told().is_empty());
    assert_eq!(told().len(), 1);
    let fault = told()[0]["fields"]["fault"].to_string();
    assert!(fault.contains("event[0].limit"), "{fault}");
    until("the fault in the metrics", || {
        gateway.shows("sumun_config_last_reload_successful 0")
    });
}

#[test]
fn sighup_alone_reads_the_file_again_and_a_bad_file_changes_nothing() {
    // The folder that is watched holds only a link: what changes, changes in
    // another one, unseen.
    let (watched, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, real) = (
        watched.path().join("gateway.toml"),
        elsewhere.path().join("gateway.toml"),
    );
    symlink(&real, &file).unwrap();
    let doors = Doors::free();
    write(&real, doors, "7");
    let gateway = running(&file, doors, 7);

    write(&real, doors, "9");
    assert!(has_limit(&gateway, 7), "nobody said that the file changed");
    gateway.signal("HUP");
    until("the second limit", || has_limit(&gateway, 9));

    write(&real, doors, "\"many\"");
    gateway.signal("HUP");
    fault_is_told(&gateway);
    assert!(has_limit(&gateway, 9));

    write(&real, doors, "5");
    gateway.signal("HUP");
    until("the third limit", || has_limit(&gateway, 5));
    until("the good word in the metrics", || {
        gateway.shows("sumun_config_last_reload_successful 1")
    });
}

/// A folder as Kubernetes mounts a config map: the file is a link through
/// `..data`, which is a link to the folder of one version.
struct ConfigMap(tempfile::TempDir);

impl ConfigMap {
    fn new(doors: Doors, limit: &str) -> Self {
        let map = Self(tempfile::tempdir().unwrap());
        map.swap("..first", doors, limit);
        symlink("..data/gateway.toml", map.0.path().join("gateway.toml")).unwrap();
        map
    }

    /// Puts another version in the place of the present one, in one step.
    fn swap(&self, version: &str, doors: Doors, limit: &str) {
        let folder = self.0.path();
        fs::create_dir(folder.join(version)).unwrap();
        write(&folder.join(version).join("gateway.toml"), doors, limit);
        let next = folder.join("..data_tmp");
        symlink(version, &next).unwrap();
        fs::rename(next, folder.join("..data")).unwrap();
    }
}

#[test]
fn a_swapped_config_map_is_read_and_a_bad_one_changes_nothing() {
    let doors = Doors::free();
    let map = ConfigMap::new(doors, "7");
    let file = map.0.path().join("gateway.toml");
    let gateway = running(&file, doors, 7);
    map.swap("..second", doors, "9");
    until("the second limit", || has_limit(&gateway, 9));
    map.swap("..third", doors, "0");
    fault_is_told(&gateway);
    assert!(has_limit(&gateway, 9));
    map.swap("..fourth", doors, "5");
    until("the fourth limit", || has_limit(&gateway, 5));
}
