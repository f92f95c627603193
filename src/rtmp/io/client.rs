//! Connections that we make: to the target, through TLS and the protocol's opening, up to the moment at which session
//! and socket can go to a worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::core::egress::EgressError;
use crate::core::io::egress::Egress;
use crate::core::session::Session;
use crate::core::time::Epoch;
use crate::rtmp::io::{Ending, until};
use crate::rtmp::{RtmpClient, RtmpConfig, RtmpError, RtmpUrl, TlsSession, Wish};

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// We may not, or cannot, get there.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// What is there is no address, or TLS cannot begin.
    #[error(transparent)]
    Rtmp(#[from] RtmpError),
    /// The server did not agree.
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    /// Whether trying again may help.
    pub fn is_expected(&self) -> bool {
        match self {
            ClientError::Egress(error) => error.is_expected(),
            ClientError::Rtmp(error) => !matches!(error, RtmpError::BadUrl(_)),
            ClientError::Failed(_) => true,
        }
    }
}

/// A connection whose server agreed.
pub struct Connected {
    /// The session.
    pub session: Box<dyn Session>,
    /// Its socket.
    pub socket: OwnedFd,
    /// The server takes Opus.
    pub takes_opus: bool,
}

/// Everything that connections we make share.
pub struct Connector {
    /// The way out.
    pub egress: Arc<Egress>,
    /// Bounds.
    pub config: Arc<RtmpConfig>,
    /// The node's clock.
    pub epoch: Epoch,
}

/// A session as it is driven until the server has agreed.
trait Half: Session + Sized + 'static {
    fn client(&mut self) -> &mut RtmpClient;
}

impl Half for RtmpClient {
    fn client(&mut self) -> &mut RtmpClient {
        self
    }
}

impl Half for TlsSession<RtmpClient> {
    fn client(&mut self) -> &mut RtmpClient {
        self.inner_mut()
    }
}

/// How far an attempt came.
enum Reached {
    There(Connected),
    Elsewhere(String),
}

impl Connector {
    /// Connects to `url` for `wish`, wherever that leads within the rules.
    pub async fn connect(&self, mut url: RtmpUrl, wish: Wish) -> Result<Connected, ClientError> {
        for _ in 0..=self.egress.max_redirects() {
            match self.reach(url.clone(), wish).await? {
                Reached::There(connected) => return Ok(connected),
                Reached::Elsewhere(to) => url = url.moved(&to)?,
            }
        }
        Err(ClientError::Failed("the server sends us from one address to the next".to_owned()))
    }

    async fn reach(&self, url: RtmpUrl, wish: Wish) -> Result<Reached, ClientError> {
        let socket = self.egress.connect(url.host(), url.port()).await?;
        let _ = socket.set_nodelay(true);
        let client = RtmpClient::new(self.config.clone(), self.epoch, Instant::now(), url.clone(), wish);
        match url.is_tls() {
            false => self.agree(socket, client).await,
            true => {
                let session = TlsSession::connect(self.egress.tls(), url.host(), client)?;
                self.agree(socket, session).await
            }
        }
    }

    async fn agree<S: Half>(
        &self,
        mut socket: tokio::net::TcpStream,
        mut session: S,
    ) -> Result<Reached, ClientError> {
        let failed = |reason: String| ClientError::Failed(reason);
        let patience = self.config.publish_timeout();
        let agreed = until(&mut socket, &mut session, patience, |session| {
            let client = session.client();
            client.is_ready().then(|| client.takes_opus())
        });
        let agreed = agreed.await;
        if let Some(url) = session.client().take_redirect() {
            return Ok(Reached::Elsewhere(url));
        }
        let takes_opus = agreed.map_err(|ending| match ending {
            Ending::Quiet(reason) => failed(reason.to_owned()),
            Ending::Refused(reason) | Ending::Broken(reason) => failed(reason),
        })?;
        let socket = socket.into_std().map_err(|error| failed(error.to_string()))?;
        let session: Box<dyn Session> = Box::new(session);
        Ok(Reached::There(Connected { session, socket: OwnedFd::from(socket), takes_opus }))
    }
}
