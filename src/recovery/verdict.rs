//! The decision table: what the end of a log means. Pure.

/// What was found. Every combination of the five answers has exactly one row in [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first invalid position is below the newest witnessed watermark.
    pub(super) stops_below_witness: bool,
    /// No reservation ends at the newest witnessed watermark.
    pub(super) witness_off_boundary: bool,
    /// The record that the caller demands is not below the end.
    pub(super) demand_unmet: bool,
    /// A valid frame stands farther behind the first invalid position than unsynced bytes reach.
    pub(super) evidence_too_far: bool,
    /// The first invalid position is inside a batch.
    pub(super) inside_batch: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Damage to what was durable: refuse.
    Damaged(&'static str),
    /// The log ends where the batch began.
    EndsAtBatch,
    /// The log ends at the first invalid position.
    EndsHere,
}

/// One row: the answers it wants (`None`: either), and the verdict.
type Row = ([Option<bool>; 5], Verdict);

const NO: Option<bool> = Some(false);
const YES: Option<bool> = Some(true);
const ANY: Option<bool> = None;

const TABLE: [Row; 6] = [
    ([YES, ANY, ANY, ANY, ANY], Verdict::Damaged("bytes that were durable are damaged")),
    ([NO, YES, ANY, ANY, ANY], Verdict::Damaged("a watermark points inside a record or batch")),
    ([NO, NO, YES, ANY, ANY], Verdict::Damaged("the record at min_durable_lsn is missing")),
    ([NO, NO, NO, YES, ANY], Verdict::Damaged("valid frames lie too far behind damaged bytes")),
    ([NO, NO, NO, NO, YES], Verdict::EndsAtBatch),
    ([NO, NO, NO, NO, NO], Verdict::EndsHere),
];

impl Facts {
    fn answers(self) -> [bool; 5] {
        [
            self.stops_below_witness,
            self.witness_off_boundary,
            self.demand_unmet,
            self.evidence_too_far,
            self.inside_batch,
        ]
    }

    fn fits(self, row: &Row) -> bool {
        self.answers().iter().zip(row.0).all(|(is, wanted)| wanted.is_none_or(|w| w == *is))
    }

    /// The verdict of the one row that fits.
    pub(super) fn verdict(self) -> Verdict {
        let row = TABLE.iter().find(|row| self.fits(row));
        // The test below proves that there always is a row.
        row.map_or(Verdict::Damaged("no verdict"), |row| row.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Facts> {
        (0..32_u8).map(|bits| Facts {
            stops_below_witness: bits & 1 != 0,
            witness_off_boundary: bits & 2 != 0,
            demand_unmet: bits & 4 != 0,
            evidence_too_far: bits & 8 != 0,
            inside_batch: bits & 16 != 0,
        })
    }

    #[test]
    fn every_combination_of_facts_has_exactly_one_row() {
        for facts in all() {
            assert_eq!(TABLE.iter().filter(|row| facts.fits(row)).count(), 1, "{facts:?}");
        }
    }

    #[test]
    fn every_row_is_needed() {
        for row in &TABLE {
            assert!(all().any(|facts| facts.fits(row)), "{row:?}");
        }
    }

    #[test]
    fn a_log_is_cut_only_when_nothing_speaks_for_damage() {
        for facts in all() {
            let suspicious = facts.stops_below_witness
                || facts.witness_off_boundary
                || facts.demand_unmet
                || facts.evidence_too_far;
            let refused = matches!(facts.verdict(), Verdict::Damaged(_));
            assert_eq!(refused, suspicious, "{facts:?}");
            if !refused {
                let at_batch = facts.verdict() == Verdict::EndsAtBatch;
                assert_eq!(at_batch, facts.inside_batch, "{facts:?}");
            }
        }
    }
}
