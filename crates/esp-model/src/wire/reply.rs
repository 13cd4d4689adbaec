//! What the loader sends back.

use super::Status;

/// A decoded reply frame: header and body. Where the status bytes stand depends on the loader (see [`Reply::split`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Code of the command this answers.
    pub command: u8,
    /// The value word: a register's content, or 0.
    pub value: u32,
    /// Data, then the status bytes.
    pub body: Vec<u8>,
}

impl Reply {
    /// Direction byte of a reply.
    pub const DIRECTION: u8 = 0x01;

    /// A reply with `data` and `status`, as a loader whose status is `status_len` bytes long sends it.
    pub fn new(command: u8, value: u32, data: &[u8], status: Status, status_len: usize) -> Self {
        let mut body = data.to_vec();
        body.extend_from_slice(&[status.failed, status.code]);
        body.resize(data.len() + status_len.max(2), 0);
        Self { command, value, body }
    }

    /// The frame's payload: direction, command, body length, value, body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.body.len());
        out.push(Self::DIRECTION);
        out.push(self.command);
        out.extend_from_slice(&(self.body.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.value.to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads a frame's payload. `None` when it is no reply.
    ///
    /// The length field is not trusted (ROMs are known to send it wrong): the frame's own end counts.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let (head, body) = frame.split_first_chunk::<8>()?;
        if head[0] != Self::DIRECTION {
            return None;
        }
        Some(Self {
            command: head[1],
            value: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            body: body.to_vec(),
        })
    }

    /// Splits the body into `data_len` bytes of data and the status behind them.
    ///
    /// A failed command has no data: when the body is too short, the status is looked for at its start.
    /// `None` when there is no status at all.
    pub fn split(&self, data_len: usize) -> Option<(&[u8], Status)> {
        let status = |at: usize| {
            let bytes = self.body.get(at..at + 2)?;
            Some(Status { failed: bytes[0], code: bytes[1] })
        };
        match status(data_len) {
            Some(found) => Some((&self.body[..data_len], found)),
            None => status(0).filter(|s| !s.is_ok()).map(|s| (&self.body[..0], s)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_a_round_trip() {
        let reply = Reply::new(0x13, 0, &[7; 16], Status::OK, 2);
        assert_eq!(Reply::decode(&reply.encode()), Some(reply));
    }

    #[test]
    fn status_follows_the_data_or_stands_alone() {
        let good = Reply::new(0x14, 0, &[1; 20], Status::OK, 4);
        assert_eq!(good.split(20), Some((&[1u8; 20][..], Status::OK)));
        let refused = Reply::new(0x14, 0, &[], Status::INVALID, 2);
        assert_eq!(refused.split(20), Some((&[][..], Status::INVALID)));
        let cut = Reply { command: 1, value: 0, body: vec![0] };
        assert_eq!(cut.split(0), None);
    }
}
