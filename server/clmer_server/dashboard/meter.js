/** A bar for a number between 0 and 1. What was not measured is an empty bar that says so, not a bar at 0. */
import { element, setAttribute } from "./dom.js";
import { measured, number } from "./format.js";

/** @returns {HTMLElement} an empty bar with a name for screen readers. */
export function meter(name) {
  const range = { "aria-valuemin": "0", "aria-valuemax": "1" };
  return element("div", { class: "bar", role: "meter", "aria-label": name, ...range }, element("span", { class: "fill" }));
}

/**
 * Fill a bar.
 * @param {HTMLElement} bar made by `meter`
 * @param {?number} value 0-1
 */
export function setMeter(bar, value) {
  const share = measured(value);
  bar.firstElementChild.style.width = share === null ? "0" : `${share * 100}%`;
  setAttribute(bar, "aria-valuenow", share === null ? null : String(share));
  setAttribute(bar, "aria-valuetext", share === null ? "not measured" : number(share, 2));
}
