/** The WebSocket to the service, opened again by itself when it closes. */

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

/**
 * How long to wait before attempt number `attempt` (0 is the first retry).
 * @param {?number} retryAfterS what the service asked for in its `bye`, in seconds
 * @returns {number} milliseconds
 */
export function retryDelayMs(attempt, retryAfterS = null) {
  if (retryAfterS !== null) return retryAfterS * 1000;
  return Math.min(FIRST_RETRY_MS * 2 ** attempt, LAST_RETRY_MS);
}

/**
 * @param {?string} session the session to join; null: the default one
 * @returns {string} the address of `/ws` on the host that served this page.
 */
export function socketAddress(location, session = null) {
  const query = session === null ? "" : `?${new URLSearchParams({ session })}`;
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws${query}`;
}

export class Connection {
  #address;
  #subprotocols;
  #onMessage;
  #onChange;
  #onBinary;
  #socket = null;
  #attempt = 0;
  #retryAfterS = null;

  /**
   * @param {string} address
   * @param {() => Promise<string[]>} subprotocols asked for before every attempt
   * @param {(message: object) => void} onMessage called with every parsed message
   * @param {(connection: {phase: string, retryAtMs: ?number}) => void} onChange
   * @param {(content: ArrayBuffer) => void} onBinary called with every block of a preview
   */
  constructor(address, subprotocols, onMessage, onChange, onBinary) {
    this.#onBinary = onBinary;
    this.#address = address;
    this.#subprotocols = subprotocols;
    this.#onMessage = onMessage;
    this.#onChange = onChange;
  }

  /** Connect now, and again whenever the connection ends; the phase stays "waiting" until an attempt succeeds. */
  async open() {
    if (this.#attempt === 0) this.#onChange({ phase: "connecting", retryAtMs: null });
    const socket = new WebSocket(this.#address, await this.#subprotocols());
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#onChange({ phase: "open", retryAtMs: null }));
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") this.#take(JSON.parse(data));
      else this.#onBinary(data);
    });
    socket.addEventListener("close", () => this.#retry());
  }

  /** Say something to the service; without a connection it is not said. */
  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** A welcome shows that the service means it: only then does the waiting start from the beginning. */
  #take(message) {
    if (message.type === "welcome") this.#attempt = 0;
    if (message.type === "bye") this.#retryAfterS = message.retry_after_s ?? null;
    this.#onMessage(message);
  }

  #retry() {
    const delayMs = retryDelayMs(this.#attempt, this.#retryAfterS);
    this.#attempt += 1;
    this.#retryAfterS = null;
    this.#onChange({ phase: "waiting", retryAtMs: Date.now() + delayMs });
    setTimeout(() => this.open(), delayMs);
  }
}
