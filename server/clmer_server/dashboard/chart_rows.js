/** From the history of predictions to what the charts draw. Pure. */

const MIN_LABEL_DISTANCE = 0.075; // of the probability axis: one line of text
const HOLE_HOPS = 1.5; // rows further apart than this many hops have something missing between them

/**
 * Spans of neighbouring rows that are not valid, in seconds before the newest row.
 * @param {{t: number, valid: boolean}[]} history oldest first
 * @param {number} hopS distance of neighbouring rows, s
 * @returns {{left: number[], right: number[]}}
 */
export function invalidSpans(history, hopS) {
  const spans = { left: [], right: [] };
  const newest = history.at(-1)?.t;
  history.forEach((row, index) => {
    if (row.valid) return;
    const t = row.t - newest;
    const before = history[index - 1];
    const joined = before !== undefined && !before.valid && row.t - before.t < HOLE_HOPS * hopS;
    if (joined) spans.right.pop();
    else spans.left.push(t - hopS / 2);
    spans.right.push(Math.min(t + hopS / 2, 0));
  });
  return spans;
}

/**
 * The history with an empty row wherever messages are missing, so that no line is drawn across.
 * @param {number} hopS s
 */
export function withHoles(history, hopS) {
  return history.flatMap((row, index) => {
    const before = history[index - 1];
    const hole = before !== undefined && row.t - before.t > HOLE_HOPS * hopS;
    if (!hole) return [row];
    const nothing = { valid: false, probs: row.probs.map(() => null), valence: null, arousal: null };
    return [{ t: before.t + hopS, ...nothing }, row];
  });
}

/**
 * Heights for labels beside `values` that do not overlap: pushed up from the lowest, then down from the top.
 * @param {number[]} values 0-1
 * @returns {number[]} in the order of `values`
 */
export function labelHeights(values) {
  const order = values.map((_, index) => index).sort((a, b) => values[a] - values[b]);
  const heights = [...values];
  for (let k = 1; k < order.length; k += 1) {
    heights[order[k]] = Math.max(heights[order[k]], heights[order[k - 1]] + MIN_LABEL_DISTANCE);
  }
  let ceiling = 1;
  for (const index of order.reverse()) {
    heights[index] = Math.min(heights[index], ceiling);
    ceiling = heights[index] - MIN_LABEL_DISTANCE;
  }
  return heights;
}
