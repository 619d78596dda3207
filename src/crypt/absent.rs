//! A build that cannot encrypt.

use super::{CHECK_BYTES, Context, Place, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::sync::Arc;

const MISSING: WalError = WalError::FeatureMissing { feature: "aead" };

/// What there is none of.
#[derive(Debug)]
pub(crate) enum Cipher {}

/// What there is none of either.
#[derive(Debug, Clone)]
pub(crate) enum ActiveKey {}

impl ActiveKey {
    pub(crate) fn id(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn cipher(&self, _context: &Context) -> Arc<Cipher> {
        match *self {}
    }
}

impl Cipher {
    pub(crate) fn key(&self) -> &ActiveKey {
        match *self {}
    }

    pub(crate) fn prove(&self, _header: &[u8]) -> [u8; CHECK_BYTES] {
        match *self {}
    }

    pub(crate) fn seal(&self, _place: Place, _body: &mut [u8]) -> [u8; TAG_BYTES] {
        match *self {}
    }

    pub(crate) fn open(&self, _place: Place, _body: &mut [u8], _tag: &[u8]) -> bool {
        match *self {}
    }
}

/// No keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(());

impl Keys {
    pub(crate) fn is_on(&self) -> bool {
        false
    }

    pub(crate) fn are_required(&self) -> bool {
        false
    }

    pub(crate) fn active(&self) -> Result<Option<ActiveKey>> {
        Ok(None)
    }

    pub(crate) fn cipher(&self, _id: u32, _context: &Context) -> Result<Arc<Cipher>> {
        Err(MISSING)
    }
}
