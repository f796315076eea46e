/** A look at the EEG of the last seconds: asked for while the dialog is open and the page is seen, else not at all. */
import { EEG_ROW_UV, EegChart } from "./charts.js";
import { byId, setText } from "./dom.js";
import { grownEeg, noEeg, presentEeg, readPreview } from "./preview.js";

const SUBSCRIBED = ["predictions", "status", "markers", "eeg.preview"]; // a subscription takes the place of what comes unasked

export class EegDialog {
  #dialog = byId("eeg");
  #send;
  #eeg = noEeg();
  #chart = null;
  #asked = false;

  /** @param {(message: object) => void} send to the service, where there is a connection */
  constructor(send) {
    this.#send = send;
    byId("eeg-open").addEventListener("click", () => this.#open());
    byId("eeg-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#ask());
    document.addEventListener("visibilitychange", () => this.#ask());
    setText(byId("eeg-scale"), `one line to the next: ${EEG_ROW_UV} µV`);
  }

  /** A new connection knows nothing of what was asked for. */
  connected() {
    this.#asked = false;
    this.#ask();
  }

  /** Take a binary message. */
  take(buffer) {
    const block = readPreview(buffer);
    if (block?.topic === "eeg.preview") this.#eeg = grownEeg(this.#eeg, block);
  }

  /** Draw what there is. */
  show(state) {
    if (!this.#dialog.open || this.#chart === null) return;
    const { eeg, names } = presentEeg(this.#eeg, state.welcome?.model?.eeg_ch_names ?? []);
    this.#chart.show(eeg, names, state.prediction?.modalities?.eeg?.channels_bad ?? []);
  }

  async #open() {
    this.#eeg = noEeg();
    this.#dialog.showModal();
    this.#ask();
    if (window.Bokeh?.Plotting) this.#chart ??= await EegChart.make(byId("eeg-chart"));
  }

  #ask() {
    const wanted = this.#dialog.open && !document.hidden;
    if (wanted === this.#asked) return;
    this.#asked = wanted;
    if (wanted) this.#send({ type: "subscribe", id: "eeg", topics: SUBSCRIBED });
    else this.#send({ type: "unsubscribe", id: "eeg", topics: ["eeg.preview"] });
  }
}
