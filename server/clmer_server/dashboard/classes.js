/** How a class is named in words and told apart from the others: by colour and by dash. */

/** Dark enough for 3:1 on white, and apart for the common colour-vision deficiencies. */
const COLOURS = ["#2c5f9e", "#c2410c", "#0f7b63", "#8b3a8f", "#8a6d00", "#4b5563", "#b42364", "#3f6212", "#5b4bc4"];

/** On and off lengths in pixels; empty is a solid line. */
const DASHES = [[], [7, 3], [2, 2.5], [9, 3, 2, 3]];

const LEVELS = { H: "high", L: "low" };

/**
 * The look of class number `index`.
 * @returns {{colour: string, dash: number[]}}
 */
export function classStyle(index) {
  return { colour: COLOURS[index % COLOURS.length], dash: DASHES[index % DASHES.length] };
}

/** @returns {string} a label in words, e.g. "high valence, low arousal"; "" where the label is a word itself. */
export function classWords(label) {
  const quadrant = /^([HL])V([HL])A$/.exec(label ?? "");
  return quadrant ? `${LEVELS[quadrant[1]]} valence, ${LEVELS[quadrant[2]]} arousal` : "";
}
