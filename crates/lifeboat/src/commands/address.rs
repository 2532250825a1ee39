//! Addresses that are typed: they never carry a password, since every user of a machine sees all command lines.

use lifeboat_app::redact;

use crate::error::CommandError;

/// Refuses an address with a secret in it, and does not repeat it.
pub(super) fn refuse_secret(address: &str) -> Result<(), CommandError> {
    if redact(address) == address {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "the address {} has a password in it, and every user of this machine sees command lines",
        redact(address)
    ))
    .hint("Put the password into ~/.pgpass, PGPASSWORD or the configuration."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        for fine in [
            "postgres://backup@db/shop",
            "host=db dbname=shop",
            "/srv/shop",
            "sqlite:/srv/a.db",
        ] {
            assert!(refuse_secret(fine).is_ok(), "{fine}");
        }
        for secret in [
            "postgres://backup:hunter2@db/shop",
            "host=db password=hunter2",
        ] {
            let error = refuse_secret(secret).unwrap_err();
            assert!(!error.facts().message.contains("hunter2"), "{error:?}");
        }
    }
}
