//! Randomness that a seed repeats on every machine and in every release of
//! every library: `SplitMix64` and the few draws that the simulation needs.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    /// One of a seed's streams, apart from its others.
    pub(crate) fn apart(seed: u64, stream: u64) -> Self {
        Self::new(Self::new(seed).next() ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to, not including, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    /// 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// Exponentially distributed milliseconds.
    pub(crate) fn exponential(&mut self, mean_ms: u64) -> u64 {
        (-(1.0 - self.share()).ln() * mean_ms as f64) as u64
    }

    /// `ms`, give or take `share` of it.
    pub(crate) fn jitter(&mut self, ms: u64, share: f64) -> u64 {
        (ms as f64 * (1.0 - share + 2.0 * share * self.share())) as u64
    }
}
