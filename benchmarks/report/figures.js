// Figures: drawn by plotly.js when they come near the window, in the colours of the page.

const figures = [];
{
  const NARROW = 620; // below this many pixels legends go under the plot
  const BUTTONS = 24; // pixels above the plot for plotly's buttons
  const PANEL = 150; // the least width of one of several panels, pixels; their box scrolls where there is less room
  const PANEL_NARROW = 230; // on narrow screens, where it has to scroll anyway
  const SOLID_NARROW = 320; // of three dimensions: words at the edges of its cube are cut where it is higher than wide
  const PAPER = 980; // pixels across a printed page, which browsers shrink to fit; whatever the window has
  const SOON = "300px";
  const FAR = "2500px";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  let printing = false;

  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  // On dark ground greys change places: what was drawn in ink is to be seen, what was paper is to recede.
  function turned(colour) {
    canvas.fillStyle = "#010203";
    canvas.fillStyle = colour;
    const text = canvas.fillStyle;
    if (text === "#010203") return colour; // no colour
    const numbers =
      text[0] === "#"
        ? [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16))
        : text.match(/[\d.]+/g).map(Number);
    const [red, green, blue, alpha = 1] = numbers;
    if (!alpha || Math.max(red, green, blue) - Math.min(red, green, blue) > 24) return colour;
    const level = Math.round(27 + (255 - (red + green + blue) / 3) * (203 / 255));
    return `rgba(${level}, ${level}, ${level}, ${alpha})`;
  }

  function turnAll(node) {
    for (const [name, value] of Object.entries(node)) {
      if (value === null || name === "customdata") continue;
      if (/color$/i.test(name) && typeof value === "string") node[name] = turned(value);
      else if (/color$/i.test(name) && Array.isArray(value))
        node[name] = value.map((one) => (typeof one === "string" ? turned(one) : one));
      else if (
        typeof value === "object" &&
        !ArrayBuffer.isView(value) &&
        !(Array.isArray(value) && typeof value[0] !== "object")
      )
        turnAll(value);
    }
  }

  // A colour of page.css as it is now; on paper it is the light one.
  function colourOf(name) {
    const probe = element("span", { style: `color: var(${name})${printing ? "; color-scheme: light" : ""}` });
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function style(narrow) {
    const page = getComputedStyle(document.body);
    const [ink, muted, line, ground] = ["--ink", "--muted", "--line", "--raised"].map(colourOf);
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true };
    return {
      font: { family: page.fontFamily, size: narrow ? 11 : 13, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      colorway: ["#3b7dd8", "#e0792b", "#2f9e6e", "#c8466b", "#8a63c9", "#a3791f", "#2aa3b5", "#7a8391"],
      hoverlabel: { bgcolor: ground, bordercolor: line, font: { family: page.fontFamily, color: ink } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
      legend: { bgcolor: "rgba(0,0,0,0)", bordercolor: line },
      xaxis: axis,
      yaxis: axis,
      scene: {
        xaxis: { ...axis, showbackground: false },
        yaxis: { ...axis, showbackground: false },
        zaxis: { ...axis, showbackground: false },
      },
      coloraxis: { colorbar: { outlinewidth: 0 } },
    };
  }

  function themed(figure) {
    const { data = [], layout = {} } = JSON.parse(figure.source.textContent);
    const narrow = !printing && figure.box.clientWidth < NARROW;
    if (isDark()) {
      turnAll(data);
      turnAll(layout);
    }
    const own = layout.template || {};
    delete layout.width;
    delete layout.title; // the page has it
    for (const ground of ["paper_bgcolor", "plot_bgcolor"]) delete layout[ground];
    layout.template = { data: own.data, layout: style(narrow) };
    layout.autosize = !printing;
    if (printing) layout.width = PAPER;
    layout.height = figure.height;
    layout.uirevision = "kept"; // zooms outlast a change of colours
    layout.margin = { l: narrow ? 48 : 60, r: narrow ? 8 : 16, t: 20, b: 52, ...layout.margin };
    layout.margin.t += BUTTONS;
    if (narrow) {
      layout.dragmode = false; // a finger scrolls the page
      if (!layout.legend || layout.legend.orientation !== "h") {
        layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: -0.16, yanchor: "top" };
      }
    }
    figure.narrow = narrow;
    return { data, layout };
  }

  const config = (figure) => ({
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["sendChartToCloud"], // nothing leaves the page
    doubleClick: "reset+autosize",
    toImageButtonOptions: { filename: figure.plot.dataset.name, scale: 2 },
  });

  // Columns of panels, told by where their axes begin.
  function columnsOf(layout) {
    const starts = Object.entries(layout)
      .map(([name, value]) =>
        /^xaxis\d*$/.test(name) ? value.domain : /^scene\d*$/.test(name) ? value.domain && value.domain.x : null,
      )
      .filter(Array.isArray)
      .map(([start]) => Math.round(100 * start));
    return new Set(starts).size || 1;
  }

  function draw(figure) {
    const { data, layout } = themed(figure);
    figure.gl = data.some((trace) => /gl$|3d$|surface|cone|streamtube|volume|isosurface/.test(trace.type || ""));
    figure.drawn = true;
    figure.dark = isDark();
    figure.printed = printing;
    const columns = columnsOf(layout);
    const solid = Object.keys(layout).some((name) => /^scene\d*$/.test(name));
    const panel = !figure.narrow ? PANEL : solid ? SOLID_NARROW : PANEL_NARROW;
    figure.plot.style.minWidth = columns > 1 && !printing ? `${60 + columns * panel}px` : "";
    return Plotly.react(figure.plot, data, layout, config(figure));
  }

  const isDone = (figure) => figure.drawn && figure.dark === isDark() && figure.printed === printing;

  // In new colours what is in sight; the rest waits until it comes near again.
  function redraw() {
    for (const figure of figures) if (figure.near && !isDone(figure)) draw(figure);
  }

  for (const plot of document.querySelectorAll(".plot")) {
    const box = plot.parentElement;
    figures.push({
      plot,
      box,
      source: box.nextElementSibling,
      height: parseInt(plot.style.minHeight, 10),
      drawn: false,
      near: false,
      dark: false, // when it was drawn
      printed: false, // for paper, when it was drawn
      narrow: null,
    });
  }
  const figureOf = new Map(
    figures.flatMap((figure) => [
      [figure.plot, figure],
      [figure.box, figure],
    ]),
  );

  document.addEventListener("DOMContentLoaded", () => {
    const near = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          const figure = figureOf.get(target);
          figure.near = isIntersecting;
          if (isIntersecting && !isDone(figure)) draw(figure);
        }
      },
      { rootMargin: SOON },
    );
    // browsers keep few WebGL contexts: those far away are given back
    const far = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          const figure = figureOf.get(target);
          if (!isIntersecting && figure.drawn && figure.gl) {
            Plotly.purge(target);
            figure.drawn = false;
          }
        }
      },
      { rootMargin: FAR },
    );
    const width = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const figure = figureOf.get(target);
        const { box } = figure;
        if (figure.drawn && figure.narrow !== box.clientWidth < NARROW) draw(figure);
        // scrolls by keys
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
      }
    });
    for (const { plot, box } of figures) {
      near.observe(plot);
      far.observe(plot);
      width.observe(box);
      width.observe(plot);
    }
    system.addEventListener("change", redraw);
    document.addEventListener("colours", redraw);
    window.addEventListener("beforeprint", () => {
      printing = true;
      for (const figure of figures) if (!isDone(figure)) draw(figure);
    });
    window.addEventListener("afterprint", () => {
      printing = false;
      redraw();
    });
  });
}
