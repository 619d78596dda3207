//! What file systems promise about the moment the power goes.

/// Which states of a disk a power loss can leave behind.
///
/// A profile is a set of rules, not a copy of a file system: it allows everything that the named
/// one is known to do, and sometimes more. `Hostile` keeps nothing but what `sync` and `publish`
/// promise.
///
/// | | sector | names survive | new length | unsynced bytes | after a failed sync, the cache shows |
/// |---|---|---|---|---|---|
/// | `Ext4` | 512 | in order | only over bytes that are there | old or new | new bytes |
/// | `Ext4NoJournal` | 512 | any of them | any | old, new, zeros | new bytes |
/// | `Xfs` | 512 | in order | only over bytes that are there | old or new | new bytes |
/// | `Btrfs` | 4096 | in order | only over bytes that are there | old or new | old bytes |
/// | `PosixMinimal` | 1 | any of them | any | old, new, zeros, torn inside a sector | new bytes |
/// | `Hostile` | 512 | any of them | any | old, new, zeros, garbage, torn | new bytes |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Profile {
    /// ext4 with a journal, `data=ordered`.
    Ext4,
    /// ext4 without a journal.
    Ext4NoJournal,
    /// XFS.
    Xfs,
    /// btrfs: copy on write.
    Btrfs,
    /// What POSIX promises: next to nothing.
    PosixMinimal,
    /// Anything may be anything, unless it was synced.
    Hostile,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ext4,
        Self::Ext4NoJournal,
        Self::Xfs,
        Self::Btrfs,
        Self::PosixMinimal,
        Self::Hostile,
    ];

    /// Its name in lower case, as commands print and take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoJournal => "ext4-nojournal",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::PosixMinimal => "posix-minimal",
            Self::Hostile => "hostile",
        }
    }

    /// The one with this name.
    ///
    /// ```
    /// use cohort_wal::sim::Profile;
    ///
    /// assert_eq!(Profile::named("xfs"), Some(Profile::Xfs));
    /// for profile in Profile::ALL {
    ///     assert_eq!(Profile::named(profile.name()), Some(profile));
    /// }
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    pub(super) fn rules(self) -> Rules {
        let any_names = matches!(self, Self::Ext4NoJournal | Self::PosixMinimal | Self::Hostile);
        Rules {
            sector: if self == Self::Btrfs { 4096 } else { 512 },
            any_names,
            ordered_growth: !any_names,
            torn_sectors: matches!(self, Self::PosixMinimal | Self::Hostile),
            garbage: self == Self::Hostile,
            failed_sync_reverts: self == Self::Btrfs,
            overwriting_is_cheaper: matches!(self, Self::Ext4 | Self::Ext4NoJournal | Self::Xfs),
        }
    }
}

/// A profile, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Bytes that are written whole or not at all, unless sectors tear.
    pub(super) sector: usize,
    /// Names become durable in any order; otherwise those that do are a prefix.
    pub(super) any_names: bool,
    /// A file's new length never covers bytes that were not written yet.
    pub(super) ordered_growth: bool,
    /// A sector may hold the first bytes of one version and the last bytes of another.
    pub(super) torn_sectors: bool,
    /// An unsynced sector may hold what nobody ever wrote there.
    pub(super) garbage: bool,
    /// After a failed sync reading shows what is on the device, at once.
    pub(super) failed_sync_reverts: bool,
    pub(super) overwriting_is_cheaper: bool,
}
