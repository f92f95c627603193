// WHIP and WHEP in front of a server that has an interface of its own: one POST a session, the offer in, the answer out.
import http from "node:http";

const read = async (request) => {
  let text = "";
  for await (const part of request) text += part;
  return text;
};

// Listens on a port of 127.0.0.1 and says on standard output where, and which process is the server.
export async function open(pid, { publish, watch }) {
  let sessions = 0;
  const server = http.createServer(async (request, response) => {
    const [, room, door] = request.url.split("/");
    if (request.method === "DELETE") return response.writeHead(200).end();
    if (request.method !== "POST") return response.writeHead(404).end();
    try {
      const offer = await read(request);
      const answer = await (door === "whip" ? publish(room, offer) : watch(room, offer));
      const location = `/${room}/${door}/${sessions++}`;
      response.writeHead(201, { "Content-Type": "application/sdp", Location: location }).end(answer);
    } catch (error) {
      response.writeHead(500).end(String(error.stack ?? error));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}`, pid }));
}

// The value of the first line that begins with `a=name:`.
export const attribute = (sdp, name) =>
  sdp.split(/\r?\n/).find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3);
