// Where a client of generation 3 connects.

/** The WebSocket of a room. */
export function roomUrl(server, room, id, token = server.key) {
  const query = new URLSearchParams({ roomId: room, peerId: id, ...(token && { token }) });
  return `ws://127.0.0.1:${server.http}/ws?${query}`;
}
