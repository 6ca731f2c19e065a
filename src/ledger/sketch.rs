//! How many different ones there were, without keeping any of them (`HyperLogLog`;
//! Flajolet et al. 2007, estimated as in Ertl, "New cardinality estimation algorithms
//! for `HyperLogLog` sketches", 2017, §4). Sketches of several gateways are united by
//! the greater of each pair of registers, whoever counted whom first or twice.

/// So many bits of a hash choose a register: 4,096 of them, a byte each. The count
/// is off by 1.6 % as a rule (1.04 ÷ √4,096), and by 5 % one time in 500.
const CHOOSING: u32 = 12;

/// The registers, and the bytes of a sketch.
pub(super) const REGISTERS: usize = 1 << CHOOSING;

/// The greatest rank: all other bits are zeros.
const RANK_MAX: u8 = 53;

/// The register of a hash, and its rank there.
pub(super) fn place(hash: u64) -> (usize, u8) {
    let register = usize::try_from(hash >> (64 - CHOOSING)).unwrap_or_default();
    let zeros = (hash << CHOOSING).leading_zeros() + 1;
    let rank = u8::try_from(zeros).unwrap_or(RANK_MAX).min(RANK_MAX);
    (register, rank)
}

/// A hash of a name that is the same at every gateway, of every release: FNV-1a,
/// its bits well mixed at the end (the finalizer of `MurmurHash3`).
#[must_use]
pub fn hash(name: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = name.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// A sketch that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch(Vec<u8>);

impl Default for Sketch {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Sketch {
    pub(super) fn of(registers: impl Iterator<Item = u8>) -> Self {
        Self(registers.collect())
    }

    /// Its registers.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes in what another one saw. Bytes of another length are no sketch, and
    /// change nothing.
    pub fn unite(&mut self, bytes: &[u8]) {
        if bytes.len() != REGISTERS {
            return;
        }
        for (own, other) in self.0.iter_mut().zip(bytes) {
            *own = (*own).max(*other).min(RANK_MAX);
        }
    }

    /// About how many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "a constant of 4,096")]
        let registers = REGISTERS as f64;
        let mut having = [0.0_f64; RANK_MAX as usize + 1];
        for rank in &self.0 {
            if let Some(count) = having.get_mut(usize::from(*rank)) {
                *count += 1.0;
            }
        }
        let [none, between @ .., all] = having;
        let above = registers * tau(1.0 - all / registers);
        let sum = between.iter().rev().fold(above, |sum, n| 0.5 * (sum + n));
        let sum = sum + registers * sigma(none / registers);
        let count = 0.5 / std::f64::consts::LN_2 * registers * registers / sum;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and at most some 2^64"
        )]
        let count = count.round() as u64;
        count
    }
}

/// Corrects for registers that nothing fell into. At 1 it is infinite: nobody came.
fn sigma(share: f64) -> f64 {
    if share >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut sum) = (share, 1.0, share);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum <= before {
            return sum;
        }
    }
}

/// Corrects for registers that are full.
fn tau(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut sum) = (share, 1.0, 1.0 - share);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(names: impl Iterator<Item = u64>) -> Sketch {
        let mut registers = vec![0; REGISTERS];
        for name in names {
            let (at, rank) = place(hash(format!("visitor {name}").as_bytes()));
            registers[at] = rank.max(registers[at]);
        }
        Sketch(registers)
    }

    #[test]
    fn counts_are_as_near_as_promised_from_one_to_a_million() {
        assert_eq!(Sketch::default().count(), 0);
        assert_eq!(sketch(0..1).count(), 1);
        assert_eq!(sketch(0..10).count(), 10);
        let mut squares = 0.0;
        let sizes: [u32; 9] = [
            100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 300_000, 1_000_000,
        ];
        for size in sizes {
            let counted = f64::from(u32::try_from(sketch(7..7 + u64::from(size)).count()).unwrap());
            let off = counted / f64::from(size) - 1.0;
            assert!(off.abs() < 0.05, "{counted} of {size}");
            squares += off * off;
        }
        let usual = (squares / 9.0_f64).sqrt();
        assert!(usual < 0.02, "{usual}");
    }

    #[test]
    fn united_sketches_count_everybody_once() {
        let mut one = sketch(0..30_000);
        let other = sketch(20_000..50_000);
        one.unite(other.bytes());
        assert_eq!(one, sketch(0..50_000));
        let before = one.clone();
        one.unite(other.bytes());
        one.unite(&[9; 10]);
        assert_eq!(one, before);
    }

    #[test]
    fn damaged_registers_do_not_break_the_count() {
        let mut sketch = Sketch::default();
        sketch.unite(&[255; REGISTERS]);
        assert!(sketch.count() > 1 << 60);
        assert_eq!(place(u64::MAX), (REGISTERS - 1, 1));
        assert_eq!(place(0), (0, RANK_MAX));
    }
}
