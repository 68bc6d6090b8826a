// The words of a text and of its translation, which of them belong together, and how much.
import { heatRows } from "/heat.js";

const textOf = (word) => word.text;
const at = (id) => document.getElementById(id);

/** Shows the words of a hypothesis, their links and the map. Offsets count code points, not JavaScript's units. */
export function showWords(text, hypothesis) {
  const links = hypothesis.alignment;
  const source = wordsOf([...text], links, "source");
  const target = wordsOf([...hypothesis.text], links, "target");
  const weights = target.map((to) => source.map((from) => (joined(links, from, to) ? 1 : 0)));
  const sides = { source: buttons("source-words", source), target: buttons("target-words", target) };
  wire(sides.target, sides.source, target, source, (one, other) => weights[one][other], "comes from");
  wire(sides.source, sides.target, source, target, (one, other) => weights[other][one], "becomes");
  at("map-table").replaceChildren(...heatRows(source.map(textOf), target.map(textOf), weights));
}

const joined = (links, from, to) =>
  links.some((link) => link.source_start === from.start && link.target_start === to.start);

/** Words as the links have them, and between them whatever else stands between white space. */
function wordsOf(characters, links, side) {
  const spans = new Map(links.map((link) => [link[`${side}_start`], link[`${side}_end`]]));
  const words = [];
  for (let start = 0; start < characters.length; ) {
    if (/\s/u.test(characters[start])) {
      start += 1;
      continue;
    }
    let end = spans.get(start) ?? start;
    while (end === start || (!spans.has(start) && end < characters.length && !/\s/u.test(characters[end]) && !spans.has(end))) {
      end += 1;
    }
    words.push({ start, end, text: characters.slice(start, end).join("") });
    start = end;
  }
  return words;
}

function buttons(id, words) {
  const made = words.map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word.text;
    button.tabIndex = index === 0 ? 0 : -1;
    return button;
  });
  at(id).replaceChildren(...made);
  return made;
}

function wire(own, others, ownWords, otherWords, weight, verb) {
  const mark = (index) => {
    own.forEach((button, place) => button.classList.toggle("current", place === index));
    const linked = otherWords.filter((_, place) => weight(index, place) > 0);
    others.forEach((button, place) => button.classList.toggle("linked", weight(index, place) > 0));
    const found = linked.map((word) => `“${word.text}”`).join(" and ");
    at("link").textContent = `“${ownWords[index].text}” ${found ? `${verb} ${found}.` : "stands for itself."}`;
  };
  const unmark = () => [...own, ...others].forEach((button) => button.classList.remove("current", "linked"));
  own.forEach((button, index) => {
    button.addEventListener("pointerenter", () => (unmark(), mark(index)));
    button.addEventListener("focus", () => (unmark(), mark(index)));
    button.addEventListener("pointerleave", unmark);
    button.addEventListener("blur", unmark);
    button.addEventListener("keydown", (event) => {
      const places = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: own.length - 1 };
      const next = own[places[event.key]];
      if (!next) return;
      event.preventDefault();
      own.forEach((other) => (other.tabIndex = other === next ? 0 : -1));
      next.focus();
    });
  });
}
