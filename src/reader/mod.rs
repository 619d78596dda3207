//! Reading: records in LSN order, from the files, in blocks.
//!
//! Owns no watermark and writes nothing. A cursor reads up to an end that was fixed when it was
//! made; bytes beyond it do not exist for it.

mod bell;
mod beside;
mod boundary;
mod decode;
mod follow;
mod iter;
mod readonly;
mod record;
mod salvage;
#[cfg(feature = "stream")]
mod stream;
#[cfg(feature = "postcard")]
mod typed;
mod watch;

pub(crate) use bell::Bell;
pub use bell::Stopper;
pub(crate) use beside::{Beside, unopened};
pub(crate) use boundary::Boundary;
pub use follow::Follow;
pub(crate) use follow::{Reached, Source};
pub use iter::WalIter;
pub(crate) use readonly::iterate;
pub use readonly::{SegmentInfo, WalReader};
pub use record::{Record, RecordRef};
pub use salvage::Salvage;
