//! Which way media or a header extension goes, as whoever states it sees it (RFC 8866 §6.7).

/// See the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// Only from the one who states it.
    SendOnly,
    /// Only to it.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Reads its word.
    pub fn read(word: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| direction.word() == word)
    }

    /// Its word in SDP and in RTP parameters.
    pub fn word(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Whether the one who states it sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether it receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}
