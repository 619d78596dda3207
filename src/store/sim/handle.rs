//! The calls: a simulated disk as a [`WalStore`], and its open files.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::disk::Id;
use super::{Landing, SimCall, SimFaultKind, SimStore, State, index, locate};
use crate::store::file::check_name;
use crate::store::{StoreFile, WalStore};
use crate::sync::{Mutex, pause_in_io, slow_io};

/// What is left of a call after its fault has been looked at.
struct Turn {
    fault: Option<SimFaultKind>,
}

impl Turn {
    /// It goes on as if nothing were wrong, and fails at the end if it must.
    fn late(&self) -> io::Result<()> {
        match self.fault {
            Some(SimFaultKind::Slow) => slow_io(),
            Some(kind @ SimFaultKind::Late(_)) => return kind.error().map_or(Ok(()), Err),
            _ => {}
        }
        Ok(())
    }
}

impl SimStore {
    /// Begins a call: counts it, and lets its fault strike. `partly` does what a call that fails
    /// half-way has done.
    fn turn(
        &self,
        call: SimCall,
        name: impl Fn(&super::Disk) -> String,
        partly: impl FnOnce(&mut State, SimFaultKind),
    ) -> io::Result<Turn> {
        pause_in_io();
        let mut state = self.0.lock();
        let fault = state.strike(call, name);
        let Some(kind) = fault else { return Ok(Turn { fault }) };
        match kind {
            SimFaultKind::Error(_) | SimFaultKind::Errno(_) | SimFaultKind::Short(_) => {
                partly(&mut state, kind);
                drop(state);
                kind.error().map_or(Ok(Turn { fault }), Err)
            }
            SimFaultKind::Panic => {
                drop(state);
                panic!("a simulated panic in {call:?}");
            }
            SimFaultKind::Slow => {
                drop(state);
                slow_io();
                Ok(Turn { fault })
            }
            _ => Ok(Turn { fault }),
        }
    }

    fn plain(&self, call: SimCall, name: &str) -> io::Result<Turn> {
        self.turn(call, |_| name.to_owned(), |_, _| {})
    }

    fn handle(&self, id: Id) -> SimFile {
        SimFile { store: self.clone(), id, locks: Mutex::new(false) }
    }
}

/// Every call but [`WalStore::locate`] can be struck by a fault. Names are refused as in
/// [`FileStore`](crate::FileStore).
impl WalStore for SimStore {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let turn = self.plain(SimCall::List, "")?;
        let names = self.0.lock().disk.names.keys().map(ToString::to_string).collect();
        turn.late().map(|()| names)
    }

    fn create(&self, _bytes: u64) -> io::Result<SimFile> {
        let turn = self.plain(SimCall::Create, "")?;
        let mut state = self.0.lock();
        if !state.has_room(1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.disk.create();
        state.handles.insert(id, 1);
        state.moment();
        drop(state);
        let file = self.handle(id);
        turn.late().map(|()| file)
    }

    /// # Errors
    /// `InvalidInput` when the file has a name already.
    fn publish(&self, file: &SimFile, name: &str) -> io::Result<()> {
        check_name(name)?;
        let allowed = |state: &State| {
            if state.disk.names.values().any(|id| *id == file.id) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the file has a name already",
                ));
            }
            if state.disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(())
        };
        let link = |state: &mut State| {
            state.disk.link(file.id, name);
            state.moment();
        };
        let half = |state: &mut State, kind: SimFaultKind| {
            // No space means that there is no name: the contract of `publish`.
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            let named = matches!(kind, SimFaultKind::Short(kind) if !full.contains(&kind));
            if named && allowed(state).is_ok() {
                link(state);
            }
        };
        let turn = self.turn(SimCall::Publish, |_| name.to_owned(), half)?;
        let mut state = self.0.lock();
        allowed(&state)?;
        link(&mut state);
        drop(state);
        pause_in_io();
        let mut state = self.0.lock();
        state.disk.sync_names();
        state.collect();
        state.moment();
        drop(state);
        turn.late()
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        check_name(name)?;
        let turn = self.plain(SimCall::Open, name)?;
        let mut state = self.0.lock();
        let id = *state.disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        *state.handles.entry(id).or_default() += 1;
        drop(state);
        let file = self.handle(id);
        turn.late().map(|()| file)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let turn = self.plain(SimCall::Remove, name)?;
        let mut state = self.0.lock();
        state.disk.unlink(name)?;
        state.moment();
        drop(state);
        turn.late()
    }

    fn lock(&self, file: &SimFile) -> io::Result<bool> {
        let turn = self.turn(SimCall::Lock, |disk| file.name(disk), |_, _| {})?;
        let mut locks = file.locks.lock();
        if !*locks {
            *locks = self.0.lock().locked.insert(file.id);
        }
        turn.late().map(|()| *locks)
    }

    fn unlock(&self, file: &SimFile) -> io::Result<()> {
        let turn = self.turn(SimCall::Unlock, |disk| file.name(disk), |_, _| {})?;
        file.unlock();
        turn.late()
    }

    fn sync_names(&self) -> io::Result<()> {
        let turn = self.plain(SimCall::SyncNames, "")?;
        let mut state = self.0.lock();
        state.disk.sync_names();
        state.collect();
        state.moment();
        drop(state);
        turn.late()
    }

    fn sync_place(&self) -> io::Result<()> {
        let turn = self.plain(SimCall::SyncPlace, "")?;
        let mut state = self.0.lock();
        state.disk.place_is_durable = true;
        state.moment();
        drop(state);
        turn.late()
    }

    fn sweep(&self) -> io::Result<usize> {
        let turn = self.plain(SimCall::Sweep, "")?;
        let mut state = self.0.lock();
        let swept = std::mem::take(&mut state.leftovers);
        let State { disk, handles, .. } = &mut *state;
        disk.retain(|id, inode| inode.published || handles.contains_key(id));
        drop(state);
        turn.late().map(|()| swept)
    }

    fn locate(&self, name: &str) -> PathBuf {
        locate(name)
    }

    fn overwriting_is_cheaper(&self) -> bool {
        self.0.lock().rules.overwriting_is_cheaper
    }

    /// From the seed: a run can be repeated exactly.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.lock().rng.fill(bytes);
        Ok(())
    }
}

