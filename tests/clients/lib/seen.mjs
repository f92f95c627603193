// What a party of a room sees, hears and is told, as conditions to wait for.

import { until } from "./server.mjs";

/** For the first of it, after joining on a busy machine. */
const PATIENCE = 30_000;
/** As long as this without a picture, a stream of fifteen or more a second stands still. */
const STILL = 500;

/** What a party has seen of `key` so far. */
export const watched = async (party, key) => (await party.do("report")).watched[key];

/** Resolves once `count` new pictures of source `id` came. */
export async function pictures(party, key, id, count = 10) {
  const before = (await watched(party, key))?.frames.length ?? 0;
  return until(`${count} pictures of ${key}`, async () => {
    const frames = (await watched(party, key))?.frames.slice(before) ?? [];
    return frames.filter((frame) => frame.id === id).length >= count && frames;
  }, PATIENCE).catch(async (error) => {
    const { events, watched: seen } = await party.do("report");
    const { frames, ...rest } = seen[key] ?? {};
    const state = { rest, events: events.slice(-10), errors: party.log };
    throw new Error(`${error.message}: ${frames?.length} frames ${JSON.stringify(state)}`);
  });
}

/** Resolves once it hears a tone of `hertz` there. */
export const tone = (party, key, hertz) =>
  until(`${hertz} Hz of ${key}`, async () => {
    const heard = (await watched(party, key))?.tone;
    return heard && Math.abs(heard.hertz - hertz) <= 8 && heard.decibel > -50;
  }, PATIENCE);

/** Resolves with the first event of a party that begins so. */
export const event = (party, ...wanted) =>
  until(`the event ${wanted}`, async () => {
    const { events } = await party.do("report");
    return events.find((found) => wanted.every((word, at) => found[at] === word));
  });

/** Resolves once no picture comes any more. */
export async function still(party, key) {
  let last = { count: -1 };
  await until(`${key} stands still`, async () => {
    const count = (await watched(party, key)).frames.length;
    if (count !== last.count) last = { count, at: Date.now() };
    return Date.now() - last.at >= STILL;
  });
}

/** The notifications of a method that a party of generation 2 was sent. */
export const told = (party, method) => party.seat.told.filter((notification) => notification.method === method);
