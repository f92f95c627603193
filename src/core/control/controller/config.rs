//! Settings of the control protocol as it is offered outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::core::auth::Authority;

/// The `control` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Address and port for controllers. Default `127.0.0.1:4080`; `null` turns it off.
    pub listen: Option<SocketAddr>,
    /// Address and port for controllers over TLS, with the certificate of `http.tls`. Default none.
    pub tls_listen: Option<SocketAddr>,
    /// Let `listen` be an address that other machines reach, where passwords go unencrypted. Default false.
    pub allow_plain: bool,
    /// Path of a UNIX socket for controllers, made with mode 0600. Default none.
    pub unix: Option<PathBuf>,
    /// Take controllers as WebSockets at `/control` of the HTTP listener, where some key has the action
    /// `control`. Default true.
    pub websocket: bool,
    /// Controllers at once. Default 64.
    pub max_controllers: usize,
    /// Connections that have not said who they are, all together; the next one ends the oldest. Default 1,024.
    pub max_half_open: usize,
    /// Such connections of one address (IPv6: one /64), loopback excepted. Default 32.
    pub max_half_open_per_address: usize,
    /// Bytes of one message of a controller. Default 65,536.
    pub max_message_bytes: usize,
    /// Requests of one controller that wait for their answers; more are not read. Default 256.
    pub max_open_requests: usize,
    /// Bytes that may wait to be read by one controller; at half of it nothing is read from it any more, beyond
    /// it the connection is closed. Default 8,388,608.
    pub max_queued_bytes: usize,
    /// Routers, transports, producers and consumers of one controller. Default 65,536.
    pub max_entities: usize,
    /// Watches of one controller. Default 64.
    pub max_watches: usize,
    /// Milliseconds from the connection (TLS included) to the first request, or to `Authenticate` where that is
    /// needed. Default 10,000.
    pub greeting_timeout_ms: u64,
    /// Milliseconds without a byte of a controller after which it is closed; 0: never, it may only listen.
    /// Default 0.
    pub idle_timeout_ms: u64,
    /// Milliseconds in which a controller must take some of what waits for it. Default 30,000.
    pub write_timeout_ms: u64,
    /// Milliseconds between signs of life that are asked of a silent controller's system (TCP) or its WebSocket.
    /// Default 20,000.
    pub keepalive_ms: u64,
    /// Wrong passwords of one address before the next is not looked at. Default 10.
    pub max_failures: u32,
    /// Milliseconds until wrong passwords are forgotten. Default 60,000.
    pub failure_window_ms: u64,
    /// Let controllers make workers fail (`x.worker.fail`), to rehearse it. Default false.
    pub drills: bool,
    /// Milliseconds that routers and rooms can outlive their controller at most, where it asked so. Default
    /// 300,000.
    pub max_linger_ms: u64,
}

impl Default for ControlConfig {
    fn default() -> Self {
        ControlConfig {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 4080))),
            tls_listen: None,
            allow_plain: false,
            unix: None,
            websocket: true,
            max_controllers: 64,
            max_half_open: 1_024,
            max_half_open_per_address: 32,
            max_message_bytes: 65_536,
            max_open_requests: 256,
            max_queued_bytes: 8 << 20,
            max_entities: 65_536,
            max_watches: 64,
            greeting_timeout_ms: 10_000,
            idle_timeout_ms: 0,
            write_timeout_ms: 30_000,
            keepalive_ms: 20_000,
            max_failures: 10,
            failure_window_ms: 60_000,
            drills: false,
            max_linger_ms: 300_000,
        }
    }
}

/// Why a `control` section is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlConfigError {
    /// Anybody could take the gateway over.
    #[error(
        "control.{0} can be reached by other machines: then a key in auth.keys needs the action `control`, \
         or anybody could control the gateway"
    )]
    Open(&'static str),
    /// Passwords would be seen.
    #[error(
        "control.listen can be reached by other machines, and passwords would go to it unencrypted: use \
         control.tls_listen, or say control.allow_plain: true where the network is private"
    )]
    Plain,
}

impl ControlConfig {
    /// Refuses what would let strangers in.
    pub fn validate(&self, authority: &Authority) -> Result<(), ControlConfigError> {
        for (name, address) in [("listen", self.listen), ("tls_listen", self.tls_listen)] {
            if reached(address) && !authority.knows_controllers() {
                return Err(ControlConfigError::Open(name));
            }
        }
        if reached(self.listen) && !self.allow_plain { Err(ControlConfigError::Plain) } else { Ok(()) }
    }

    /// `greeting_timeout_ms`.
    pub fn greeting_timeout(&self) -> Duration {
        Duration::from_millis(self.greeting_timeout_ms)
    }

    /// `idle_timeout_ms`, unless it is 0.
    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_ms > 0).then(|| Duration::from_millis(self.idle_timeout_ms))
    }

    /// `write_timeout_ms`.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// `keepalive_ms`.
    pub fn keepalive(&self) -> Duration {
        Duration::from_millis(self.keepalive_ms.max(1_000))
    }

    /// `failure_window_ms`.
    pub fn failure_window(&self) -> Duration {
        Duration::from_millis(self.failure_window_ms)
    }
}

/// Whether other machines reach an address.
fn reached(address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| !address.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::auth::{Action, AuthConfig, KeyConfig, Secret};

    fn authority(actions: &[Action]) -> Authority {
        let key = KeyConfig {
            name: "a".into(),
            key: Some(Secret::new("b")),
            key_file: None,
            key_sha256: None,
            rooms: vec!["*".into()],
            actions: actions.to_vec(),
            methods: vec!["*".into()],
        };
        Authority::new(&AuthConfig { keys: vec![key], ..AuthConfig::default() }, None).expect("a key")
    }

    #[test]
    fn what_strangers_reach_needs_keys_and_encryption() {
        let (none, some) = (authority(&[Action::Publish]), authority(&[Action::Control]));
        let address = |text: &str| Some(text.parse().expect("an address"));
        let default = ControlConfig::default();
        assert_eq!(default.validate(&none), Ok(()));
        for own in ["[::1]:4080", "127.0.0.9:1", "[::ffff:127.0.0.1]:5"] {
            assert_eq!(ControlConfig { listen: address(own), ..default.clone() }.validate(&none), Ok(()));
        }
        for public in ["0.0.0.0:4080", "[::]:4080", "192.0.2.1:4080"] {
            let plain = ControlConfig { listen: address(public), ..default.clone() };
            assert_eq!(plain.validate(&none), Err(ControlConfigError::Open("listen")));
            assert_eq!(plain.validate(&some), Err(ControlConfigError::Plain));
            let allowed = ControlConfig { allow_plain: true, ..plain };
            assert_eq!(allowed.validate(&some), Ok(()));
            assert_eq!(allowed.validate(&none), Err(ControlConfigError::Open("listen")));
            let tls = ControlConfig { tls_listen: address(public), ..default.clone() };
            assert_eq!(tls.validate(&some), Ok(()));
            assert_eq!(tls.validate(&none), Err(ControlConfigError::Open("tls_listen")));
        }
    }
}
