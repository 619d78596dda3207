//! [`Place`]: the directory a benchmark runs in.
//!
//! It never deletes what it did not make: a directory named by the caller must be absent or empty,
//! and stays; one of our own making goes at the end, unless it holds evidence of a failure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The directory a benchmark runs in.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    remove: bool,
}

impl Place {
    /// Makes the directory. Fails with nothing changed when `named` holds anything.
    pub(crate) fn prepare(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(named) = named else {
            let path = PathBuf::from(format!("cohort-bench-{}", std::process::id()));
            return match fs::create_dir(&path) {
                Ok(()) => Ok(Self { path, remove: true }),
                Err(error) => Err(Failure::io("create", &path, error)),
            };
        };
        match fs::read_dir(named) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(Failure::Usage(format!(
                        "{} is not empty, and bench deletes nothing that it finds; empty it \
                         yourself or name another directory",
                        named.display()
                    )));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(named).map_err(|error| Failure::io("create", named, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Failure::Usage(format!("{} is not a directory", named.display())));
            }
            Err(error) => return Err(Failure::io("list", named, error)),
        }
        Ok(Self { path: named.to_path_buf(), remove: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is if a log was begun in it: something went wrong, and the
    /// log is the evidence.
    pub(crate) fn keep_if_written(&mut self) {
        let begun = fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_some());
        self.remove &= !begun;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            crate::output::complain(&Failure::io("remove", &self.path, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(result: Result<Place, Failure>) -> String {
        match result {
            Err(Failure::Usage(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_absent_or_empty_directory_is_taken_and_kept() {
        let outer = tempfile::tempdir().unwrap();
        let absent = outer.path().join("a/b");
        drop(Place::prepare(Some(&absent)).unwrap());
        drop(Place::prepare(Some(&absent)).unwrap());
        assert!(absent.is_dir());
    }

    #[test]
    fn a_directory_that_holds_anything_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("CONTROL");
        fs::write(&control, b"x").unwrap();
        assert!(usage(Place::prepare(Some(dir.path()))).contains("not empty"));
        assert!(usage(Place::prepare(Some(&control))).contains("not a directory"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
