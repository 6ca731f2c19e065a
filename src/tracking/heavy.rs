//! The heaviest of many names in little room: Space-Saving (Metwally,
//! Agrawal, El Abbadi 2005).
//!
//! A name that is not kept takes the place of the lightest one and its weight,
//! which is then the most that it can have had before. So whatever is heavier
//! than all weight ÷ places is kept, and no weight is too large by more than
//! its `error`.

use std::sync::Arc;

use ahash::AHashMap;

/// Names with their weights, at most so many.
pub(super) struct Heavy<V> {
    places: AHashMap<Arc<str>, usize>,
    rows: Vec<Row<V>>,
    most: usize,
}

/// A name that is kept.
pub(super) struct Row<V> {
    pub(super) name: Arc<str>,
    /// Never less than it has had.
    pub(super) weight: u64,
    /// What of the weight may be another name's.
    pub(super) error: u64,
    /// Which of those who had this place it is.
    pub(super) epoch: u32,
    pub(super) value: V,
}

/// Where a name came to stand.
pub(super) struct Placed<V> {
    pub(super) place: usize,
    pub(super) epoch: u32,
    /// Who had to go for it.
    pub(super) gone: Option<V>,
}

impl<V: Default> Heavy<V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: AHashMap::new(),
            rows: Vec::new(),
            most: most.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes no more than there are: from here on the lightest has to go.
    pub(super) fn fix(&mut self) {
        self.most = self.rows.len().max(1);
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row<V>> {
        self.rows.iter()
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row<V>> {
        self.rows.iter_mut()
    }

    /// Where a name stands, if it is kept.
    pub(super) fn find(&self, name: &str) -> Option<(usize, u32)> {
        let place = *self.places.get(name)?;
        Some((place, self.rows.get(place)?.epoch))
    }

    /// Who stands at a place, if that is still the one who was meant.
    pub(super) fn at(&mut self, place: usize, epoch: u32) -> Option<&mut Row<V>> {
        self.rows.get_mut(place).filter(|row| row.epoch == epoch)
    }

    /// Gives a name a place and more weight.
    pub(super) fn put(&mut self, name: &str, weight: u64) -> Placed<V> {
        if let Some((place, epoch)) = self.find(name) {
            if let Some(row) = self.rows.get_mut(place) {
                row.weight += weight;
            }
            return Placed {
                place,
                epoch,
                gone: None,
            };
        }
        let name: Arc<str> = name.into();
        let lightest = (self.rows.len() >= self.most)
            .then(|| (self.rows.iter().enumerate()).min_by_key(|(_, row)| row.weight))
            .flatten()
            .map(|(place, _)| place);
        let Some((place, row)) =
            lightest.and_then(|place| Some((place, self.rows.get_mut(place)?)))
        else {
            let place = self.rows.len();
            self.places.insert(Arc::clone(&name), place);
            self.rows.push(Row {
                name,
                weight,
                error: 0,
                epoch: 0,
                value: V::default(),
            });
            return Placed {
                place,
                epoch: 0,
                gone: None,
            };
        };
        self.places.remove(&row.name);
        self.places.insert(Arc::clone(&name), place);
        row.name = name;
        row.error = row.weight;
        row.weight += weight;
        row.epoch = row.epoch.wrapping_add(1);
        Placed {
            place,
            epoch: row.epoch,
            gone: Some(std::mem::take(&mut row.value)),
        }
    }

    /// Halves all weights: what was heavy long ago makes room.
    pub(super) fn age(&mut self) {
        for row in &mut self.rows {
            row.weight /= 2;
            row.error /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn the_lightest_makes_room_and_its_weight_is_the_newcomers_error() {
        let mut heavy: Heavy<u8> = Heavy::new(2);
        heavy.put("/a", 5);
        let b = heavy.put("/b", 3);
        heavy.at(b.place, b.epoch).unwrap().value = 7;
        let c = heavy.put("/c", 1);
        assert_eq!(c.gone, Some(7));
        assert!(heavy.at(b.place, b.epoch).is_none());
        let row = heavy.at(c.place, c.epoch).unwrap();
        assert_eq!((row.weight, row.error, &*row.name), (4, 3, "/c"));
        assert!(heavy.find("/b").is_none() && heavy.find("/a").is_some());
        assert_eq!(heavy.len(), 2);
    }

    proptest! {
        #[test]
        fn what_weighs_more_than_its_share_is_kept_and_no_error_is_too_small(
            names in proptest::collection::vec(0_u8..40, 1..2_000),
            most in 1_usize..20,
        ) {
            let mut heavy: Heavy<()> = Heavy::new(most);
            let mut exact: HashMap<String, u64> = HashMap::new();
            for name in &names {
                // The smaller the number, the heavier.
                let name = format!("/{}", name / (1 + name % 7));
                heavy.put(&name, 1);
                *exact.entry(name).or_default() += 1;
            }
            let all = names.len() as u64;
            prop_assert!(heavy.len() <= most);
            for (name, count) in &exact {
                let kept = heavy.rows().find(|row| *row.name == **name);
                match kept {
                    Some(row) => {
                        prop_assert!(row.weight >= *count);
                        prop_assert!(row.weight - row.error <= *count);
                        prop_assert!(row.error <= all / most as u64);
                    }
                    None => prop_assert!(*count <= all / most as u64),
                }
            }
        }
    }
}
