//! Accounts of this machine, as far as PostgreSQL's conventions need them: the name behind a user id (libpq's
//! default role), its home folder (`.pgpass`, `.postgresql/`), and the ids behind a name (the account that runs a
//! throw-away server when we are root).
//!
//! Read from `/etc/passwd` alone. Accounts of a network directory are not found there; `USER` and `HOME` then decide.

use std::path::PathBuf;

/// One line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) user_id: u32,
    pub(crate) group_id: u32,
    pub(crate) home: PathBuf,
}

impl Account {
    /// The account that this process acts as.
    pub(crate) fn current() -> Option<Self> {
        let user_id = rustix::process::geteuid().as_raw();
        accounts()
            .into_iter()
            .find(|account| account.user_id == user_id)
    }

    /// The account called `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        accounts().into_iter().find(|account| account.name == name)
    }
}

fn accounts() -> Vec<Account> {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Vec<Account> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let user_id = fields.nth(1)?.parse().ok()?;
            let group_id = fields.next()?.parse().ok()?;
            let home = PathBuf::from(fields.nth(1)?);
            Some(Account {
                name,
                user_id,
                group_id,
                home,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_password_file_become_accounts_and_broken_ones_are_passed_over() {
        let accounts = parse(
            "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres:x:101:104:a,b:/var/lib/postgresql:/bin/sh\n",
        );
        assert_eq!(accounts.len(), 2);
        assert_eq!(accounts[1].name, "postgres");
        assert_eq!(accounts[1].user_id, 101);
        assert_eq!(accounts[1].group_id, 104);
        assert_eq!(accounts[1].home, PathBuf::from("/var/lib/postgresql"));
    }
}
