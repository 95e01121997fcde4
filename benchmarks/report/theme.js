"use strict";
// Runs in the head, so that the page is never drawn in the wrong colours first.
{
  const NAMES = ["system", "light", "dark"];
  const root = document.documentElement;
  let chosen = "system";
  try {
    chosen = localStorage.getItem("spectrabridge-colours") || "system";
  } catch {
    // no storage for pages from disk: the choice lasts as long as the page
  }
  const apply = () => {
    if (!NAMES.includes(chosen)) chosen = "system";
    if (chosen === "system") delete root.dataset.theme;
    else root.dataset.theme = chosen;
    document.dispatchEvent(new Event("colours"));
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const tell = () => {
      button.lastElementChild.textContent = `Colours: ${chosen}`;
      button.setAttribute("aria-label", `Colours: ${chosen}`);
    };
    tell();
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = NAMES[(NAMES.indexOf(chosen) + 1) % NAMES.length];
      try {
        localStorage.setItem("spectrabridge-colours", chosen);
      } catch {
        // as above
      }
      apply();
      tell();
    });
  });
}
