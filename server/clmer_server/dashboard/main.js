/** Wires the parts: messages change the state, the state is drawn, at most ten times a second. */
import { AffectChart, HistoryChart } from "./charts.js";
import { Connection, socketAddress } from "./connection.js";
import { byId } from "./dom.js";
import { EegDialog } from "./eeg.js";
import { chosenSession, startChoice } from "./sessions.js";
import { initialState, labelsOf, withConnection, withMessage } from "./state.js";
import { bearerHeader, bearerSubprotocols, goodToken, keptToken } from "./token.js";
import { showState } from "./view.js";

const MIN_DRAW_INTERVAL_MS = 100;
const CLOCK_INTERVAL_MS = 500; // redraws without a message: ages and waiting times move on

let state = initialState();
let charts = [];
let drawnAtMs = 0;
let pending = false;

function draw() {
  pending = false;
  drawnAtMs = performance.now();
  showState(state, Date.now());
  eeg.show(state);
  for (const chart of charts) chart.show(state.history, labelsOf(state), state.welcome?.grid?.hop_s ?? null, state.markers);
}

function schedule() {
  if (pending) return;
  pending = true;
  const waitMs = Math.max(0, drawnAtMs + MIN_DRAW_INTERVAL_MS - performance.now());
  setTimeout(() => requestAnimationFrame(draw), waitMs);
}

function change(next) {
  state = next;
  schedule();
}

/** The numbers are readable without the charts, so a missing BokehJS must not stop the page. */
async function startCharts() {
  const places = ["history-chart", "affect-chart"].map((id) => document.getElementById(id));
  if (!window.Bokeh?.Plotting) {
    for (const place of places) place.textContent = "The charts cannot be drawn: BokehJS did not load.";
    return;
  }
  charts = await Promise.all([HistoryChart.make(places[0]), AffectChart.make(places[1])]);
  schedule();
}

/** A link cannot carry the token, so where there is one the model card is fetched and shown. */
async function showModelCard(event) {
  if (keptToken() === null) return;
  event.preventDefault();
  const answer = await fetch(event.target.href, { headers: bearerHeader(keptToken()) });
  window.open(URL.createObjectURL(await answer.blob()));
}

byId("model-card").addEventListener("click", showModelCard);

/** Take a message; what is asked for must be asked for again on a new connection. */
function take(message) {
  if (message.type === "welcome") eeg.connected();
  change(withMessage(state, message, Date.now()));
}

function takeBinary(content) {
  eeg.take(content);
  schedule();
}

const connection = new Connection(
  socketAddress(window.location, chosenSession(window.location)),
  async () => bearerSubprotocols(await goodToken()),
  take,
  (connected) => change(withConnection(state, connected)),
  takeBinary,
);
const eeg = new EegDialog((message) => connection.send(message));
connection.open();
setInterval(schedule, CLOCK_INTERVAL_MS);
await Promise.all([startCharts(), startChoice()]);
