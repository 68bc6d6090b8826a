// What the model attends to: asked of the server when somebody opens the map, and not before.
import { heatRows } from "/heat.js";

const at = (id) => document.getElementById(id);

let wanted = null; // what to ask when the map is opened
let running = null; // AbortController of what was asked

/**
 * Offers the map of a translation in place of the one before.
 *
 * @param {?object} request The TranslateRequest in JSON that gave it; null where the model does not tell its attention.
 * @param {object} headers With the token, if there is one.
 */
export function offerAttention(request, headers) {
  running?.abort();
  wanted = request && { request: { ...request, include_alignments: false, include_attention: true }, headers };
  at("attention").hidden = !request;
  at("attention-status").textContent = "";
  at("attention-maps").replaceChildren();
  open();
}

at("attention").addEventListener("toggle", open);

async function open() {
  if (!wanted || !at("attention").open) return;
  const asked = wanted;
  const own = (running = new AbortController());
  wanted = null;
  at("attention-status").textContent = "Asking…";
  try {
    const { translations } = await ask(asked, own.signal);
    draw(translations[0].hypotheses[0].attention);
    at("attention-status").textContent = "";
  } catch (error) {
    if (own.signal.aborted) return;
    wanted = asked; // when it is opened again
    at("attention-status").textContent = error.message;
  }
}

async function ask({ request, headers }, signal) {
  const response = await fetch("/v1/translate", {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

function draw(parts) {
  at("attention-maps").replaceChildren(...parts.map((part, index) => map(part, `Part ${index + 1} of ${parts.length}`)));
}

function map({ source, target, weights }, title) {
  const rows = target.map((_, place) => weights.slice(place * source.length, (place + 1) * source.length));
  const table = document.createElement("table");
  const caption = document.createElement("caption");
  const scroller = document.createElement("div");
  caption.textContent = title;
  table.className = "heat";
  table.append(caption, ...heatRows(source.map(shown), target.map(shown), rows));
  scroller.className = "scroller";
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "region");
  scroller.setAttribute("aria-label", `Attention, ${title.toLowerCase()}`);
  scroller.append(table);
  return scroller;
}

/** A piece without the sign that SentencePiece has for a space. */
const shown = ({ text }) => text.replaceAll("\u2581", " ").trim() || "␣";
