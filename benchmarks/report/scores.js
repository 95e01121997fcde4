// All numbers: a long table that sorts and filters.

{
  const FIRST = 100; // rows drawn at first: thousands would hold up the page
  const form = document.getElementById("scores-controls");
  const table = document.getElementById("scores-table");
  const status = document.getElementById("scores-status");
  const more = document.getElementById("scores-more");
  const names = ["label", "regime", "size", "group", "input"];
  const words = {
    label: labelName,
    regime: regimeTitle,
    size: (size) => fixed(size, 0),
    input: (input) => input || "none",
  };
  // what learns nothing from the target stands once, with the fewest stars
  const least = Math.min(...rows.filter((row) => row.group === "head").map((row) => row.size));
  const once = rows.filter(
    (row) => row.group !== "head" || row.size === least || !results.untuned.includes(row.strategy),
  );
  let sorted = null; // { column, descending }
  let whole = false;

  const order = {
    label: (value) => results.labels.indexOf(value),
    regime: (value) => Object.keys(results.regimes).indexOf(value),
  };

  function sortValue(row, column) {
    if (column.kind === "mark") return markOf(row);
    const value = row[column.name];
    if (column.name === "rank" && !value) return null; // only heads have one
    return typeof value === "boolean" ? Number(value) : value;
  }

  function compare(one, other, column) {
    const a = sortValue(one, column);
    const b = sortValue(other, column);
    const lacking = (value) => value == null || value === "";
    // always last, whichever way the column is sorted
    if (lacking(a) || lacking(b)) return lacking(a) && lacking(b) ? 0 : lacking(a) ? Infinity : -Infinity;
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (order[column.name] && order[column.name](a) !== order[column.name](b))
      return order[column.name](a) - order[column.name](b);
    return String(a).localeCompare(String(b), "en");
  }

  function chosen() {
    const found = once.filter((row) =>
      names.every((name) => form[name].value === "all" || JSON.stringify(row[name]) === form[name].value),
    );
    if (sorted) {
      const sign = sorted.descending ? -1 : 1;
      found.sort((a, b) => {
        const difference = compare(a, b, sorted.column);
        return Number.isFinite(difference) ? sign * difference : Math.sign(difference);
      });
    }
    return found;
  }

  function cellOf(row, column) {
    if (column.kind === "text") {
      const text =
        column.name === "label"
          ? labelName(row.label)
          : column.name === "regime"
            ? regimeTitle(row.regime)
            : row[column.name];
      return element(
        column.name === "strategy" ? "th" : "td",
        { scope: column.name === "strategy" ? "row" : null },
        text || NONE,
      );
    }
    const cell = element("td", { class: "number" });
    if (column.kind === "mark") cell.append(mark(markOf(row)) || "");
    else if (column.kind === "range")
      cell.append(interval(row[column.name], row[column.name.replace("_low", "_high")], row.label) || NONE);
    else if (column.name === "rank") cell.append(row.rank > 0 ? fixed(row.rank, 0) : NONE);
    else cell.append(shown(row[column.name], column.kind, row.label));
    return cell;
  }

  function draw() {
    const found = chosen();
    const drawn = whole ? found : found.slice(0, FIRST);
    table.tBodies[0].replaceChildren(
      ...drawn.map((row) => element("tr", {}, ...results.columns.map((column) => cellOf(row, column)))),
    );
    const by = sorted ? `, sorted by ${sorted.column.title}, ${sorted.descending ? "descending" : "ascending"}` : "";
    status.textContent = `${fixed(drawn.length, 0)} of ${fixed(found.length, 0)} rows${by}.`;
    more.hidden = drawn.length === found.length;
  }

  function sortBy(column, header) {
    sorted = { column, descending: Boolean(sorted && sorted.column === column && !sorted.descending) };
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
    draw();
  }

  const headers = results.columns.map((column) => {
    const button = element("button", { type: "button" }, column.title);
    const header = element(
      "th",
      { scope: "col", class: column.kind === "text" ? null : "number", "data-column": column.name },
      button,
    );
    button.addEventListener("click", () => sortBy(column, header));
    return header;
  });
  table.tHead.append(element("tr", {}, ...headers));
  for (const name of names) {
    const values = distinct(rows.map((row) => row[name]));
    if (name === "size") values.sort((a, b) => a - b);
    // as JSON, so that numbers and texts stay what they are, and no value is taken for "all"
    fill(form[name], [
      ["all", "all"],
      ...values.map((value) => [JSON.stringify(value), (words[name] || String)(value)]),
    ]);
  }
  form.addEventListener("change", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("scores-reset").addEventListener("click", () => {
    form.reset();
    draw();
  });
  more.addEventListener("click", () => {
    whole = true;
    draw();
  });
  draw();
}
