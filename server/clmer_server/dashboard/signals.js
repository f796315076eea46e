/** What the prediction was made of (EEG, face), and how the streams are doing. */
import { byId, element, rebuild, setAttribute, setText } from "./dom.js";
import { measured, NOT_MEASURED, number, percent, text } from "./format.js";
import { meter, setMeter } from "./meter.js";
import { calibrationText } from "./reasons.js";

const MODALITIES = [
  {
    key: "eeg",
    title: "EEG",
    quality: (eeg) => eeg?.quality,
    rows: {
      "Channels ok": (eeg) => number(eeg?.channels_ok, 0),
      Interpolated: (eeg) => percent(eeg?.interpolated_frac, 1),
      Age: (eeg) => number(eeg?.age_ms, 0, "ms"),
    },
  },
  {
    key: "face",
    title: "Face",
    quality: (face) => face?.confidence,
    rows: {
      Present: (face) => percent(face?.present),
      Turned: (face) => number(face?.yaw_deg, 0, "°"),
      Video: (face) => number(face?.fps, 0, "fps"),
      Age: (face) => number(face?.age_ms, 0, "ms"),
    },
  },
];

function modalityCard({ key, title, rows }) {
  const facts = element("dl", { class: "facts" });
  for (const name of [...Object.keys(rows), "Calibration"]) {
    facts.append(element("div", {}, element("dt", {}, name), element("dd", { "data-fact": name })));
  }
  return element(
    "article", { class: "modality", "data-modality": key },
    element("h3", {}, title), element("span", { class: "badge used" }),
    element("div", { class: "quality" }, "Quality", meter(`${title} quality`), element("output")), facts,
  );
}

function showModality(card, modality, values, calibration) {
  const used = values?.used ?? null;
  const badge = card.querySelector(".used");
  setText(badge, used === null ? NOT_MEASURED : used ? "Used" : "Not used");
  setAttribute(badge, "data-used", String(used));
  setMeter(card.querySelector(".bar"), modality.quality(values));
  setText(card.querySelector("output"), percent(modality.quality(values)));
  const fact = (name) => card.querySelector(`[data-fact="${name}"]`);
  for (const [name, read] of Object.entries(modality.rows)) setText(fact(name), read(values));
  setText(fact("Calibration"), calibration ? calibrationText(modality.key, calibration) : NOT_MEASURED);
}

/** Show what the newest prediction was made of. */
export function showModalities(prediction) {
  rebuild(byId("modalities"), "made", () => MODALITIES.map(modalityCard));
  MODALITIES.forEach((modality, index) => {
    const card = byId("modalities").children[index];
    showModality(card, modality, prediction?.modalities?.[modality.key], prediction?.calibration?.[modality.key]);
  });
}

/** Measured and nominal rate; a stream that has begun and has no nominal rate is irregular. */
function rateText(stream) {
  if (measured(stream.nominal_rate_hz) === null) return stream.state === "connecting" ? NOT_MEASURED : "irregular";
  return `${number(stream.rate_hz, 2)} / ${number(stream.nominal_rate_hz, 0)}`;
}

const INPUTS = new Set(["eeg", "face", "physio"]); // kinds of streams that windows are made of

function streamRow(stream) {
  const state = element("span", { class: "badge state", "data-state": stream.state }, text(stream.state));
  const cell = (value) => element("td", { class: "n" }, value);
  const row = element("tr", INPUTS.has(stream.kind) ? { "data-source": stream.source } : {
    "data-source": stream.source, class: "aside", title: "Not an input of the model",
  });
  row.append(
    element("th", { scope: "row" }, stream.source), element("td", { class: "name", title: stream.name }, text(stream.name)),
    element("td", {}, state), cell(rateText(stream)), cell(number(stream.drift_ppm, 1)),
    cell(number(stream.n_gaps, 0)), cell(number(stream.n_bridged, 0)),
    cell(number(stream.n_lost, 0)), cell(number(stream.n_lost_estimated, 0)),
  );
  const reason = element("tr", { class: "reason" }, element("td", { colspan: "9" }, text(stream.reason)));
  return stream.reason ? [row, reason] : [row];
}

/** Show the table of streams, those that the model needs first. */
export function showStreams(streams) {
  rebuild(byId("streams"), JSON.stringify(streams), () =>
    streams.length === 0
      ? [element("tr", { class: "reason" }, element("td", { colspan: "9" }, "No streams yet"))]
      : [...streams].sort((a, b) => INPUTS.has(b.kind) - INPUTS.has(a.kind)).flatMap(streamRow),
  );
}
