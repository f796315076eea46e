/** Which of the service's sessions this page shows: that of the address `/?session=NAME`, else the default one. */
import { byId, element, rebuild } from "./dom.js";
import { bearerHeader, keptToken } from "./token.js";

const LOOK_INTERVAL_MS = 5000;

/** @returns {?string} the name in the page's address. */
export function chosenSession(location) {
  return new URLSearchParams(location.search).get("session");
}

/** @returns {Promise<object[]>} the sessions as `/api/sessions` tells them; none while it cannot be asked. */
async function fetchSessions() {
  try {
    const answer = await fetch("/api/sessions", { headers: bearerHeader(keptToken()) });
    return answer.ok ? await answer.json() : [];
  } catch {
    return []; // the page says by its connection that the service is not there
  }
}

/** Offer a choice where there is more than one session. */
async function showChoice() {
  const sessions = await fetchSessions();
  if (sessions.length === 0) return;
  const chosen = chosenSession(window.location) ?? sessions.find((session) => session.default)?.name;
  byId("choice").hidden = sessions.length < 2;
  rebuild(byId("sessions"), JSON.stringify(sessions.map(({ name, state }) => [name, state])), () =>
    sessions.map(({ name, state }) =>
      element("option", { value: name, ...(name === chosen ? { selected: "" } : {}) }, `${name} (${state})`),
    ),
  );
}

/** Watch the sessions; another choice loads the page anew. */
export function startChoice() {
  byId("sessions").addEventListener("change", (event) => {
    window.location.search = new URLSearchParams({ session: event.target.value }).toString();
  });
  setInterval(showChoice, LOOK_INTERVAL_MS);
  return showChoice();
}
