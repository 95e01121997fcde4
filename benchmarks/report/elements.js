// Elements and numbers: what the other scripts make the page of. Text is only ever set as text.

const results = JSON.parse(document.getElementById("results").textContent);
const NONE = "–";

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

// Columns as rows: an object for each.
const rows = (() => {
  const names = Object.keys(results.scores);
  const length = names.length ? results.scores[names[0]].length : 0;
  return Array.from({ length }, (_, i) => Object.fromEntries(names.map((name) => [name, results.scores[name][i]])));
})();

const distinct = (values) => [...new Set(values)];
const labelName = (label) => results.titles[label] || label;
const unitOf = (label) => results.units[label] || "";
const regimeTitle = (regime) => (results.regimes[regime] ? results.regimes[regime].title : regime);

// Decimals for a label's errors: three digits of a typical scatter, so that a column lines up.
const decimals = {};
function decimalsOf(label) {
  if (!(label in decimals)) {
    const known = rows.filter((row) => row.label === label && row.sigma > 0).map((row) => row.sigma);
    known.sort((a, b) => a - b);
    const typical = known.length ? known[known.length >> 1] : 1;
    decimals[label] = Math.min(Math.max(2 - Math.floor(Math.log10(typical)), 0), 3);
  }
  return decimals[label];
}

function fixed(value, digits) {
  return value
    .toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace(/^-/, /[1-9]/.test(value.toFixed(digits)) ? "\u2212" : "");
}

// A value as the page shows it; kinds are those of benchmarks/report/measures.py.
function shown(value, kind, label) {
  if (value == null || value === "") return NONE;
  if (typeof value !== "number") return String(value);
  if (kind === "label") return fixed(value, decimalsOf(label));
  if (kind === "share") return `${fixed(100 * value, 1)} %`;
  if (kind === "ratio") return fixed(value, 3);
  if (kind === "integer") return fixed(value, 0);
  if (kind === "seconds") return fixed(value, value < 100 ? 1 : 0);
  return String(value).replace("-", "\u2212");
}

function interval(low, high, label) {
  if (low == null || high == null) return null;
  const between = low < 0 || high < 0 ? " to " : "\u2013";
  return shown(low, "label", label) + between + shown(high, "label", label);
}

// What significance says of a row: nothing, that no head is better, that it is ahead in its row, or of all heads.
const MARKS = [
  null,
  ["≈", "no head is significantly better"],
  ["★", "significantly better than the other strategies of its row"],
  ["★★", "significantly better than all other heads"],
];
const AHEAD = 2;
const markOf = (row) => (row.best ? 3 : row.best_of_row ? 2 : row.tied ? 1 : 0);

function mark(number) {
  if (!number) return null;
  const [sign, words] = MARKS[number];
  return element(
    "span",
    { class: number < AHEAD ? "mark muted" : "mark", title: words },
    element("span", { "aria-hidden": "true" }, sign),
    element("span", { class: "hidden" }, ` (${words})`),
  );
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (chosen != null) select.value = chosen;
}
