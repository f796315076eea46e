/**
 * The view state as a pure function of what arrived. No clock and no page here: times are handed in.
 *
 * Null stays null: a value that was not measured never turns into 0.
 */
import { measured } from "./format.js";
import { byeText, gapText } from "./reasons.js";

export const HISTORY_S = 60; // s of predictions kept for the charts
export const STALE_AFTER_MS = 3000; // ms without a prediction after which the values count as old
const MAX_NOTICES = 50;
const MAX_MARKERS = 100;
const END_CODES = new Set(["replay_ended", "input_ended"]);

/** The state before anything has arrived. */
export function initialState() {
  return {
    connection: { phase: "connecting", retryAtMs: null }, // phase: connecting | open | waiting
    welcome: null,
    streams: [], // newest stream.status by source, in the order of their first appearance
    prediction: null, // newest prediction message
    predictionAtMs: null, // when it arrived
    history: [], // {t, valid, probs: (number|null)[], valence, arousal} of the last minute, oldest first
    events: 0,
    eventsInvalid: 0,
    markers: [], // {t, label} of the last minute, in the order of their arrival
    notices: [], // {code, message, atMs}, newest first
    ended: false, // the recording, or every input stream, has come to its end
    bye: null,
  };
}

/** The labels of the running model, in the model's order. */
export function labelsOf(state) {
  return state.welcome?.model?.labels ?? Object.keys(state.prediction?.probs ?? {});
}

/** Add a sentence to the messages; one that was there already moves to the top. */
function noted(state, code, message, atMs) {
  const others = state.notices.filter((notice) => notice.code !== code || notice.message !== message);
  return { ...state, notices: [{ code, message, atMs }, ...others].slice(0, MAX_NOTICES) };
}

/** A welcome of another session starts afresh; of the same session it goes on. */
function onWelcome(state, message) {
  const before = state.welcome?.session === message.session ? state : initialState();
  const kept = { ...before, connection: state.connection, notices: state.notices };
  return { ...kept, welcome: message, streams: message.streams ?? [], bye: null };
}

/** One row of the history. */
function historyRow(message, labels) {
  return {
    t: message.t_end,
    valid: message.valid === true,
    probs: labels.map((label) => measured(message.probs?.[label])),
    valence: measured(message.valence),
    arousal: measured(message.arousal),
  };
}

/** Append a row; time that runs backwards starts a new history. */
function grown(history, row) {
  const newest = history.at(-1);
  const kept = newest && row.t < newest.t ? [] : history;
  return [...kept.filter((old) => old.t > row.t - HISTORY_S), row];
}

/** A prediction that is already shown, sent again after a reconnection, changes nothing. */
function onPrediction(state, message, nowMs) {
  if (state.prediction?.seq === message.seq) return state;
  return {
    ...state,
    prediction: message,
    predictionAtMs: nowMs,
    history: grown(state.history, historyRow(message, labelsOf({ ...state, prediction: message }))),
    events: state.events + 1,
    markers: near(state.markers, message.t_end),
    eventsInvalid: state.eventsInvalid + (message.valid === true ? 0 : 1),
    ended: false,
  };
}

/** A marker may be ahead of the newest window; one of another time, as before a replay began again, goes. */
function onMarker(state, message) {
  if (measured(message.t) === null) return state;
  const marker = { t: message.t, label: message.label };
  return { ...state, markers: near([...state.markers, marker], state.prediction?.t_end ?? message.t).slice(-MAX_MARKERS) };
}

function near(markers, t) {
  return markers.filter((marker) => Math.abs(marker.t - t) < HISTORY_S);
}

function onStreamStatus(state, message) {
  const known = state.streams.some((stream) => stream.source === message.source);
  const replaced = state.streams.map((stream) => (stream.source === message.source ? message : stream));
  return { ...state, streams: known ? replaced : [...state.streams, message] };
}

function onNotice(state, message, nowMs) {
  const ended = state.ended || END_CODES.has(message.code);
  return { ...noted(state, message.code, message.message, nowMs), ended };
}

function onGap(state, message, nowMs) {
  return noted(state, "gap", gapText(message.dropped), nowMs);
}

function onBye(state, message, nowMs) {
  return { ...noted(state, "bye", byeText(message.reason), nowMs), bye: message };
}

const REDUCERS = new Map([
  ["welcome", onWelcome],
  ["prediction", onPrediction],
  ["stream.status", onStreamStatus],
  ["marker", onMarker],
  ["notice", onNotice],
  ["gap", onGap],
  ["bye", onBye],
]);

/**
 * The state after one message of the service. Kinds that are not known are ignored, as the protocol asks.
 * @param {object} state
 * @param {object} message parsed JSON
 * @param {number} nowMs when it arrived
 */
export function withMessage(state, message, nowMs) {
  const reduce = REDUCERS.get(message?.type);
  return reduce ? reduce(state, message, nowMs) : state;
}

/** The state after a change of the connection. */
export function withConnection(state, connection) {
  return { ...state, connection };
}

/** Milliseconds since the newest prediction arrived; null before the first. */
export function ageMs(state, nowMs) {
  return state.predictionAtMs === null ? null : nowMs - state.predictionAtMs;
}

function endText(source, valuesShown) {
  const ended = `The ${source === "replay" ? "recording" : "input"} has ended.`;
  return valuesShown ? `${ended} The values shown are its last ones.` : ended;
}

/**
 * What a person must know before reading a number.
 * @returns {{level: "ok"|"info"|"warning"|"error", old: boolean, text: string}} `old`: the values are not current
 */
export function statusOf(state, nowMs) {
  const { phase } = state.connection;
  const old = state.prediction !== null;
  if (phase === "waiting") {
    const cause = state.bye ? byeText(state.bye.reason) : "No connection to the service.";
    return { level: "error", old, text: `${cause} ${old ? "The values shown are old. " : ""}Trying again by itself.` };
  }
  if (phase === "connecting" || !state.welcome) return { level: "info", old, text: "Connecting to the service …" };
  if (state.ended) return { level: "info", old: false, text: endText(state.welcome.source, old) };
  if (!old) return { level: "info", old, text: "Connected, waiting for the first prediction. The streams show what is missing." };
  if (ageMs(state, nowMs) > STALE_AFTER_MS) {
    return { level: "warning", old, text: "No prediction for more than 3 seconds. The values shown are old." };
  }
  return { level: "ok", old: false, text: "" };
}
