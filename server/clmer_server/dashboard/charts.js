/** The charts, drawn by BokehJS (window.Bokeh). */
import { invalidSpans, labelHeights, withHoles } from "./chart_rows.js";
import { classStyle } from "./classes.js";
import { number } from "./format.js";
import { EEG_S } from "./preview.js";
import { HISTORY_S } from "./state.js";

const INK = "#3d4a5c";
const GRID = "#e6e9ee";
const AXIS = "#aab3c0";
const MIDLINE = "#c3cad4";
const ACCENT = "#1f4e79";
const INVALID = "#6b7686";
const FONT = "system-ui, sans-serif";
const TRAIL_S = 10; // s of the past shown beside the newest valence and arousal
const MARKER_LETTERS = 24; // of a marker's label that are shown
export const EEG_ROW_UV = 100; // µV between the lines of two channels
const LABEL_ROOM_S = 6; // s of the time axis kept free for the labels at the lines' ends

/** NaN is BokehJS's missing value: lines break there. */
function gap(value) {
  return value ?? NaN;
}

/** Ticks and the grid lines at them. */
function setTicks(plot, xTicks, yTicks) {
  for (const [axis, grid, ticks] of [[plot.xaxis, plot.xgrid, xTicks], [plot.yaxis, plot.ygrid, yTicks]]) {
    axis.ticker = grid.ticker = new window.Bokeh.FixedTicker({ ticks });
    grid.grid_line_color = GRID;
  }
}

/** A figure in the page's own look. */
function figure(xTicks, yTicks, options) {
  const plot = window.Bokeh.Plotting.figure({
    sizing_mode: "stretch_both", toolbar_location: null, tools: "", min_border: 4,
    background_fill_color: null, border_fill_color: null, outline_line_color: null, ...options,
  });
  for (const axis of [plot.xaxis, plot.yaxis]) {
    axis.axis_line_color = AXIS;
    axis.major_tick_line_color = AXIS;
    axis.minor_tick_line_color = null;
    axis.major_label_text_color = INK;
    axis.axis_label_text_color = INK;
    axis.axis_label_text_font_style = "normal";
    axis.major_label_text_font = axis.axis_label_text_font = FONT;
    axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px";
  }
  setTicks(plot, xTicks, yTicks);
  return plot;
}

function shortened(label) {
  return label.length > MARKER_LETTERS ? `${label.slice(0, MARKER_LETTERS - 1)}…` : label;
}

function source(...columns) {
  return new window.Bokeh.ColumnDataSource({ data: Object.fromEntries(columns.map((name) => [name, []])) });
}

/** Probabilities of all classes over the last minute. */
export class HistoryChart {
  #plot;
  #lines = source();
  #spans = source("left", "right");
  #ends = source("t", "p", "height", "label", "colour");
  #marks = source("t", "label");
  #drawn = ""; // the labels that the lines were made for

  /** Make the chart inside `place`. */
  static async make(place) {
    const chart = new HistoryChart();
    await window.Bokeh.Plotting.show(chart.#plot, place);
    return chart;
  }

  constructor() {
    const seconds = [-60, -50, -40, -30, -20, -10, 0];
    const plot = figure(seconds, [0, 0.25, 0.5, 0.75, 1], { x_range: [-HISTORY_S, LABEL_ROOM_S], y_range: [0, 1] });
    plot.xaxis.axis_label = "seconds before the newest window";
    plot.vstrip({ field: "left" }, { field: "right" }, {
      source: this.#spans, line_color: null, fill_color: INVALID, fill_alpha: 0.1,
      hatch_pattern: "right_diagonal_line", hatch_color: INVALID, hatch_alpha: 0.28, hatch_scale: 8,
    });
    const mark = { source: this.#marks, line_color: INK, line_dash: "dotted", line_alpha: 0.7 };
    plot.segment({ field: "t" }, 0, { field: "t" }, 1, mark);
    plot.text({ field: "t" }, 0.99, { field: "label" }, {
      source: this.#marks, angle: -Math.PI / 2, y_offset: -4, text_baseline: "bottom", text_color: INK, text_font: FONT,
      text_font_size: "11px",
    });
    this.#plot = plot;
  }

  /** Lines can only be made once the model's labels are known. */
  #makeLines(labels) {
    const plot = this.#plot;
    this.#lines.data = this.#columns([], labels);
    plot.renderers = plot.renderers.slice(0, 3); // spans and markers
    labels.forEach((_, k) => {
      const { colour, dash } = classStyle(k);
      const look = { line_color: colour, line_dash: dash, line_width: 2 };
      plot.line({ field: "t" }, { field: `p${k}` }, { source: this.#lines, ...look });
    });
    plot.scatter({ field: "t" }, { field: "p" }, {
      source: this.#ends, size: 7, fill_color: { field: "colour" }, line_color: "white",
    });
    plot.text({ field: "t" }, { field: "height" }, { field: "label" }, {
      source: this.#ends, x_offset: 8, text_baseline: "middle", text_color: { field: "colour" }, text_font: FONT,
      text_font_size: "12px", text_font_style: "bold",
    });
    this.#makeHover(labels);
  }

  /** One invisible line carries the hover, so that all classes of a moment stand in one box. */
  #makeHover(labels) {
    const line = this.#plot.line({ field: "t" }, 0.5, { source: this.#lines, line_alpha: 0 });
    const tooltips = ["@ago", ...labels.map((_, k) => `@text${k}`)].map((column) => ["", column]);
    const hover = new window.Bokeh.HoverTool({ renderers: [line], mode: "vline", attachment: "horizontal", tooltips });
    this.#plot.toolbar.tools = [hover];
  }

  #columns(rows, labels) {
    const newest = rows.at(-1)?.t;
    const columns = {
      t: rows.map((row) => row.t - newest),
      ago: rows.map((row) => `${number(newest - row.t, 1)} s ago`),
    };
    labels.forEach((label, k) => {
      columns[`p${k}`] = rows.map((row) => gap(row.probs[k]));
      columns[`text${k}`] = rows.map((row) => `${label}  ${number(row.probs[k], 2)}`);
    });
    return columns;
  }

  /** Markers up to the newest window; later ones wait for theirs. */
  #marksOf(markers, newest) {
    const shown = markers.filter((marker) => marker.t <= newest && marker.t > newest - HISTORY_S);
    return { t: shown.map((marker) => marker.t - newest), label: shown.map((marker) => shortened(marker.label)) };
  }

