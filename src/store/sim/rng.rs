//! A small deterministic stream of numbers: everything random in a simulated disk comes from one.

/// `SplitMix64` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    /// Another stream, a function of this one's state and of `index`.
    pub(super) fn stream(&self, index: u64) -> Self {
        Self(Self(self.0 ^ index.wrapping_mul(0xD129_42F0_2C5B_3A65)).next())
    }
}

/// A fast hash of bytes that nobody chose to collide: four lanes of multiply and fold.
#[derive(Debug)]
pub(super) struct Fingerprint([u64; 4]);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self([
            0x9E37_79B9_7F4A_7C15,
            0xA076_1D64_78BD_642F,
            0xE703_7ED1_A0B4_28DB,
            0x8EBC_6AF0_9C88_C6E3,
        ])
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.words([bytes.len() as u64; 4]);
        let mut blocks = bytes.chunks_exact(32);
        let word = |block: &[u8], at: usize| {
            let word = block.get(at..at + 8).and_then(|word| word.try_into().ok());
            u64::from_le_bytes(word.unwrap_or_default())
        };
        for block in &mut blocks {
            self.words([word(block, 0), word(block, 8), word(block, 16), word(block, 24)]);
        }
        let mut last = [0; 32];
        last[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
        self.words([word(&last, 0), word(&last, 8), word(&last, 16), word(&last, 24)]);
    }

    #[inline]
    fn words(&mut self, words: [u64; 4]) {
        for (lane, word) in self.0.iter_mut().zip(words) {
            let product = u128::from(*lane ^ word) * 0xF39C_C060_5CED_C835;
            let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
            *lane = u64::try_from(low ^ high).unwrap_or(0) ^ lane.rotate_left(23);
        }
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.iter().fold(0, |hash, lane| Rng::new(hash ^ lane).next())
    }
}