/// An open file of a [`SimStore`].
pub struct SimFile {
    store: SimStore,
    pub(super) id: Id,
    locks: Mutex<bool>,
}

impl SimFile {
    fn name(&self, disk: &super::Disk) -> String {
        disk.name_of(self.id).unwrap_or("unpublished").to_owned()
    }

    fn unlock(&self) {
        if std::mem::take(&mut *self.locks.lock()) {
            self.store.0.lock().locked.remove(&self.id);
        }
    }

    fn turn(
        &self,
        call: SimCall,
        partly: impl FnOnce(&mut State, SimFaultKind),
    ) -> io::Result<Turn> {
        self.store.turn(call, |disk| self.name(disk), partly)
    }

    /// What a fault makes of a write on its way to the device.
    fn landing(state: &State, fault: Option<SimFaultKind>, len: usize) -> Landing {
        match fault {
            Some(SimFaultKind::Flip) => Landing::Flipped(state.lie().below(len * 8)),
            Some(SimFaultKind::Lose) => Landing::Lost,
            Some(SimFaultKind::Misdirect) => {
                Landing::Misdirected(state.lie().below(64) * state.rules.sector)
            }
            _ => Landing::Faithful,
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.unlock();
        let mut state = self.store.0.lock();
        if let Some(handles) = state.handles.get_mut(&self.id) {
            *handles -= 1;
            if *handles == 0 {
                state.handles.remove(&self.id);
                state.collect();
            }
        }
    }
}

impl StoreFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = index(offset)?;
        let turn = self.turn(SimCall::Write, |state, kind| {
            let half = &bytes[..bytes.len() / 2];
            if matches!(kind, SimFaultKind::Short(_)) && !half.is_empty() {
                state.disk.write(self.id, start, half, Landing::Faithful).ok();
                state.moment();
            }
        })?;
        if bytes.is_empty() {
            return turn.late();
        }
        let mut state = self.store.0.lock();
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let more = end.saturating_sub(state.disk.bytes(self.id).len());
        if more > 0 && !state.has_room(more as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let landing = Self::landing(&state, turn.fault, bytes.len());
        state.disk.write(self.id, start, bytes, landing)?;
        state.moment();
        drop(state);
        turn.late()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let turn = self.turn(SimCall::Read, |_, _| {})?;
        let mut state = self.store.0.lock();
        let rest = usize::try_from(offset).ok();
        let rest = rest.and_then(|start| state.disk.bytes(self.id).get(start..));
        let rest = rest.unwrap_or_default();
        let mut read = rest.len().min(bytes.len());
        if turn.fault == Some(SimFaultKind::Less) && read > 1 {
            read /= 2;
        }
        bytes[..read].copy_from_slice(&rest[..read]);
        state.bytes_read += read as u64;
        if turn.fault == Some(SimFaultKind::Flip) && read > 0 {
            let bit = state.lie().below(read * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        drop(state);
        turn.late().map(|()| read)
    }

    fn sync(&self) -> io::Result<()> {
        let mark = self.store.0.lock().disk.mark(self.id);
        let turn = self.turn(SimCall::Sync, |state, _| {
            let State { disk, rng, rules, .. } = state;
            disk.fail_sync(self.id, rng, rules.failed_sync_reverts, rules.sector);
            state.moment();
        })?;
        let mut state = self.store.0.lock();
        if turn.fault == Some(SimFaultKind::Lose) {
            state.disk.forget_pending(self.id);
        } else {
            state.disk.sync(self.id, mark)?;
        }
        state.moment();
        drop(state);
        turn.late()
    }

    fn len(&self) -> io::Result<u64> {
        let turn = self.turn(SimCall::Len, |_, _| {})?;
        let len = self.store.0.lock().disk.bytes(self.id).len() as u64;
        turn.late().map(|()| len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = index(len)?;
        let turn = self.turn(SimCall::SetLen, |_, _| {})?;
        let mut state = self.store.0.lock();
        let more = len.saturating_sub(state.disk.bytes(self.id).len());
        if more > 0 && !state.has_room(more as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.disk.set_len(self.id, len)?;
        state.moment();
        drop(state);
        turn.late()
    }
}
