/** Binary blocks of signals, and the last seconds of EEG that they add up to. Pure. */

export const EEG_S = 10; // s of EEG that are kept
const MAGIC = "CLMP";
const TOPICS = { 1: "eeg.preview", 2: "face.preview" };
const HOLE_STEPS = 1.5; // blocks further apart than this many samples have something missing between them

/**
 * Read a block; docs/protocol.md has its layout.
 * @param {ArrayBuffer} buffer
 * @returns {?{topic: string, t: number, intervalS: number, rows: number, columns: number, values: Float32Array}} null: no
 *   block that is known here
 */
export function readPreview(buffer) {
  const view = new DataView(buffer);
  const letters = String.fromCharCode(...new Uint8Array(buffer, 0, Math.min(4, buffer.byteLength)));
  if (letters !== MAGIC || view.getUint8(4) !== 1) return null;
  const [begin, rows, columns] = [6, 8, 10].map((offset) => view.getUint16(offset, true));
  return {
    topic: TOPICS[view.getUint8(5)], t: view.getFloat64(16, true), intervalS: view.getFloat64(24, true), rows, columns,
    values: new Float32Array(buffer, begin, rows * columns),
  };
}

/** No EEG yet. */
export function noEeg() {
  return { t: [], x: [] }; // seconds; one array of microvolts for each channel, NaN where samples are missing
}

/** The EEG and the names of those channels that the stream has; the others are NaN throughout. */
export function presentEeg(eeg, names) {
  const rows = eeg.x.flatMap((row, k) => (row.some((value) => !Number.isNaN(value)) ? [k] : []));
  return { eeg: { t: eeg.t, x: rows.map((k) => eeg.x[k]) }, names: rows.map((k) => names[k] ?? "") };
}

/** The EEG with a block at its end; what is older than EEG_S goes, and time that runs backwards begins anew. */
export function grownEeg(eeg, block) {
  const last = eeg.t.at(-1);
  const kept = last === undefined || block.t < last || eeg.x.length !== block.rows ? { t: [], x: [] } : eeg;
  const hole = kept.t.length > 0 && block.t - last > HOLE_STEPS * block.intervalS;
  const times = Array.from({ length: block.columns }, (_, k) => block.t + k * block.intervalS);
  const t = [...kept.t, ...(hole ? [last + block.intervalS] : []), ...times];
  const first = t.findIndex((time) => time > t.at(-1) - EEG_S);
  const x = Array.from({ length: block.rows }, (_, row) => {
    const values = block.values.subarray(row * block.columns, (row + 1) * block.columns);
    return [...(kept.x[row] ?? []), ...(hole ? [NaN] : []), ...values].slice(first);
  });
  return { t: t.slice(first), x };
}
