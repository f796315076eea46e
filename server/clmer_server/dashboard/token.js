/** The service's token, where it asks for one: typed by the user, kept for this tab alone, never in an address. */
import { byId, setText } from "./dom.js";

const KEY = "clmer.token";
const PROTOCOL = "clmer.v1.json";
const BEARER = "clmer.bearer.";

/** @returns {?string} the token of this tab, or null. */
export function keptToken() {
  return sessionStorage.getItem(KEY);
}

/** @returns {object} the headers that carry a token. */
export function bearerHeader(token) {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** @returns {string[]} the subprotocols that carry a token: a browser cannot give a WebSocket headers. */
export function bearerSubprotocols(token) {
  if (token === null) return [];
  const encoded = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return [PROTOCOL, BEARER + encoded];
}

/** Ask the service whether it wants a token, and the user for it until it is the right one; null where none is wanted. */
export async function goodToken() {
  if (!(await isWanted())) return null;
  let token = keptToken();
  while (token === null || !(await isRight(token))) token = await typed(token !== null);
  sessionStorage.setItem(KEY, token);
  return token;
}

/** A service that does not answer asks for nothing: the attempt to connect will tell. */
async function isWanted() {
  const answer = await fetch("/healthz").catch(() => null);
  return answer?.ok === true && (await answer.json()).token_required === true;
}

async function isRight(token) {
  const answer = await fetch("/version", { headers: bearerHeader(token) }).catch(() => null);
  return answer?.status !== 401;
}

/** What the user types; `again` says that it was not right before. */
function typed(again) {
  const [dialog, form, input] = ["token-dialog", "token-form", "token-input"].map(byId);
  setText(byId("token-remark"), again ? "This is not the service's token." : "");
  input.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    const take = (event) => {
      event.preventDefault();
      dialog.close();
      resolve(input.value.trim());
    };
    form.addEventListener("submit", take, { once: true });
  });
}
