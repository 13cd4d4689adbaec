//! The way to a console, in this process or in the daemon.

use std::io::{self, BufReader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::daemon::{Connection, Place};
use super::ring::Piece;
use super::session::{About, Order, Reading, State, Wish};
use super::wire::{self, Answer, Ask};

/// Longest wait that is left to the daemon: others may use the connection in between.
const SLICE: Duration = Duration::from_millis(500);

/// A console that can be read; counts as one of its readers.
pub enum Link {
    /// In this process.
    Here(Reading),
    /// In the daemon.
    There(There),
}

/// A connection to the daemon that has joined a console.
pub struct There {
    place: Arc<Place>,
    wish: Option<Wish>,
    url: String,
    connection: Mutex<BufReader<Connection>>,
}

impl There {
    pub(super) fn new(place: Arc<Place>, wish: Option<Wish>, url: String, connection: BufReader<Connection>) -> Self {
        Self { place, wish, url, connection: Mutex::new(connection) }
    }

    fn ask(&self, ask: &Ask) -> io::Result<Answer> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        super::daemon::ask(&mut connection, ask)
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("the daemon answered otherwise than asked: {answer:?}"))
}

fn done(answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused { kind, why } => Err(wire::refused(&kind, why)),
        other => Err(unexpected(&other)),
    }
}

impl Link {
    /// What can be said of it.
    pub fn about(&self) -> io::Result<About> {
        match self {
            Self::Here(reading) => Ok(reading.session().about()),
            Self::There(there) => match there.ask(&Ask::About)? {
                Answer::About(about) => Ok(about),
                other => Err(unexpected(&other)),
            },
        }
    }

    /// At most `most` bytes from `from` on, waiting for the first one at most `wait`.
    pub fn read(&self, from: u64, most: usize, wait: Duration) -> io::Result<(Piece, State)> {
        match self {
            Self::Here(reading) => Ok(reading.session().read(from, most, wait)),
            Self::There(there) => {
                let wait_ms = wait.min(SLICE).as_millis() as u64;
                match there.ask(&Ask::Read { from, most, wait_ms })? {
                    Answer::Piece { piece, state } => Ok((piece, state)),
                    other => Err(unexpected(&other)),
                }
            }
        }
    }

    /// Has something done on the line.
    pub fn order(&self, order: Order) -> io::Result<()> {
        match self {
            Self::Here(reading) => reading.session().order(order),
            Self::There(there) => done(there.ask(&Ask::Do(order))?),
        }
    }

    /// It goes on when its last reader leaves.
    pub fn keep(&self) -> io::Result<()> {
        match self {
            Self::Here(reading) => {
                reading.session().keep();
                Ok(())
            }
            Self::There(there) => done(there.ask(&Ask::Keep)?),
        }
    }

    /// Ends it, for all readers.
    pub fn close(&self) -> io::Result<()> {
        match self {
            Self::Here(reading) => {
                reading.session().close();
                Ok(())
            }
            Self::There(there) => done(there.ask(&Ask::Close)?),
        }
    }

    /// Another reader of the same console.
    pub fn another(&self) -> io::Result<Self> {
        match self {
            Self::Here(reading) => Ok(Self::Here(reading.clone())),
            Self::There(there) => match there.place.join(&there.url)? {
                Some(Self::There(other)) => Ok(Self::There(There { wish: there.wish.clone(), ..other })),
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    /// After its daemon has died: the same console again, in a new one. `None` where that cannot be.
    pub(super) fn again(&self) -> Option<Self> {
        let Self::There(there) = self else { return None };
        let wish = Wish { reset: false, ..there.wish.clone()? };
        there.place.open(&wish).ok()?.ok()
    }
}
