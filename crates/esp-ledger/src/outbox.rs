//! The chain of events as an outbox: what a receiver has not confirmed yet.

use crate::LedgerError;
use crate::ledger::Ledger;
use crate::record::{EVENT_COLUMNS, Event, event};

impl Ledger {
    /// The next events of this station that `sink` has not confirmed, in their order.
    pub fn pending(&mut self, sink: &str, limit: i64) -> Result<Vec<Event>, LedgerError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM event WHERE station = $1 \
             AND seq > coalesce((SELECT max(seq) FROM outbox WHERE station = $1 AND sink = $2), 0) ORDER BY seq LIMIT $3"
        );
        let station = self.station().to_owned();
        Ok(self
            .tx(|tx| tx.rows(&sql, &[station.as_str().into(), sink.into(), limit.into()]))?
            .iter()
            .map(event)
            .collect())
    }

    /// `sink` has confirmed everything up to this event of this station. It never goes back.
    pub fn confirmed(&mut self, sink: &str, seq: i64) -> Result<(), LedgerError> {
        let sql = "INSERT INTO outbox (sink, station, seq) VALUES ($1, $2, $3) \
                   ON CONFLICT (sink, station) DO UPDATE SET seq = excluded.seq WHERE outbox.seq < excluded.seq";
        let station = self.station().to_owned();
        self.tx(|tx| tx.run(sql, &[sink.into(), station.as_str().into(), seq.into()]).map(drop))
    }
}
