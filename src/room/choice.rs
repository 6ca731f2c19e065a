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

/// The place of the best candidate; `None` when there is none. `turn` counts
/// the choices: those that are equally good are taken in turn.
#[must_use]
pub fn choose<I>(candidates: I, turn: usize) -> Option<usize>
where
    I: Iterator<Item = (usize, Candidate)> + Clone,
{
    let mut best: Option<Candidate> = None;
    let mut ties = 0_usize;
    for (_, candidate) in candidates.clone() {
        match best.map(|best| candidate.compared(best)) {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Equal) => ties += 1,
            Some(std::cmp::Ordering::Less) | None => {
                best = Some(candidate);
                ties = 1;
            }
        }
    }
    let best = best?;
    candidates
        .filter(|(_, candidate)| candidate.compared(best).is_eq())
        .nth(turn % ties.max(1))
        .map(|(place, _)| place)
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

    fn chosen(candidates: &[Candidate], turn: usize) -> Option<usize> {
        choose(candidates.iter().copied().enumerate(), turn)
    }

    #[test]
    fn the_one_with_the_least_in_flight_is_chosen() {
        assert_eq!(chosen(&[ready(3), ready(1), ready(2)], 7), Some(1));
        assert_eq!(chosen(&[], 0), None);
    }

    #[test]
    fn those_that_tie_are_taken_in_turn_whoever_stands_between_them() {
        let all = [ready(0), ready(9), ready(0), ready(0)];
        let taken: Vec<_> = (0..6).filter_map(|turn| chosen(&all, turn)).collect();
        assert_eq!(taken, [0, 2, 3, 0, 2, 3]);
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
            turn: usize,
        ) {
            let place = chosen(&candidates, turn).unwrap();
            for other in &candidates {
                prop_assert!(candidates[place].compared(*other).is_le());
            }
        }
    }
}
