// CPU of a core against receivers, a line a server, as SVG.
const [width, height] = [720, 420];
const margin = { left: 56, right: 200, top: 24, bottom: 48 };
const colours = ["#0b6e4f", "#63b995", "#c8553d", "#3d5a80", "#8d6a9f", "#7d7d7d"];

// Round steps of which about `count` fill `most`.
function step(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
}

export function plot(results) {
  const stages = results.flatMap(({ stages }) => stages);
  const most = { x: Math.max(...stages.map(({ receivers }) => receivers)), y: Math.max(...stages.map(({ cpuOfACore }) => cpuOfACore * 100)) };
  const x = (value) => margin.left + (value / most.x) * (width - margin.left - margin.right);
  const y = (value) => height - margin.bottom - (value / most.y) * (height - margin.top - margin.bottom);
  const out = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`, `<rect width="${width}" height="${height}" fill="#fff"/>`];
  for (let value = 0, each = step(most.y, 5); value <= most.y; value += each) {
    out.push(`<path d="M${x(0)} ${y(value)}H${x(most.x)}" stroke="#ddd"/><text x="${margin.left - 8}" y="${y(value) + 4}" text-anchor="end">${value}</text>`);
  }
  for (let value = 0, each = step(most.x, 5); value <= most.x; value += each) {
    out.push(`<text x="${x(value)}" y="${height - margin.bottom + 18}" text-anchor="middle">${value}</text>`);
  }
  out.push(`<text x="${x(most.x / 2)}" y="${height - 10}" text-anchor="middle">receivers of one 2 Mbit/s stream</text>`);
  out.push(`<text x="14" y="${y(most.y / 2)}" text-anchor="middle" transform="rotate(-90 14 ${y(most.y / 2)})">CPU, % of a core</text>`);
  results.forEach(({ name, stages }, index) => {
    const colour = colours[index % colours.length];
    const points = stages.map(({ receivers, cpuOfACore }) => `${x(receivers).toFixed(1)},${y(cpuOfACore * 100).toFixed(1)}`);
    out.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    points.forEach((point) => out.push(`<circle cx="${point.split(",")[0]}" cy="${point.split(",")[1]}" r="3" fill="${colour}"/>`));
    const line = margin.top + 12 + 20 * index;
    out.push(`<path d="M${width - margin.right + 12} ${line - 4}h18" stroke="${colour}" stroke-width="2"/><text x="${width - margin.right + 36}" y="${line}">${name}</text>`);
  });
  return `${out.join("\n")}\n</svg>\n`;
}
