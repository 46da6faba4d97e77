// What the pages do beyond links and forms. Without this file everything still works, as full pages.
"use strict";

const dialog = () => document.getElementById("dialog");
let opener = null;   // what had the focus before the dialog, and gets it back
let behind = "";     // the id of the part of the page that the opener is in
let copied = true;   // whether the key on the page has been copied, or there is none
let warned = false;  // whether closing without a copy has been asked about

// Says text to those who do not see the page. An open dialog silences all that is outside it, so it has a place of its own.
function announce(text) {
  const d = dialog();
  let place = document.getElementById("announce");
  if (d && d.open) {
    place = d.querySelector(":scope > [role=status]");
    if (!place) {
      place = document.createElement("div");
      place.className = "visually-hidden";
      place.setAttribute("role", "status");
      d.append(place);
    }
  }
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 100); // a change is read out, what was there before is not
}

// What asks by itself every few seconds what has become of a revocation. That it is not answered is no news.
const polls = (e) => e.detail.requestConfig.elt.hasAttribute("data-poll");
let held = false; // whether what is about to be replaced has the focus
// Focuses the name of the key in the part of the page that has this id: in its
// row or above its page.
function land(id) {
  const part = document.getElementById(id) || document.getElementById("main");
  (part.querySelector("h1[tabindex], .key-name") || part).focus({ preventScroll: true });
}
document.addEventListener("htmx:beforeSwap", (e) => {
  if (e.detail.xhr.getResponseHeader("HX-Reswap")) { // a failure that has its place in the page
    e.detail.shouldSwap = true;
    e.detail.isError = false;
  }
  held = polls(e) && e.detail.target.contains(document.activeElement);
});
document.addEventListener("htmx:afterSwap", (e) => {
  if (!held) return;
  held = false;
  land(e.detail.target.id);
});

// The dialog shows whatever htmx puts into it.
document.addEventListener("htmx:beforeRequest", (e) => {
  if (polls(e)) return;
  for (const box of document.querySelectorAll(".complaint")) box.remove();
  const d = dialog();
  if (!d || e.detail.target !== d || d.open) return;
  opener = e.detail.elt;
  behind = opener.closest("[data-key-id], #main")?.id;
});
document.addEventListener("htmx:afterSettle", (e) => {
  const d = dialog();
  if (!d || e.detail.target !== d) return;
  const title = d.querySelector("h1");
  if (d.open) announce(title.textContent); // a dialog that opens is announced by itself
  else {
    document.getElementById("announce").textContent = ""; // or closing would read old news out again
    d.showModal();
  }
  (d.querySelector("[autofocus]") || title).focus();
  reveal();
});
// An answer that changes the page behind the dialog ends the dialog. What has changed gets the focus.
document.addEventListener("htmx:afterSwap", (e) => {
  const d = dialog();
  if (!d || !d.open || e.detail.target === d || !d.contains(e.detail.requestConfig.elt)) return;
  if (d.contains(e.detail.target)) return e.detail.target.querySelector(".complaint")?.focus();
  opener = null;
  behind = e.detail.target.id;
  d.close();
});
function closed() {
  const d = dialog();
  const created = d.querySelector("#api-key") && d.querySelector("[data-close]").href;
  forget();
  d.replaceChildren();
  mayLeave(true);
  if (created) return leave(created);
  if (opener && opener.isConnected) opener.focus();
  else land(behind); // the opener was replaced
  opener = null;
  const said = document.getElementById("announce").textContent; // while the dialog silenced it
  if (said) announce(said);
}
function leave(url) {
  const to = new URL(url);
  if (to.pathname + to.search !== location.pathname + location.search) return location.assign(url);
  history.replaceState(history.state, "", url); // a change of the fragment alone would load nothing
  location.reload();
}

// The key: selected when shown, asked about once when it would be lost, and gone from the page when it is left.
function reveal() {
  const key = document.getElementById("api-key");
  if (!key) return;
  mayLeave(warned = false);
  document.querySelector("[data-copy]").hidden = false;
  key.focus();
  key.select();
}
// Leaving in any other way than by closing has the browser ask, only while the key would be lost.
function mayLeave(yes) {
  copied = yes;
  (yes ? removeEventListener : addEventListener)("beforeunload", ask);
}
function ask(e) {
  e.preventDefault();
  unsend(); // the page may stay
}
function mayClose() {
  if (copied || !document.getElementById("api-key")) return true;
  if (warned) {
    mayLeave(true); // asked once is enough
    return true;
  }
  warned = true;
  const box = document.getElementById("not-copied");
  box.hidden = false;
  box.scrollIntoView({ block: "nearest" });
  return false;
}
function forget() {
  for (const e of document.querySelectorAll("[data-secret]")) {
    if ("value" in e) { e.value = ""; e.removeAttribute("value"); } else e.textContent = "";
  }
}
addEventListener("pagehide", forget);

