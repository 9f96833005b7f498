//! What `hnsw.target_recall` needs: pairs of ef_search and the recall that the build measured with it on held-out rows.
//!
//! 144 bytes of the metapage: count u16, k u16, samples u32, rows u32, 4 reserved, then 16 × (ef u16, 2 reserved,
//! recall f32), ascending in ef.

use super::bytes::{get_f32, get_u16, get_u32, put_f32, put_u16, put_u32, Page};
use super::error::PageError;

/// The most points.
pub const MAX_POINTS: usize = 16;
const HEAD_BYTES: usize = 16;
const POINT_BYTES: usize = 8;
pub(super) const CALIBRATION_BYTES: usize = HEAD_BYTES + MAX_POINTS * POINT_BYTES;

/// A measured pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationPoint {
    pub ef_search: u16,
    /// Share of the k nearest that were found, 0 to 1.
    pub recall: f32,
}

/// The table; empty if nothing was measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// Neighbours asked for.
    pub k: u16,
    /// Held-out queries.
    pub samples: u32,
    /// Nodes in the index when it was measured: how old the table is.
    pub rows: u32,
    points: Vec<CalibrationPoint>,
}

impl Calibration {
    /// A table of these points, ascending in ef, at most [`MAX_POINTS`].
    pub fn new(k: u16, samples: u32, rows: u32, points: Vec<CalibrationPoint>) -> Result<Self, PageError> {
        if points.len() > MAX_POINTS {
            return Err(PageError::Value { field: "calibration points", found: points.len() as u64 });
        }
        let ascending = points.windows(2).all(|pair| matches!(pair, [a, b] if a.ef_search < b.ef_search));
        let first = points.first().map_or(1, |point| point.ef_search);
        if !ascending || first == 0 {
            return Err(PageError::Value { field: "calibrated ef_search", found: u64::from(first) });
        }
        if let Some(point) = points.iter().find(|point| !(0.0..=1.0).contains(&point.recall)) {
            let found = u64::from(point.recall.to_bits());
            return Err(PageError::Value { field: "calibrated recall", found });
        }
        Ok(Calibration { k, samples, rows, points })
    }

    pub fn points(&self) -> &[CalibrationPoint] {
        &self.points
    }

    pub(super) fn encode(&self, page: &mut Page, at: usize) {
        put_u16(page, at, self.points.len() as u16);
        put_u16(page, at + 2, self.k);
        put_u32(page, at + 4, self.samples);
        put_u32(page, at + 8, self.rows);
        for (point, at) in self.points.iter().zip((at + HEAD_BYTES..).step_by(POINT_BYTES)) {
            put_u16(page, at, point.ef_search);
            put_f32(page, at + 4, point.recall);
        }
    }

    pub(super) fn decode(page: &Page, at: usize) -> Result<Self, PageError> {
        let count = usize::from(get_u16(page, at));
        if count > MAX_POINTS {
            return Err(PageError::Value { field: "calibration points", found: count as u64 });
        }
        let reserved = |at: usize, zero: bool| if zero { Ok(()) } else { Err(PageError::Reserved(at as u32)) };
        reserved(at + 12, get_u32(page, at + 12) == 0)?;
        let mut points = Vec::with_capacity(count);
        for (index, at_point) in (at + HEAD_BYTES..).step_by(POINT_BYTES).take(MAX_POINTS).enumerate() {
            reserved(at_point + 2, get_u16(page, at_point + 2) == 0)?;
            let (ef_search, recall) = (get_u16(page, at_point), get_f32(page, at_point + 4));
            if index < count {
                points.push(CalibrationPoint { ef_search, recall });
            } else {
                reserved(at_point, ef_search == 0 && recall.to_bits() == 0)?;
            }
        }
        Calibration::new(get_u16(page, at + 2), get_u32(page, at + 4), get_u32(page, at + 8), points)
    }
}
