// What every page uses: small helpers for the page, the room's name, tokens, the API.

export const $ = (id) => document.getElementById(id);

/** Makes an element: el("a", {href: "/", class: "button"}, "All rooms"). */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The room that this page is about: the first segment of its path. */
export const roomOfPage = () => decodeURIComponent(location.pathname.split("/")[1] ?? "");

export const isRoomName = (name) => /^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}$/.test(name);

/** Tokens stay in this tab: never in an address, where logs and neighbours would see them. */
export const tokens = {
  get(what) {
    try { return sessionStorage.getItem(`viaduct.${what}`) ?? ""; } catch { return ""; }
  },
  set(what, token) {
    try {
      if (token) sessionStorage.setItem(`viaduct.${what}`, token);
      else sessionStorage.removeItem(`viaduct.${what}`);
    } catch { /* the browser keeps nothing: asked for again next time */ }
  },
};

/** Asks the API; null when it says no, undefined when it cannot be reached. */
export async function ask(path, token) {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return undefined;
  }
}

/** A value with a button that copies it. */
export function copyable(text) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    button.classList.toggle("done", done);
    setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); }, 1600);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* plain HTTP: the clipboard is closed, the old way may still work */ }
  const area = el("textarea", { readonly: true, class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Host with port for an address that others type. */
export function hostWith(port, usual) {
  const host = location.hostname.includes(":") && !location.hostname.startsWith("[") ? `[${location.hostname}]` : location.hostname;
  return port && port !== usual ? `${host}:${port}` : host;
}

export const sleep = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});
