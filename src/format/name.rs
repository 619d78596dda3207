//! File names: `CONTROL`, segments `<seq, 20 digits>.wal`, snapshots `<lsn, 20 digits>.snap`.

/// The file that holds the log's identity and its claims.
pub(crate) const CONTROL: &str = "CONTROL";

/// What a file's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Control,
    Segment(u64),
    Snapshot(u64),
    /// Not ours: left alone and reported.
    Other,
}

/// The name of the segment with this sequence number.
pub(crate) fn segment(seq: u64) -> String {
    format!("{seq:020}.wal")
}

/// The name of the snapshot of all below this LSN.
pub(crate) fn snapshot(lsn: u64) -> String {
    format!("{lsn:020}.snap")
}

/// Classifies a name.
pub(crate) fn classify(name: &str) -> Name {
    let number = |suffix: &str| {
        let digits = name.strip_suffix(suffix)?;
        let decimal = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        decimal.then(|| digits.parse::<u64>().ok()).flatten()
    };
    if name == CONTROL {
        Name::Control
    } else if let Some(seq) = number(".wal") {
        Name::Segment(seq)
    } else if let Some(lsn) = number(".snap") {
        Name::Snapshot(lsn)
    } else {
        Name::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_ours() {
        assert_eq!(classify(&segment(17)), Name::Segment(17));
        assert_eq!(classify(&segment(u64::MAX)), Name::Segment(u64::MAX));
        assert_eq!(classify("CONTROL"), Name::Control);
        assert_eq!(classify("00000000000000000008.snap"), Name::Snapshot(8));
        for other in ["1.wal", "control", "0000000000000000000a.wal", "99999999999999999999.wal"] {
            assert_eq!(classify(other), Name::Other, "{other}");
        }
        assert_eq!(classify("+0000000000000000001.wal"), Name::Other);
    }
}
