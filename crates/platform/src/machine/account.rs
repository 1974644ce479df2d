//! The user, and the groups that open doors: `docker` for the engine's socket, `sgx` and `sgx_prv` for the devices.
//!
//! A group that `/etc/group` grants counts from the next log-in on, which is worth saying apart. Users and groups from
//! elsewhere than the two files (LDAP, systemd-userdb) show only as numbers. Format: passwd(5), group(5).

use std::path::Path;

use super::text;

/// No such file is longer, in bytes; what comes after is not read.
const LONGEST: u64 = 1 << 20;

/// Who is asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The effective user; 0 may do everything.
    pub user: u32,
    /// The groups of this process.
    pub groups: Vec<u32>,
}

impl Account {
    /// The user and groups of this process.
    pub fn current() -> Account {
        let more = rustix::process::getgroups().unwrap_or_default();
        let groups = more.into_iter().chain([rustix::process::getegid()]);
        Account {
            user: rustix::process::geteuid().as_raw(),
            groups: groups.map(|group| group.as_raw()).collect(),
        }
    }
}

/// How an account stands to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Membership {
    /// `/etc/group` does not have the group.
    NoSuchGroup,
    /// This process is in it.
    Member,
    /// `/etc/group` says so, and this process is from before: log in anew.
    AfterLogin,
    /// Not in it.
    NotMember,
}

/// The accounts of a machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub(super) fn read(root: &Path) -> Accounts {
        Accounts {
            passwd: text(root, "/etc/passwd", LONGEST).unwrap_or_default(),
            group: text(root, "/etc/group", LONGEST).unwrap_or_default(),
        }
    }

    pub(super) fn user_name(&self, user: u32) -> Option<&str> {
        entries(&self.passwd).find(|(_, id, _)| *id == user).map(|(name, _, _)| name)
    }

    pub(super) fn group_name(&self, group: u32) -> Option<&str> {
        entries(&self.group).find(|(_, id, _)| *id == group).map(|(name, _, _)| name)
    }

    pub(super) fn membership(&self, account: &Account, group: &str) -> Membership {
        let Some((_, id, rest)) = entries(&self.group).find(|(name, _, _)| *name == group) else {
            return Membership::NoSuchGroup;
        };
        let user = self.user_name(account.user);
        if account.groups.contains(&id) {
            Membership::Member
        } else if rest.split(',').any(|name| Some(name) == user) {
            Membership::AfterLogin
        } else {
            Membership::NotMember
        }
    }
}

/// Name, number and what follows the number, of every line that has them.
fn entries(file: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    file.lines().filter_map(|line| {
        let mut fields = line.splitn(4, ':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id = fields.nth(1)?.parse().ok()?;
        Some((name, id, fields.next().unwrap_or_default()))
    })
}
