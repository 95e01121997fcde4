// The comparison, at one size and regime: heads by input and strategy, and rows of their own for what has no input.

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
  const others = [
    ["pipeline", "survey pipeline", of("pipeline")],
    ["baseline", "baselines", of("baseline")],
  ].filter(([, , strategies]) => strategies.length);
  // what does not learn from the target stands apart, once; what was not tried with so many stars has no column
  const columns = (size) =>
    [
      ["Head of the source", order.filter((name) => results.untuned.includes(name))],
      [
        `Heads after ${fixed(size, 0)} target stars`,
        order.filter(
          (name) =>
            !results.untuned.includes(name) &&
            rows.some((row) => row.group === "head" && row.strategy === name && row.size === size),
        ),
      ],
    ].filter(([, strategies]) => strategies.length);
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

  const wonBy = (row, measure) => (row && row[measure.name] != null && measure.name === "sigma" ? markOf(row) : 0);

  // A value, and its interval below it.
  function told(row, measure, label) {
    const value = row && row[measure.name];
    if (value == null) return [element("span", { class: "muted" }, NONE)];
    const won = wonBy(row, measure);
    const text = shown(value, measure.kind, label);
    const range = measure.interval ? interval(row[`${measure.name}_low`], row[`${measure.name}_high`], label) : null;
    return [
      element("span", { class: "value" }, won >= AHEAD ? element("strong", {}, text) : text, mark(won)),
      range ? element("span", { class: "range" }, range) : null,
    ];
  }

  function head(size) {
    const first = element("tr", {}, element("th", { scope: "col", rowspan: 2, class: "stub" }, "Input"));
    const second = element("tr");
    for (const [title, strategies] of columns(size)) {
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
    const width = columns(size).reduce((sum, [, strategies]) => sum + strategies.length, 0);
    const title = element(
      "th",
      { scope: "rowgroup", colspan: 1 + width, class: "label" },
      element(
        "span",
        {},
        labelName(label),
        unit ? element("span", { class: "unit" }, ` ${unit}`) : null,
        element("span", { class: "muted" }, ` ${fixed(most, 0)} stars`),
      ),
    );
    const made = element("tbody", {}, element("tr", {}, title));
    for (const input of width ? inputs : []) {
      const line = element("tr", {}, element("th", { scope: "row", class: "stub" }, input || NONE));
      for (const [, strategies] of columns(size))
        strategies.forEach((strategy, i) => {
          const row = find("head", input, strategy, size, label, regime);
          const won = wonBy(row, measure) >= AHEAD ? " won" : "";
          line.append(
            element("td", { class: `number${i ? "" : " start"}${won}` }, ...told(row, measure, label)),
          );
        });
      made.append(line);
    }
    for (const [group, title, strategies] of others) {
      const stub = element("th", { scope: "row", class: "stub" }, "none ", element("span", { class: "range" }, title));
      const methods = strategies.map((strategy) =>
        element(
          "div",
          {},
          element("span", { class: "name" }, `${strategy} `),
          ...told(find(group, "", strategy, size, label, regime), measure, label),
        ),
      );
      const cell = element("td", { class: "start", colspan: width || null }, element("div", { class: "methods" }, ...methods));
      made.append(element("tr", { class: "without" }, stub, cell));
    }
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
    head(size);
    for (const old of [...table.tBodies]) old.remove();
    table.append(...chosen.map((label) => body(label, size, regime, measure)));
    const condition = results.regimes[regime] ? ` (${results.regimes[regime].condition})` : "";
    caption.textContent =
      `${measure.title}${measure.interval ? " with its 95 % interval" : ""}; ` +
      `${regimeTitle(regime).toLowerCase()} stars${condition}; ${fixed(size, 0)} stars of the target learned from`;
    document.getElementById("compare-note").textContent =
      measure.name === "sigma"
        ? "Marks compare heads with heads: ★ significantly smaller than every other strategy of its row; " +
          "★★ than every other head; ≈ no head is significantly smaller. They come from differences between heads over " +
          "the same stars, so a smaller σ need not bear a mark, and intervals that overlap do not tell."
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
  draw();
}
