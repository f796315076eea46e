/** The page around the charts: what of the state stands where. */
import { byId, element, rebuild, setAttribute, setText } from "./dom.js";
import { number, text } from "./format.js";
import { showNow } from "./now.js";
import { showModalities, showStreams } from "./signals.js";
import { ageMs, statusOf } from "./state.js";

const SHORT_SHA = 12; // hex digits; the whole one is in the tooltip
const SOURCES = { live: "Live", replay: "Replay" };

function connectionText(connection, nowMs) {
  if (connection.phase === "open") return "Connected";
  if (connection.phase === "connecting") return "Connecting";
  const waitS = Math.ceil((connection.retryAtMs - nowMs) / 1000);
  return waitS > 0 ? `Reconnecting in ${waitS} s` : "Reconnecting";
}

function showTop(state, nowMs) {
  const origin = state.prediction?.source ?? state.welcome?.source;
  setText(byId("source"), SOURCES[origin] ?? text(origin));
  setAttribute(byId("source"), "data-source", text(origin));
  setText(byId("connection"), connectionText(state.connection, nowMs));
  setAttribute(byId("connection"), "data-phase", state.connection.phase);
  setText(byId("version"), state.welcome?.server?.version ?? "");
  setText(byId("session"), text(state.welcome?.session));
  setText(byId("events"), String(state.events));
  setText(byId("events-invalid"), String(state.eventsInvalid));
  setText(byId("model-time"), number(state.prediction?.latency_ms?.model, 1, "ms"));
  setText(byId("latency"), number(state.prediction?.latency_ms?.total, 0, "ms"));
}

/** The age moves every second; it goes to the tooltip, so that the banner is announced once. */
function showBanners(state, status, nowMs) {
  const age = ageMs(state, nowMs);
  byId("simulated").hidden = state.welcome?.model?.trained_on !== "simulated";
  setText(byId("status"), status.text);
  setAttribute(byId("status"), "data-level", status.level);
  setAttribute(byId("status"), "title", age === null ? null : `newest prediction ${number(age / 1000, 0)} s ago`);
  document.body.classList.toggle("old", status.old);
  document.body.classList.toggle("offline", state.connection.phase !== "open");
}

function fact(name, value, title = null) {
  const row = element("div", title ? { title } : {});
  row.append(element("dt", {}, name), element("dd", {}, text(value)));
  return row;
}

function showModel(welcome) {
  const model = welcome?.model;
  if (!model) return;
  rebuild(byId("model"), JSON.stringify([model, welcome.grid]), () => [
    fact("Model", model.id),
    fact("SHA-256", model.sha256?.slice(0, SHORT_SHA), model.sha256),
    fact("Trained on", model.trained_on),
    fact("Device", model.device),
    fact("Runner", model.runner),
    fact("Settings", model.config_hash, "Fingerprint of the signal settings"),
    fact("Window", `${number(welcome.grid?.window_s, 1)} s every ${number(welcome.grid?.hop_s, 1, "s")}`),
  ]);
}

function noticeItem(notice) {
  const time = new Date(notice.atMs).toLocaleTimeString([], { hour12: false });
  return element("li", { title: notice.code }, element("time", {}, time), notice.message);
}

function showNotices(notices) {
  rebuild(byId("notices"), JSON.stringify(notices), () =>
    notices.length === 0 ? [element("li", { class: "none" }, "None")] : notices.map(noticeItem),
  );
}

/** Bring the page in line with the state. */
export function showState(state, nowMs) {
  const status = statusOf(state, nowMs);
  showTop(state, nowMs);
  showBanners(state, status, nowMs);
  showNow(state, status.old);
  showModalities(state.prediction);
  showStreams(state.streams);
  showNotices(state.notices);
  showModel(state.welcome);
}
