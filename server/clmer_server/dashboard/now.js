/** The newest prediction: validity with its reasons, label, confidence, and one bar per class. */
import { classStyle, classWords } from "./classes.js";
import { byId, element, rebuild, setAttribute, setText } from "./dom.js";
import { NOT_MEASURED, number, text } from "./format.js";
import { meter, setMeter } from "./meter.js";
import { reasonText } from "./reasons.js";
import { labelsOf } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";

/** The class's line as it looks in the chart. */
function swatch(index) {
  const { colour, dash } = classStyle(index);
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "line");
  const shape = { x1: 0, x2: 26, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") };
  for (const [name, value] of Object.entries(shape)) line.setAttribute(name, value);
  svg.setAttribute("viewBox", "0 0 26 10");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

function barRow(label, index) {
  const bar = meter(label);
  bar.firstElementChild.style.background = classStyle(index).colour;
  const name = element("span", { class: "name", title: classWords(label) }, label);
  return element("div", { class: "row", "data-label": label }, swatch(index), name, bar, element("output", { class: "value" }));
}

function showBar(row, probability, top) {
  row.classList.toggle("top", top);
  setMeter(row.querySelector(".bar"), probability);
  setText(row.querySelector(".value"), number(probability, 2));
}

function showBars(prediction, labels) {
  rebuild(byId("bars"), labels.join(), () => labels.map(barRow));
  for (const row of byId("bars").children) {
    const { label } = row.dataset;
    showBar(row, prediction?.probs?.[label], prediction?.label === label);
  }
}

/** A value that is not current is neither valid nor not: the badge must not go on saying so. */
function showValidity(prediction, old) {
  const current = prediction && !old;
  setAttribute(byId("validity"), "data-valid", current ? String(prediction.valid === true) : "none");
  if (current) setText(byId("validity"), prediction.valid === true ? "Valid" : "Not valid");
  else setText(byId("validity"), old ? "Out of date" : "No prediction yet");
}

function showReasons(prediction) {
  const codes = prediction?.reasons ?? [];
  setText(byId("reasons-title"), prediction && prediction.valid !== true ? "Why it is not valid" : "Remarks");
  rebuild(byId("reasons"), `${prediction === null}${codes.join()}`, () =>
    codes.length === 0
      ? [element("li", { class: "none" }, prediction ? "None" : NOT_MEASURED)]
      : codes.map((code) => element("li", { title: code }, reasonText(code))),
  );
}

/** From when to when the newest window lasted, LSL seconds. */
function windowText(prediction) {
  if (!prediction) return NOT_MEASURED;
  return `${number(prediction.t_start, 1)} to ${number(prediction.t_end, 1, "s")}`;
}

/**
 * Show the newest prediction.
 * @param {object} state
 * @param {boolean} old whether it is no longer current
 */
export function showNow(state, old) {
  const { prediction } = state;
  setAttribute(byId("now"), "data-seq", prediction ? String(prediction.seq) : null);
  showValidity(prediction, old);
  showBars(prediction, labelsOf(state));
  showReasons(prediction);
  setText(byId("label"), text(prediction?.label));
  setText(byId("label-words"), classWords(prediction?.label));
  setText(byId("confidence"), number(prediction?.confidence, 2));
  setText(byId("valence"), number(prediction?.valence, 2));
  setText(byId("arousal"), number(prediction?.arousal, 2));
  setText(byId("window"), windowText(prediction));
}
