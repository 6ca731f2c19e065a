//! Who arrived, by what they are: how often each word of each sort was met, in a form
//! that adds up over gateways and time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sorts, and words of each, that are added up: more than there are.
const SORTS_MAX: usize = 16;
const WORDS_MAX: usize = 512;

/// How often each word of each sort was met; words that were not are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies(BTreeMap<String, BTreeMap<String, u64>>);

impl Tallies {
    /// Counts a word so many times more. Beyond the most words nothing is counted.
    pub fn count(&mut self, sort: &str, word: &str, more: u64) {
        if self.0.len() >= SORTS_MAX && !self.0.contains_key(sort) {
            return;
        }
        let words = self.0.entry(sort.to_owned()).or_default();
        if let Some(count) = words.get_mut(word) {
            *count = count.saturating_add(more);
        } else if words.len() < WORDS_MAX {
            words.insert(word.to_owned(), more);
        }
    }

    /// The words of a sort, the most frequent first.
    #[must_use]
    pub fn words(&self, sort: &str) -> Vec<(&str, u64)> {
        let words = self.0.get(sort).into_iter().flatten();
        let mut words: Vec<(&str, u64)> =
            words.map(|(word, count)| (word.as_str(), *count)).collect();
        words.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
        words
    }

    /// What came to it since it stood so.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self::default();
        for (sort, words) in &self.0 {
            let earlier = before.0.get(sort);
            for (word, count) in words {
                let earlier = earlier.and_then(|words| words.get(word));
                let came = count.saturating_sub(earlier.copied().unwrap_or_default());
                if came > 0 {
                    since.count(sort, word, came);
                }
            }
        }
        since
    }

    /// Adds others to it.
    pub fn add(&mut self, others: &Self) {
        for (sort, words) in &others.0 {
            for (word, count) in words {
                self.count(sort, word, *count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(words: &[(&str, &str, u64)]) -> Tallies {
        let mut tallies = Tallies::default();
        for (sort, word, count) in words {
            tallies.count(sort, word, *count);
        }
        tallies
    }

    #[test]
    fn what_came_since_is_told_and_adds_up() {
        let before = tallies(&[("device", "mobile", 3), ("os", "ios", 1)]);
        let now = tallies(&[
            ("device", "mobile", 5),
            ("device", "tv", 1),
            ("os", "ios", 1),
        ]);
        let mut sum = now.since(&before);
        assert_eq!(
            sum,
            tallies(&[("device", "mobile", 2), ("device", "tv", 1)])
        );
        sum.add(&tallies(&[("device", "tv", u64::MAX)]));
        assert_eq!(sum.words("device"), [("tv", u64::MAX), ("mobile", 2)]);
        assert_eq!(sum.words("os"), []);
    }

    #[test]
    fn made_up_words_and_sorts_are_bounded() {
        let mut sum = Tallies::default();
        for number in 0..1_000 {
            sum.count("device", &format!("{number}"), 1);
            sum.count(&format!("{number}"), "word", 1);
        }
        assert_eq!(sum.words("device").len(), WORDS_MAX);
        assert_eq!(sum.0.len(), SORTS_MAX);
        sum.count("device", "7", 1);
        assert_eq!(sum.words("device")[0], ("7", 2));
    }
}
