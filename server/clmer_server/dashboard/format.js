/** Numbers as text. What was not measured is a dash, never 0. */

export const NOT_MEASURED = "–";

/** @returns {?number} the value if it is a finite number, else null. */
export function measured(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/**
 * @param {?number} value
 * @param {number} digits behind the point
 * @param {string} unit appended with a narrow space; "" for none
 * @returns {string}
 */
export function number(value, digits, unit = "") {
  if (measured(value) === null) return NOT_MEASURED;
  const text = value.toFixed(digits).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
  return unit ? `${text}\u202f${unit}` : text;
}

/** @returns {string} a share of 1 in percent. */
export function percent(share, digits = 0) {
  return measured(share) === null ? NOT_MEASURED : number(share * 100, digits, "%");
}

/** @returns {string} the value as text, or a dash for null, undefined and "". */
export function text(value) {
  return value === null || value === undefined || value === "" ? NOT_MEASURED : String(value);
}
