//! A long run with people coming and going: nobody may be stuck, and the server's memory must not grow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Bench;
use crate::bench::viewer::Viewer;

/// Between two looks at everybody.
const LOOK: Duration = Duration::from_secs(1);
/// One receiver in so many leaves at each look, and another takes its place.
const TURNOVER: usize = 50;
/// Who has got nothing for so many looks is stuck. The first picture may take as long.
const PATIENCE: u32 = 5;
/// What an allocator may keep beside what is used, in bytes and as a part.
const SLACK: u64 = 8 << 20;
const SLACK_PART: u64 = 20;

/// One receiver's seat.
#[derive(Clone, Copy, Default)]
struct Seat {
    /// Packets at the last look, and looks since there were new ones.
    packets: u64,
    silent: u32,
}

/// Runs for `span`; an error says who was stuck, or how memory grew.
pub(super) fn run(bench: &mut Bench<'_>, span: Duration) -> anyhow::Result<()> {
    bench.begin()?;
    let count = bench.options.viewers.iter().copied().max().unwrap_or(1);
    bench.fill_audience(count)?;
    let mut seats = vec![Seat::default(); bench.parties.len()];
    let (end, mut next) = (Instant::now() + span, 0);
    let mut memory = VecDeque::new();
    let (before, mut lost, mut left) = (bench.usage()?, 0, 0);
    while Instant::now() < end {
        let missing = end.saturating_duration_since(Instant::now()).as_secs();
        let resident = bench.server.resident()?;
        bench.doing = format!("{count} receivers, {left} left, {} MiB, {missing} s to go", resident >> 20);
        memory.push_back(resident);
        for _ in 0..count.div_ceil(TURNOVER) {
            let number = 1 + next % count;
            next += 1;
            left += 1;
            lost += bench.parties[number].viewer().map_or(0, Viewer::lost);
            bench.exit(number);
            bench.enter(number, "bench", false)?;
            seats[number] = Seat::default();
        }
        bench.drive(Instant::now() + LOOK)?;
        look(bench, &mut seats)?;
    }
    let after = bench.usage()?;
    let sent = after.packets.zip(before.packets).map_or(0, |(after, before)| after - before);
    let (early, late) = growth(memory.make_contiguous())?;
    bench.progress.done(&format!("{count} receivers for {} s, {left} left and came", span.as_secs()));
    println!(
        "{sent} packets sent, {lost} lost to those who left, {} MiB early, {} MiB late",
        early >> 20,
        late >> 20
    );
    Ok(())
}

/// Everybody must have got something lately.
fn look(bench: &Bench<'_>, seats: &mut [Seat]) -> anyhow::Result<()> {
    for (number, (party, seat)) in bench.parties.iter().zip(seats).enumerate() {
        let Some(viewer) = party.viewer() else { continue };
        let waits = viewer.packets == seat.packets || viewer.first_picture.is_none();
        seat.silent = if waits { seat.silent + 1 } else { 0 };
        seat.packets = viewer.packets;
        anyhow::ensure!(
            seat.silent <= PATIENCE,
            "receiver {number} is stuck: {} packets, {}, {} for {PATIENCE} s",
            viewer.packets,
            if party.client.is_ready() { "connected" } else { "not connected" },
            if viewer.first_picture.is_none() { "no picture" } else { "nothing new" },
        );
    }
    Ok(())
}

/// Median memory of the second quarter and of the last.
fn growth(memory: &mut [u64]) -> anyhow::Result<(u64, u64)> {
    let quarter = memory.len() / 4;
    let mut median = |quarter_number: usize| {
        let part = &mut memory[quarter_number * quarter..(quarter_number + 1) * quarter];
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(0)
    };
    let (early, late) = (median(1), median(3));
    let allowed = early + early / SLACK_PART + SLACK;
    anyhow::ensure!(late <= allowed, "memory grew from {early} to {late} bytes");
    Ok((early, late))
}
