//! What a log must say, as text: one line for each fact, one for each record.

use std::fmt::Write as _;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions};

use super::independent::log::{Item, Log};
use super::independent::{Files, Refusal, Verdict};
use super::store_of;

/// What a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) head: u64,
    pub(crate) end: u64,
    pub(crate) verdict: Verdict,
    /// Of a log that opens.
    pub(crate) opened: Option<Opened>,
    pub(crate) items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) witness: u64,
    pub(crate) is_closed: bool,
    pub(crate) image: Option<(u64, Vec<u8>)>,
}

impl Said {
    /// What the reader of its own saw; its image is whole in all that is golden.
    pub(crate) fn by_reader(log: &Log) -> Result<Self, Refusal> {
        let Log { head, witness, end, is_closed, verdict, ref items, ref image } = *log;
        let opened = match verdict {
            Verdict::Refused(_) => None,
            _ => Some(Opened { witness, is_closed, image: image.clone()? }),
        };
        Ok(Self { head, end, verdict, opened, items: items.clone() })
    }

    /// What the crate says of a copy in `dir` and of one in memory; its files stay as they are.
    pub(crate) fn by_crate(
        files: &Files,
        dir: &std::path::Path,
        options: &WalOptions,
    ) -> cohort_wal::Result<Self> {
        let salvage = options.clone().salvage(dir)?;
        let (head, end) = (salvage.head_lsn().get(), salvage.end_lsn().get());
        let items: Vec<_> = salvage.map(item).collect::<Result<_, _>>()?;
        let wal = match options.clone().open_store(store_of(files)) {
            Err(WalError::Corruption { start, .. }) => {
                let verdict = Verdict::Refused(start.get());
                return Ok(Self { head, end, verdict, opened: None, items });
            }
            opened => opened?,
        };
        let (head_of_wal, end_of_wal) = (wal.head_lsn().get(), wal.end_lsn().get());
        assert_eq!((head_of_wal, end_of_wal), (head, end), "salvage and opening agree");
        let (records, flaw) = records(&wal)?;
        let shown = items.iter().map_while(|item| match item {
            Item::Record(lsn, payload) => Some((*lsn, payload.clone())),
            _ => None,
        });
        assert_eq!(records, shown.collect::<Vec<_>>(), "salvage and iteration agree");
        let verdict = match (flaw, wal.recovery().torn_at) {
            (Some(lsn), _) => Verdict::Flawed(lsn.get()),
            (None, Some(torn_at)) => {
                assert_eq!(torn_at.get(), end, "it is cut at its end");
                Verdict::Torn
            }
            (None, None) => Verdict::Whole,
        };
        let image = match wal.snapshots()?.latest()? {
            Some(mut snapshot) => {
                let mut image = Vec::new();
                let read = std::io::Read::read_to_end(&mut snapshot, &mut image);
                read.map_err(|_| WalError::Closed)?;
                Some((snapshot.lsn().get(), image))
            }
            None => None,
        };
        let reader = options.clone().open_read_only(dir)?;
        let witness = reader.end_lsn().get();
        assert_eq!(reader.head_lsn(), wal.head_lsn());
        assert_eq!(reader.is_clean(), wal.recovery().clean, "closed, say both");
        let mut witnessed = reader.iter()?;
        for (lsn, payload) in records.iter().filter(|(lsn, _)| *lsn < witness) {
            let record = witnessed.next().ok_or(WalError::NotARecord { lsn: Lsn::new(*lsn) })??;
            assert_eq!((record.lsn().get(), record.data()), (*lsn, &payload[..]), "read only");
        }
        assert!(witnessed.next().is_none_or(|next| next.is_err()), "nothing above the witness");
        let opened = Some(Opened { witness, is_closed: wal.recovery().clean, image });
        Ok(Self { head, end, verdict, opened, items })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text =
            format!("head {}\nend {}\nverdict {:?}\n", self.head, self.end, self.verdict);
        if let Some(Opened { witness, is_closed, image }) = &self.opened {
            let closed = if *is_closed { "yes" } else { "no" };
            let snapshot =
                image.as_ref().map_or("none".to_owned(), |(lsn, image)| line(*lsn, image));
            write!(text, "witness {witness}\nclosed {closed}\nsnapshot {snapshot}\n").ok();
        }
        writeln!(text, "records").ok();
        for item in &self.items {
            match item {
                Item::Record(lsn, payload) => writeln!(text, "{}", line(*lsn, payload)).ok(),
                Item::Lost(from, to) => writeln!(text, "{from} lost up to {to}").ok(),
                Item::Tampered(lsn) => writeln!(text, "{lsn} tampered").ok(),
            };
        }
        text
    }
}

/// LSN, length and checksum.
fn line(lsn: u64, bytes: &[u8]) -> String {
    format!("{lsn} {} {:08x}", bytes.len(), crc32c::crc32c(bytes))
}

/// What salvage found.
fn item(found: cohort_wal::Result<cohort_wal::Record>) -> cohort_wal::Result<Item> {
    match found {
        Ok(record) => Ok(Item::Record(record.lsn().get(), record.into_data())),
        Err(WalError::Corruption { start, end, .. }) => Ok(Item::Lost(start.get(), end.get())),
        Err(WalError::Tampered { lsn }) => Ok(Item::Tampered(lsn.get())),
        Err(other) => Err(other),
    }
}

type Records = Vec<(u64, Vec<u8>)>;

/// All records up to damage, and where that is.
pub(crate) fn records(wal: &Wal<MemStore>) -> cohort_wal::Result<(Records, Option<Lsn>)> {
    let mut records = Vec::new();
    for record in wal.iter()? {
        match record {
            Ok(record) => records.push((record.lsn().get(), record.into_data())),
            Err(WalError::Corruption { start: lsn, .. } | WalError::Tampered { lsn }) => {
                return Ok((records, Some(lsn)));
            }
            Err(other) => return Err(other),
        }
    }
    Ok((records, None))
}
