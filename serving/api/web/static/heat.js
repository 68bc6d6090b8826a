// Tables whose cells have the more colour the more weight they have, which they tell in figures too.

const STRONG = 0.55; // from here on a cell has so much colour that its text needs another

/**
 * Makes what a table consists of.
 *
 * @param {string[]} columns Their headings.
 * @param {string[]} rows Their headings.
 * @param {number[][]} weights Of each row, from 0 to 1.
 * @returns {HTMLElement[]} The head and the body.
 */
export function heatRows(columns, rows, weights) {
  const head = document.createElement("thead");
  head.append(row([cell("td", ""), ...columns.map((text) => heading(text, "col"))]));
  const body = document.createElement("tbody");
  body.append(...rows.map((text, place) => row([heading(text, "row"), ...weights[place].map(shaded)])));
  return [head, body];
}

function row(cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function heading(text, scope) {
  const made = cell("th", text);
  made.scope = scope;
  return made;
}

function shaded(weight) {
  const figure = weight.toFixed(2);
  const made = cell("td", Number(figure) ? figure.replace(/^0/, "") : "");
  made.style.setProperty("--weight", String(weight));
  made.classList.toggle("strong", weight > STRONG);
  return made;
}
