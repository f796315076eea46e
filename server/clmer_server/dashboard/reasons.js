/** The service's vocabulary in plain words. A code that is not listed is shown as its own words. */

const REASONS = new Map([
  ["warming_up", "Starting: the filters have not settled yet"],
  ["gap", "Samples are missing within this window"],
  ["eeg_missing", "No EEG stream"],
  ["eeg_stale", "EEG has stopped arriving"],
  ["eeg_channels_bad", "Too many bad EEG channels"],
  ["eeg_flat", "EEG channels are flat: check the electrodes"],
  ["eeg_noisy", "EEG channels are noisy"],
  ["eeg_muscle", "Muscle activity in the EEG"],
  ["eeg_clock_jump", "The EEG's clock jumped"],
  ["face_missing", "No face in view"],
  ["face_multiple", "More than one face in view"],
  ["face_small", "The face is too small: move closer"],
  ["face_turned", "The face is turned away"],
  ["face_blurred", "The face is blurred"],
  ["face_dark", "The face is too dark"],
  ["video_stale", "The video has stopped arriving"],
  ["face_extractor_mismatch", "The face stream was made by another extractor and is not used"],
  ["uncalibrated", "Not calibrated to this person"],
  ["modality_fallback", "Only some of the signals could be used"],
  ["low_confidence", "The model is not sure"],
  ["overload_skipped", "Skipped: the computer was too slow"],
  ["model_error", "The model failed on this window"],
]);

const FACE_CALIBRATIONS = new Map([
  ["none", "none"],
  ["prior", "average face"],
  ["running", "adapting"],
  ["explicit", "done"],
]);

const EEG_CALIBRATIONS = new Map([
  ["none", "none"],
  ["rest", "rest period"],
]);

/** @returns {string} the code with spaces: better than nothing for a word this page does not know. */
function spelled(code) {
  return String(code).replaceAll("_", " ");
}

/** @returns {string} a sentence for a reason code of a prediction. */
export function reasonText(code) {
  return REASONS.get(code) ?? spelled(code);
}

/** @returns {string} words for a calibration state of a modality ("eeg" or "face"). */
export function calibrationText(modality, code) {
  const words = modality === "eeg" ? EEG_CALIBRATIONS : FACE_CALIBRATIONS;
  return words.get(code) ?? spelled(code);
}

/** @returns {string} a sentence for a `gap` message: this page read too slowly. */
export function gapText(dropped) {
  return `This page read too slowly; ${dropped} messages were left out.`;
}

/** @returns {string} a sentence for a `bye` message. */
export function byeText(reason) {
  return `The service ended the connection: ${spelled(reason)}.`;
}