  #endsOf(row, labels) {
    const shown = labels.map((_, k) => k).filter((k) => row !== undefined && row.probs[k] !== null);
    const values = shown.map((k) => row.probs[k]);
    return {
      t: shown.map(() => 0), p: values, height: labelHeights(values),
      label: shown.map((k) => labels[k]), colour: shown.map((k) => classStyle(k).colour),
    };
  }

  /**
   * Draw the history.
   * @param {object[]} history rows of the view state
   * @param {string[]} labels
   * @param {?number} hopS s between neighbouring predictions
   * @param {{t: number, label: string}[]} markers
   */
  show(history, labels, hopS, markers) {
    if (hopS === null) return;
    if (this.#drawn !== labels.join()) {
      this.#drawn = labels.join();
      this.#makeLines(labels);
    }
    this.#lines.data = this.#columns(withHoles(history, hopS), labels);
    this.#spans.data = invalidSpans(history, hopS);
    this.#ends.data = this.#endsOf(history.at(-1), labels);
    this.#marks.data = this.#marksOf(markers, history.at(-1)?.t);
  }
}

/** The newest valence and arousal as a point on a square, with the way it came. */
export class AffectChart {
  #plot;
  #trail = source("valence", "arousal");
  #newest = source("valence", "arousal");

  /** Make the chart inside `place`. */
  static async make(place) {
    const chart = new AffectChart();
    await window.Bokeh.Plotting.show(chart.#plot, place);
    return chart;
  }

  constructor() {
    const plot = figure([0, 0.5, 1], [0, 0.5, 1], { x_range: [0, 1], y_range: [0, 1] });
    plot.xaxis.axis_label = "valence";
    plot.yaxis.axis_label = "arousal";
    for (const grid of [plot.xgrid, plot.ygrid]) grid.grid_line_color = MIDLINE;
    const place = [{ field: "valence" }, { field: "arousal" }];
    plot.line(...place, { source: this.#trail, line_color: ACCENT, line_alpha: 0.45, line_width: 2 });
    plot.scatter(...place, { source: this.#newest, size: 13, fill_color: ACCENT, line_color: "white", line_width: 2 });
    this.#plot = plot;
  }

  /** Draw the last seconds of the history; a newest row without values shows no point. */
  show(history, labels, hopS) {
    if (hopS === null) return;
    const newest = history.at(-1);
    const trail = withHoles(history, hopS).filter((row) => row.t > newest.t - TRAIL_S);
    const known = history.slice(-1).filter((row) => row.valence !== null && row.arousal !== null);
    this.#trail.data = { valence: trail.map((row) => gap(row.valence)), arousal: trail.map((row) => gap(row.arousal)) };
    this.#newest.data = { valence: known.map((row) => row.valence), arousal: known.map((row) => row.arousal) };
  }
}

/** The last seconds of every EEG channel, one above the other; bad ones are pale. */
export class EegChart {
  #plot;
  #lines = source("t", "x", "colour");
  #names = "";

  /** Make the chart inside `place`. */
  static async make(place) {
    const chart = new EegChart();
    await window.Bokeh.Plotting.show(chart.#plot, place);
    return chart;
  }

  constructor() {
    const plot = figure([-10, -8, -6, -4, -2, 0], [], { x_range: [-EEG_S, 0], y_range: [-1, 1] });
    plot.xaxis.axis_label = "seconds before the newest sample";
    plot.multi_line({ field: "t" }, { field: "x" }, { source: this.#lines, line_color: { field: "colour" }, line_width: 1 });
    this.#plot = plot;
  }

  #makeRows(names) {
    const rows = names.map((_, k) => -k);
    this.#plot.yaxis.ticker = this.#plot.ygrid.ticker = new window.Bokeh.FixedTicker({ ticks: rows });
    this.#plot.yaxis.major_label_overrides = new Map(rows.map((row, k) => [row, names[k]]));
    this.#plot.y_range.setv({ start: -names.length, end: 1 });
  }

  /**
   * Draw what there is.
   * @param {{t: number[], x: number[][]}} eeg
   * @param {string[]} names of its channels
   * @param {string[]} bad channels that are masked
   */
  show(eeg, names, bad) {
    if (this.#names !== names.join()) {
      this.#names = names.join();
      this.#makeRows(names);
    }
    const newest = eeg.t.at(-1);
    const t = eeg.t.map((time) => time - newest);
    this.#lines.data = {
      t: eeg.x.map(() => t), x: eeg.x.map((values, k) => values.map((value) => value / EEG_ROW_UV - k)),
      colour: names.slice(0, eeg.x.length).map((name) => (bad.includes(name) ? AXIS : ACCENT)),
    };
  }
}
