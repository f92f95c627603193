//! How much flows: bytes by the time of their arrival, or of their sending, over the last half second.

/// Microseconds of one slot.
const SLOT_MICROS: i64 = 50_000;
/// Slots that are looked at.
const SLOTS: usize = 10;

/// See the module.
#[derive(Debug, Default)]
pub struct ArrivalRate {
    slots: [u32; SLOTS],
    /// Number of the newest slot, once something arrived.
    newest: Option<i64>,
    /// Slots that were lived through, up to all.
    filled: usize,
}

impl ArrivalRate {
    /// `bytes` arrived at `at` microseconds of the receiver's clock.
    pub fn add(&mut self, at: i64, bytes: u16) {
        let slot = at.div_euclid(SLOT_MICROS);
        let newest = *self.newest.get_or_insert(slot);
        let ahead = slot - newest;
        if ahead <= -(SLOTS as i64) {
            return;
        }
        for step in 1..=ahead.min(SLOTS as i64) {
            self.slots[index(newest + step)] = 0;
        }
        if ahead > 0 {
            self.newest = Some(slot);
            self.filled = self.filled.saturating_add(ahead as usize).min(SLOTS - 1);
        }
        self.slots[index(slot)] += u32::from(bytes);
    }

    /// Bits per second, once there is enough to tell. The slot that is being filled does not count.
    pub fn bitrate(&self) -> Option<f64> {
        let newest = self.newest?;
        if self.filled < 4 {
            return None;
        }
        let bytes: u32 = (1..=self.filled as i64).map(|back| self.slots[index(newest - back)]).sum();
        Some(f64::from(bytes) * 8.0 * 1e6 / (self.filled as f64 * SLOT_MICROS as f64))
    }

    /// Bits per second within the half second up to `at`.
    pub fn bitrate_at(&self, at: i64) -> u64 {
        let Some(newest) = self.newest else { return 0 };
        let oldest = at.div_euclid(SLOT_MICROS) - SLOTS as i64;
        let within = (newest - SLOTS as i64 + 1..=newest).filter(|slot| *slot > oldest);
        let bytes: u64 = within.map(|slot| u64::from(self.slots[index(slot)])).sum();
        bytes * 8 * 1_000_000 / (SLOTS as i64 * SLOT_MICROS) as u64
    }
}

fn index(slot: i64) -> usize {
    slot.rem_euclid(SLOTS as i64) as usize
}
