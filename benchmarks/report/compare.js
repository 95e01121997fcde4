// The comparison: inputs by methods, at one size and regime.

{
  const form = document.getElementById("compare-controls");
  const table = document.getElementById("compare-table");
  const caption = document.getElementById("compare-caption");
  const key = (...parts) => JSON.stringify(parts);
  const cells = new Map(
    rows.map((row) => [key(row.group, row.input, row.strategy, row.size, row.label, row.regime), row]),
  );
  const labels = results.labels.filter((label) => rows.some((row) => row.label === label));
  const inputs = distinct([...results.inputs, ...rows.filter((row) => row.group === "head").map((row) => row.input)]);
  const sizes = distinct(rows.map((row) => row.size)).sort((a, b) => a - b);
  const regimes = distinct([...Object.keys(results.regimes), ...rows.map((row) => row.regime)]);
  const of = (group) => distinct(rows.filter((row) => row.group === group).map((row) => row.strategy));
  const heads = of("head");
  const order = distinct(["scratch", "zero_shot", ...results.adapters, ...heads]).filter((name) =>
    heads.includes(name),
  );
  const groups = [
    ["pipeline", "Survey pipeline", of("pipeline")],
    ["baseline", "Baselines", of("baseline")],
    ["head", "Heads", order],
  ].filter(([, , strategies]) => strategies.length);
  // what does not learn from the target has one size, and stands beside all of them
  const only = new Map();
  for (const row of rows) {
    const method = key(row.group, row.input, row.strategy);
    only.set(method, only.has(method) && only.get(method) !== row.size ? null : row.size);
  }

  function find(group, input, strategy, size, label, regime) {
    const single = only.get(key(group, input, strategy));
    return (
      cells.get(key(group, input, strategy, size, label, regime)) ||
      (single === 0 ? cells.get(key(group, input, strategy, 0, label, regime)) : undefined)
    );
  }

  function valueCell(row, measure, label, attributes) {
    const cell = element("td", { ...attributes, class: `number ${attributes.class || ""}` });
    const value = row && row[measure.name];
    if (value == null) {
      cell.append(element("span", { class: "muted" }, NONE));
      return cell;
    }
    const won = measure.name === "sigma" ? markOf(row) : 0;
    const text = shown(value, measure.kind, label);
    cell.append(element("span", { class: "value" }, won >= AHEAD ? element("strong", {}, text) : text, mark(won)));
    const range = measure.interval ? interval(row[`${measure.name}_low`], row[`${measure.name}_high`], label) : null;
    if (range) cell.append(element("span", { class: "range" }, range));
    if (won >= AHEAD) cell.classList.add("won");
    return cell;
  }

  function head() {
    const first = element("tr", {}, element("th", { scope: "col", rowspan: 2, class: "stub" }, "Input"));
    const second = element("tr");
    for (const [, title, strategies] of groups) {
      first.append(element("th", { scope: "colgroup", colspan: strategies.length, class: "group start" }, title));
      strategies.forEach((name, i) =>
        second.append(element("th", { scope: "col", class: i ? "number" : "number start" }, name)),
      );
    }
    table.tHead.replaceChildren(first, second);
  }

  function body(label, size, regime, measure) {
    const all = rows.filter((row) => row.label === label && row.regime === regime);
    const most = Math.max(0, ...all.map((row) => row.n || 0));
    const unit = measure.kind === "label" && unitOf(label);
    const width = 1 + groups.reduce((sum, [, , strategies]) => sum + strategies.length, 0);
    const title = element(
      "th",
      { scope: "rowgroup", colspan: width, class: "label" },
      element(
        "span",
        {},
        labelName(label),
        unit ? element("span", { class: "unit" }, ` ${unit}`) : null,
        element("span", { class: "muted" }, ` ${fixed(most, 0)} stars`),
      ),
    );
    const made = element("tbody", {}, element("tr", {}, title));
    (inputs.length ? inputs : [""]).forEach((input, i, shownInputs) => {
      const line = element("tr", {}, element("th", { scope: "row", class: "stub" }, input || NONE));
      for (const [group, , strategies] of groups) {
        strategies.forEach((strategy, j) => {
          const start = j ? "" : "start";
          if (group === "head")
            line.append(
              valueCell(find(group, input, strategy, size, label, regime), measure, label, { class: start }),
            );
          // pipelines and baselines have no input: one cell beside all of them
          else if (!i)
            line.append(
              valueCell(find(group, "", strategy, size, label, regime), measure, label, {
                class: `${start} spanning`,
                rowspan: shownInputs.length,
              }),
            );
        });
      }
      made.append(line);
    });
    return made;
  }

  function draw() {
    const regime = form.regime.value;
    const size = Number(form.size.value);
    const measure = results.measures.find((one) => one.name === form.measure.value);
    if (!measure) return;
    const chosen = labels.filter((label) =>
      [...form.elements].some((box) => box.name === "label" && box.value === label && box.checked),
    );
    for (const old of [...table.tBodies]) old.remove();
    table.append(...chosen.map((label) => body(label, size, regime, measure)));
    const condition = results.regimes[regime] ? ` (${results.regimes[regime].condition})` : "";
    caption.textContent =
      `${measure.title}${measure.interval ? " with its 95 % interval" : ""}; ` +
      `${regimeTitle(regime).toLowerCase()} stars${condition}; ${fixed(size, 0)} stars of the target learned from`;
    document.getElementById("compare-note").textContent =
      measure.name === "sigma"
        ? "Marks compare heads with heads: ★ significantly smaller than every other strategy of its row; " +
          "★★ than every other head; ≈ no head is significantly smaller."
        : "Significance is told of σ only; choose it to see the marks.";
  }

  fill(
    form.regime,
    regimes.map((regime) => [regime, regimeTitle(regime)]),
  );
  fill(
    form.size,
    sizes.map((size) => [size, `${fixed(size, 0)} stars`]),
    sizes.at(-1),
  );
  fill(
    form.measure,
    results.measures.map((measure) => [measure.name, measure.title]),
  );
  form
    .querySelector(".choices")
    .append(
      ...labels.map((label) =>
        element(
          "label",
          {},
          element("input", { type: "checkbox", name: "label", value: label, checked: "" }),
          ` ${labelName(label)}`,
        ),
      ),
    );
  form.addEventListener("change", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  head();
  draw();
}
