//! SIP as the server sees it: its ports, and the words a phone's password is kept as.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail};

use crate::core::control::Rooms;
use crate::http;
use crate::sip::io::{Door, SipHandle};
use crate::sip::session::registrar::user_line;

/// What `viaduct hash-password` is asked.
#[derive(clap::Args)]
pub struct Password {
    /// The user who registers with it.
    user: String,
    /// The realm, `sip.realm` of the configuration.
    #[arg(long, default_value = "viaduct")]
    realm: String,
}

impl Password {
    /// Reads a password from standard input and prints the line for `sip.users_file`.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.user.is_empty() || self.user.contains([':', '"', ' ']) || self.realm.contains([':', '"']) {
            bail!(
                "a user has no colon, quotation mark or space in its name, a realm no colon or quotation mark"
            );
        }
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("Password of {} (it is shown as you type):", self.user);
        }
        let mut line = String::new();
        input.lock().read_line(&mut line).context("cannot read the password")?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            bail!("an empty password");
        }
        println!("{}", user_line(&self.user, &self.realm, password));
        Ok(())
    }
}

/// Opens the SIP door, where there is one.
pub(super) async fn open(door: Option<Door>, rooms: &Rooms) -> anyhow::Result<Option<SipHandle>> {
    match door {
        Some(door) => Ok(Some(door.open(rooms.clone(), http::RESERVED).await?)),
        None => Ok(None),
    }
}
