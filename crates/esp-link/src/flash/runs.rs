//! Which sectors go in one go.

use super::source::Sectors;
use super::{BLOCK, SECTOR};
use crate::error::LoaderError;

/// Sectors sent in one go, at most: what is compressed and held at once (1 MiB).
pub const WINDOW: u32 = 256;
/// A blank run of this many sectors is erased rather than sent.
const BLANK_RUN: u32 = 16;

/// A run of sectors to be written in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub first: u32,
    pub end: u32,
    pub blank: bool,
}

/// Cuts the differing sectors into runs of at most [`WINDOW`], broken where large erase blocks begin.
pub fn runs(differing: &[bool], start: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, _) in differing.iter().enumerate().filter(|(_, differs)| **differs) {
        let sector = index as u32;
        let aligned = (start + sector * SECTOR).is_multiple_of(BLOCK);
        match runs.last_mut() {
            Some(run) if run.end == sector && !(aligned && sector - run.first >= WINDOW - BLOCK / SECTOR) => {
                run.end += 1;
            }
            _ => runs.push(Run { first: sector, end: sector + 1, blank: false }),
        }
    }
    runs
}

/// Cuts long blank stretches out of a run.
pub fn split_blank(sectors: &mut Sectors, run: Run) -> Result<Vec<Run>, LoaderError> {
    let mut pieces: Vec<Run> = Vec::new();
    for sector in run.first..run.end {
        let blank = sectors.read(sector, 1)?.iter().all(|byte| *byte == 0xff);
        match pieces.last_mut() {
            Some(piece) if piece.blank == blank => piece.end = sector + 1,
            _ => pieces.push(Run { first: sector, end: sector + 1, blank }),
        }
    }
    // Short blank stretches go with their neighbours.
    let mut merged: Vec<Run> = Vec::new();
    for mut piece in pieces {
        piece.blank &= piece.end - piece.first >= BLANK_RUN;
        match merged.last_mut() {
            Some(last) if last.blank == piece.blank => last.end = piece.end,
            _ => merged.push(piece),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::super::source::Part;
    use super::*;

    #[test]
    fn runs_are_cut_at_gaps_and_windows() {
        let mut differing = vec![true; 600];
        differing[3] = false;
        let runs = runs(&differing, 0);
        assert_eq!((runs[0].first, runs[0].end), (0, 3));
        assert!(runs.iter().all(|run| run.end - run.first <= WINDOW));
        assert_eq!(runs.iter().map(|run| run.end - run.first).sum::<u32>(), 599);
        assert!(runs[1..].windows(2).all(|pair| (pair[1].first * SECTOR).is_multiple_of(BLOCK)));
    }

    #[test]
    fn long_blank_stretches_are_erased_not_sent() {
        let mut data = vec![0xff; 40 * SECTOR as usize];
        data[0] = 1;
        data[39 * SECTOR as usize] = 1;
        let mut part = Part::bytes(0, data);
        let mut sectors = Sectors::new(&mut part, Vec::new());
        let pieces = split_blank(&mut sectors, Run { first: 0, end: 40, blank: false }).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.blank).collect::<Vec<_>>(), [false, true, false]);
    }
}
