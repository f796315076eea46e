/** Small steps on the page. Text goes in as text only; what is unchanged is left alone, so nothing is announced twice. */

/** @returns {HTMLElement} the element of index.html with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Set an element's text. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set or, with null, remove an attribute. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * A new element.
 * @param {string} tag
 * @param {Object<string, string>} attributes
 * @param {...(Node|string)} children strings become text
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Replace the children of `parent` when `key` differs from the one of the last call. */
export function rebuild(parent, key, children) {
  if (parent.dataset.key === key) return;
  parent.dataset.key = key;
  parent.replaceChildren(...children());
}
