//! Which of several origins gets a request: the one with the least in flight
//! for its share, among the best there are. Ties go round.

/// A whole share: an origin that takes all that comes to it, in thousandths.
pub const WHOLE: u32 = 1000;

/// How an origin stands for a request, from the best on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It takes requests.
    Ready,
    /// It takes them again since a while, and it is not this one's turn.
    Spared,
    /// It takes requests, and all its connections are in use.
    Full,
    /// It is ejected, or its checks fail: only when there is no other.
    Out,
}

/// An origin that could get the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it stands.
    pub standing: Standing,
    /// Requests that it has in flight.
    pub in_flight: u32,
    /// Its share, 1 to [`WHOLE`]: less after a return.
    pub share: u32,
}

/// The place of the best candidate; `None` when there is none. Of those that are
/// equally good it is the first at or after `from`, or the first of all: who asks
/// from behind the last one chosen takes them in turn.
#[must_use]
pub fn choose<I>(candidates: I, from: usize) -> Option<usize>
where
    I: Iterator<Item = (usize, Candidate)>,
{
    let mut best: Option<(usize, Candidate)> = None;
    for (place, candidate) in candidates {
        let is_better = best.is_none_or(|(chosen, best)| {
            candidate
                .compared(best)
                .then((place < from).cmp(&(chosen < from)))
                .is_lt()
        });
        if is_better {
            best = Some((place, candidate));
        }
    }
    best.map(|(place, _)| place)
}

impl Candidate {
    /// Less is better: the standing, then what is in flight for the share.
    fn compared(self, other: Self) -> std::cmp::Ordering {
        let load = |one: Self, by: Self| u64::from(one.in_flight) * u64::from(by.share.max(1));
        self.standing
            .cmp(&other.standing)
            .then_with(|| load(self, other).cmp(&load(other, self)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ready(in_flight: u32) -> Candidate {
        Candidate {
            standing: Standing::Ready,
            in_flight,
            share: WHOLE,
        }
    }

    fn chosen(candidates: &[Candidate], from: usize) -> Option<usize> {
        choose(candidates.iter().copied().enumerate(), from)
    }

    #[test]
    fn the_one_with_the_least_in_flight_is_chosen() {
        assert_eq!(chosen(&[ready(3), ready(1), ready(2)], 2), Some(1));
        assert_eq!(chosen(&[], 0), None);
    }

    fn in_turn(times: usize, candidates: impl Fn(Option<usize>) -> Vec<Candidate>) -> Vec<usize> {
        let mut last = None;
        let mut taken = Vec::new();
        for _ in 0..times {
            last = chosen(&candidates(last), last.map_or(0, |last| last + 1));
            taken.extend(last);
        }
        taken
    }

    #[test]
    fn those_that_tie_are_taken_in_turn_whoever_stands_between_them() {
        let taken = in_turn(6, |_| vec![ready(0), ready(9), ready(0), ready(0)]);
        assert_eq!(taken, [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn nobody_is_left_out_while_the_last_one_is_still_busy() {
        let taken = in_turn(6, |last| {
            let busy = |place| ready(u32::from(last == Some(place)));
            (0..3).map(busy).collect()
        });
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_share_counts_what_is_in_flight_for_so_much_more() {
        let returning = |in_flight| Candidate {
            share: 100,
            ..ready(in_flight)
        };
        assert_eq!(chosen(&[ready(9), returning(1)], 0), Some(0));
        assert_eq!(chosen(&[ready(11), returning(1)], 0), Some(1));
    }

    #[test]
    fn who_is_out_is_tried_only_when_all_are() {
        let out = Candidate {
            standing: Standing::Out,
            ..ready(0)
        };
        let full = Candidate {
            standing: Standing::Full,
            ..ready(50)
        };
        assert_eq!(chosen(&[out, full], 0), Some(1));
        assert_eq!(chosen(&[out, out], 1), Some(1));
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let standing = prop_oneof![
            Just(Standing::Ready),
            Just(Standing::Spared),
            Just(Standing::Full),
            Just(Standing::Out)
        ];
        (standing, 0..50_u32, 1..=WHOLE).prop_map(|(standing, in_flight, share)| Candidate {
            standing,
            in_flight,
            share,
        })
    }

    proptest! {
        #[test]
        fn nobody_is_better_than_the_one_chosen(
            candidates in proptest::collection::vec(any_candidate(), 1..20),
            from in 0..20_usize,
        ) {
            let place = chosen(&candidates, from).unwrap();
            for other in &candidates {
                prop_assert!(candidates[place].compared(*other).is_le());
            }
        }
    }
}