async function copy(button) {
  const field = document.getElementById("api-key"), help = document.getElementById("copy-help");
  try {
    await navigator.clipboard.writeText(field.value);
    isCopied();
    button.textContent = "Copied";
    announce("Copied");
    help.hidden = true;
  } catch {
    field.focus();
    field.select();
    help.hidden = false;
    announce(help.textContent);
  }
}
function isCopied() {
  mayLeave(true);
  document.getElementById("not-copied").hidden = true;
}
document.addEventListener("copy", (e) => {
  if (e.target.closest && e.target.closest("[data-secret]")) isCopied();
});

document.addEventListener("click", (e) => {
  const button = e.target.closest("[data-copy], [data-preset], [data-close]");
  if (!button) return;
  if (button.hasAttribute("data-copy")) return void copy(button);
  if (button.hasAttribute("data-preset")) {
    e.preventDefault();
    const wanted = button.dataset.preset.split(" ");
    for (const box of button.form.querySelectorAll("[name=permissions]")) box.checked = wanted.includes(box.value);
    return announce(button.textContent + ": " + wanted.join(", "));
  }
  if (!mayClose()) return e.preventDefault();
  if (dialog() && dialog().open) {
    e.preventDefault();
    dialog().close();
  }
});

// A form that is on its way is not sent again, unless its navigation was
// stopped. Browsers without the Navigation API do not report that, but Esc
// always stops a navigation.
document.addEventListener("submit", (e) => {
  const form = e.target;
  if (form.method !== "post" || form.hasAttribute("hx-post")) return;
  if (form.dataset.sent) return e.preventDefault();
  form.dataset.sent = "1";
});
function unsend() { for (const form of document.forms) delete form.dataset.sent; }
addEventListener("pageshow", unsend);
if (window.navigation) navigation.addEventListener("navigateerror", unsend);
addEventListener("keyup", (e) => { if (e.key === "Escape") unsend(); });

// The list's address holds only what it is narrowed by, and how many keys were found is said.
document.addEventListener("htmx:configRequest", (e) => {
  const p = e.detail.parameters;
  if (e.detail.verb === "get") for (const name of Object.keys(p)) if (p[name] === "") delete p[name];
});
document.addEventListener("htmx:afterSettle", (e) => {
  const found = e.detail.target.id === "keys" && document.getElementById("found");
  if (found) announce(found.textContent);
});

// An answer that is no page, or none at all, is said where the eye is.
// A request whose answer is missing may have had its effect.
const unknown = (e) => e.detail.elt.dataset.unknown || "";
function complain(text) {
  const place = (dialog() && dialog().open && dialog().querySelector(".dlg-body")) || document.querySelector("main");
  const box = document.createElement("p");
  box.className = "dangerbox complaint";
  box.setAttribute("role", "alert");
  box.tabIndex = -1;
  place.prepend(box);
  box.textContent = text;
  box.scrollIntoView({ block: "nearest" });
  const at = document.activeElement; // a button that is disabled during its request loses the focus
  if (at === document.body || at.disabled || at.closest("dialog")) box.focus();
}
document.addEventListener("htmx:responseError", (e) => {
  if (polls(e)) return;
  const answer = new DOMParser().parseFromString(e.detail.xhr.responseText, "text/html").querySelector("body > .dangerbox");
  complain(answer ? answer.textContent : unknown(e) + "The server could not do this (" + e.detail.xhr.status + "). Try again in a moment.");
});
document.addEventListener("htmx:sendError", (e) => polls(e) || complain(unknown(e) + "The server could not be reached. Check the connection and try again."));
// The row that an answer was meant for may have left the list behind the dialog: then the form goes as it would without
// htmx, to an answer that is a page of its own.
document.addEventListener("htmx:targetError", (e) => {
  if (e.detail.elt.matches("form[method=post]")) e.detail.elt.submit();
});
document.addEventListener("htmx:timeout", (e) => polls(e) || complain(unknown(e) + "The server did not answer in time. Try again."));

// The row of a new key gets the focus, after the browser has gone to it by itself.
addEventListener("load", () => requestAnimationFrame(() => {
  const row = location.hash && document.getElementById(location.hash.slice(1));
  if (row && row.dataset.keyId) row.querySelector("a").focus();
}));
document.addEventListener("DOMContentLoaded", () => {
  reveal();
  const d = dialog();
  if (!d) return;
  d.addEventListener("cancel", (e) => { if (!mayClose()) e.preventDefault(); });
  d.addEventListener("close", closed);
});
