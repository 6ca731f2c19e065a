//! Which pages of the line a look reads.

use crate::room::snapshot::Snapshot;

/// The pages to read whole, from the watermark on, and those behind them.
pub(super) fn pages_to_read(snapshot: &Snapshot) -> (Vec<u64>, Vec<u64>) {
    let meta = &snapshot.meta;
    if meta.called == meta.issued && snapshot.pages.is_empty() {
        return (vec![meta.issued.page()], Vec::new());
    }
    let mut ahead: Vec<u64> = snapshot
        .pages
        .iter()
        .copied()
        .filter(|page| *page >= meta.called.page())
        .collect();
    // The next number may open a page that this snapshot does not know.
    if !ahead.contains(&meta.issued.page()) {
        ahead.push(meta.issued.page());
    }
    let behind = ahead.split_off(ahead.len().min(2));
    (ahead, behind)
}

/// The next few of a list, round robin.
pub(super) fn next_of(list: &[u64], at: &mut usize) -> Vec<u64> {
    const TAKEN: usize = 4;
    if list.is_empty() {
        return Vec::new();
    }
    let from = *at % list.len();
    *at = at.wrapping_add(TAKEN);
    list.iter()
        .cycle()
        .skip(from)
        .take(TAKEN.min(list.len()))
        .copied()
        .collect()
}
