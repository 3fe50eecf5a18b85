// SPDX-License-Identifier: Apache-2.0
// Keeps a page as it is on the server: fetches it again, and makes what is shown equal, node by node.
// Without this script every page works; it is then as of when it was loaded.
// No text ever becomes markup here: the browser parses a whole page of this server into a document of its own.

const LIVE = "X-Caisson-Live";
const byId = (id) => document.getElementById(id);
let every = Number(document.body.dataset.every) || 0;
let timer = 0;
let misses = 0;

// ---- make one tree equal another, and keep focus, what is typed, and what is open ----
function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function setAttributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  for (const { name, value } of [...to.attributes]) {
    if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
}

function isOwn(node) {
  return node.nodeType === 1 && (node.hasAttribute("data-keep") || /^(INPUT|TEXTAREA|SELECT)$/.test(node.nodeName));
}

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (isOwn(from)) return;
  const atEnd = from.hasAttribute("data-tail") && from.scrollHeight - from.scrollTop - from.clientHeight < 30;
  setAttributes(from, to);
  let have = from.firstChild;
  for (let want = to.firstChild; want; want = want.nextSibling) {
    let match = have;
    if (want.nodeType === 1 && want.id) {
      while (match && !(match.nodeType === 1 && match.id === want.id)) match = match.nextSibling;
      if (match && match !== have) from.insertBefore(match, have);
    } else {
      while (have && have.nodeType === 1 && have.id && !byIdIn(to, have.id)) {
        const gone = have;
        have = have.nextSibling;
        gone.remove();
      }
      match = have;
    }
    if (match && sameKind(match, want)) {
      morph(match, want);
      have = match.nextSibling;
    } else {
      from.insertBefore(document.importNode(want, true), have);
    }
  }
  while (have) {
    const next = have.nextSibling;
    have.remove();
    have = next;
  }
  if (atEnd) from.scrollTop = from.scrollHeight;
}

function byIdIn(parent, id) {
  return [...parent.children].some((child) => child.id === id);
}

// ---- ask again ----
function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  const request = new XMLHttpRequest();
  request.responseType = "document";
  request.timeout = 10000;
  request.onload = () => {
    misses = 0;
    byId("lost").hidden = true;
    if (request.status === 401) {
      byId("over").hidden = false;
      return;
    }
    if (request.response && request.response.body && request.response.body.dataset.every !== undefined) show(request.response);
    plan();
  };
  request.onerror = request.ontimeout = () => {
    misses += 1;
    byId("lost").hidden = misses < 2;
    plan();
  };
  request.open("GET", location.pathname + location.search);
  request.setRequestHeader(LIVE, "1");
  request.send();
}

function show(page) {
  const focused = document.activeElement;
  for (const region of document.querySelectorAll("[data-live]")) {
    const news = page.getElementById(region.id);
    if (news) morph(region, news);
  }
  document.title = page.title;
  every = Number(page.body.dataset.every) || 0;
  openStream();
  if (focused && focused !== document.body && !focused.isConnected) byId("main").focus();
}

function plan() {
  clearTimeout(timer);
  if (every) timer = setTimeout(refresh, every * 1000 * Math.min(6, 1 + misses));
}

// ---- the log of a job, as it is written ----
let stream = null;
let place = "", soon = 0;

function refreshSoon() {
  if (!soon) soon = setTimeout(() => { soon = 0; refresh(); }, 400);
}

function openStream() {
  const log = byId("joblog");
  if (!log || !log.dataset.stream || stream || document.hidden) return;
  const address = log.dataset.stream;
  stream = new EventSource(place ? address.replace(/from=.*/, "from=" + place) : address);
  stream.addEventListener("log", (event) => {
    place = event.lastEventId;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    log.append(JSON.parse(event.data).lines.map((line) => line + "\n").join(""));
    while (log.childNodes.length > 4000) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  for (const kind of ["phase", "state"]) {
    stream.addEventListener(kind, (event) => { place = event.lastEventId; refreshSoon(); });
  }
  stream.onerror = () => { if (stream && stream.readyState === 2) stream = null; }; // refused: with the next news again
  for (const kind of ["end", "over"]) {
    stream.addEventListener(kind, () => { delete log.dataset.stream; closeStream(); refreshSoon(); });
  }
}

function closeStream() {
  if (stream) stream.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    closeStream();
  } else {
    refresh();
    openStream();
  }
});

// ---- small things ----
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.hasAttribute("data-quiet")) return;
  event.preventDefault();
  const request = new XMLHttpRequest();
  request.onload = () => { if (request.status === 204) { form.remove(); refresh(); } else form.submit(); };
  request.open("POST", form.action);
  request.setRequestHeader(LIVE, "1");
  request.send(new URLSearchParams(new FormData(form)));
});

for (const form of document.querySelectorAll("form[data-remember]")) {
  const typed = [...form.elements].filter((one) => one.name && /^(text|radio)$/.test(one.type));
  const kept = JSON.parse(sessionStorage.getItem(form.dataset.remember) || "{}");
  for (const one of location.search || form.querySelector("[aria-invalid]") ? [] : typed) {
    if (one.type === "radio") one.checked = kept[one.name] ? kept[one.name] === one.value : one.checked;
    else if (kept[one.name]) one.value = kept[one.name];
  }
  form.addEventListener("input", () => {
    sessionStorage.setItem(form.dataset.remember, JSON.stringify(Object.fromEntries(
      typed.filter((one) => one.type !== "radio" || one.checked).map((one) => [one.name, one.value]))));
  });
}

const code = byId("code");
if (code && location.hash.length > 16) {
  code.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
}
for (const tail of document.querySelectorAll("[data-tail]")) tail.scrollTop = tail.scrollHeight;
document.documentElement.classList.add("js");
openStream();
plan();
