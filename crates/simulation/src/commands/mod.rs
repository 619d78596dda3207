//! What each command does.

pub(crate) mod calls;
pub(crate) mod damage;
pub(crate) mod enumerate;
mod work;
