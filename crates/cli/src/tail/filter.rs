//! Which records are shown.

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Show only records with at least so much payload.
    #[arg(long, value_name = "BYTES")]
    min_bytes: Option<usize>,
    /// Show only records with at most so much payload.
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<usize>,
    /// Show only records that have the bytes of this text in their payload.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

impl Filter {
    pub(super) fn passes(&self, data: &[u8]) -> bool {
        self.min_bytes.is_none_or(|min| data.len() >= min)
            && self.max_bytes.is_none_or(|max| data.len() <= max)
            && self.contains.as_ref().is_none_or(|text| holds(data, text.as_bytes()))
    }
}

fn holds(data: &[u8], part: &[u8]) -> bool {
    let first = part.first();
    first.is_none() || data.windows(part.len()).any(|bytes| bytes.first() == first && bytes == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_from_and_to_and_text_is_found_anywhere() {
        let filter = Filter { min_bytes: Some(3), max_bytes: Some(5), contains: Some("ab".into()) };
        for passes in [&b"abc"[..], b"\xffab", b"aaabb"] {
            assert!(filter.passes(passes), "{passes:?}");
        }
        for fails in [&b""[..], b"ab", b"a bc", b"abcdef"] {
            assert!(!filter.passes(fails), "{fails:?}");
        }
        assert!(holds(b"", b"") && holds(b"x", b"") && !holds(b"", b"x"));
    }
}
