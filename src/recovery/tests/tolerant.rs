//! Reading around what cannot be read.

use std::io;

use crate::recovery::tolerant::Tolerant;
use crate::scan::to_u64;
use crate::store::StoreFile;

const PAGE: u64 = 4096;

/// Three pages and a bit, of which one cannot be read.
struct Bad {
    page: u64,
    kind: io::ErrorKind,
}

const LEN: u64 = 3 * PAGE + 100;

impl StoreFile for Bad {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let room = LEN.saturating_sub(offset).min(to_u64(bytes.len()));
        let bad = self.page * PAGE..(self.page + 1) * PAGE;
        if offset < bad.end && bad.start < offset + room {
            return Err(self.kind.into());
        }
        let room = usize::try_from(room).unwrap();
        bytes[..room].fill(1);
        Ok(room)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(LEN)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_page_that_cannot_be_read_costs_that_page_and_is_remembered() {
    for page in 0..4 {
        let file = Tolerant::new(Bad { page, kind: io::ErrorKind::Other }, true);
        for offset in [0, 8, PAGE - 8, PAGE, 2 * PAGE + 16] {
            let len = usize::try_from(LEN - offset).unwrap();
            let mut bytes = vec![9; len + 50];
            assert!(file.read_at(offset, &mut bytes).unwrap() >= len);
            for (at, byte) in (offset..LEN).zip(&bytes) {
                let readable = at / PAGE != page;
                assert_eq!(*byte, u8::from(readable), "{page} {offset} {at}");
            }
            let lost = offset < (page + 1) * PAGE;
            assert_eq!(file.take_error(&(0..u64::MAX)).is_some(), lost, "{page} {offset}");
        }
    }
}

#[test]
fn an_error_is_told_for_its_place_and_not_for_another() {
    let file = Tolerant::new(Bad { page: 1, kind: io::ErrorKind::Other }, true);
    let mut bytes = [0; 3 * 4096];
    file.read_at(0, &mut bytes).unwrap();
    assert!(file.take_error(&(0..PAGE)).is_none());
    assert!(file.take_error(&(PAGE + 8..2 * PAGE)).is_some());
    assert!(file.take_error(&(0..u64::MAX)).is_none(), "told once");
}

#[test]
fn memory_and_who_is_not_tolerant_get_the_error() {
    let mut bytes = [0; 4096];
    let short = Tolerant::new(Bad { page: 0, kind: io::ErrorKind::OutOfMemory }, true);
    assert!(short.read_at(0, &mut bytes).is_err());
    let exact = Tolerant::new(Bad { page: 0, kind: io::ErrorKind::Other }, false);
    assert!(exact.read_at(0, &mut bytes).is_err());
}
