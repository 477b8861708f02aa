// The page says everything without this. With it the clocks run, and what has changed is put in its place: the server
// says that something has, and the same page is asked for again. Nothing is drawn here.
"use strict";
(() => {
  const html = document.documentElement;
  const live = document.getElementById("live");
  const announce = document.getElementById("announce");
  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  let version = html.dataset.version;
  let offset = Number(html.dataset.now) * 1000 - Date.now();
  let stream = null, fetching = false, again = false, lost = 0, seen = Date.now(), asked = seen;

  // As prober.page.words.clock has it.
  const clock = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    const days = Math.floor(whole / 86400), rest = whole % 86400;
    const two = (number) => String(number).padStart(2, "0");
    const text = `${Math.floor(rest / 3600)}:${two(Math.floor(rest / 60) % 60)}:${two(rest % 60)}`;
    return days ? `${days} d ${text}` : text;
  };

  const tick = () => {
    const now = (Date.now() + offset) / 1000;
    for (const one of document.querySelectorAll("[data-since]")) {
      const text = clock(now - Number(one.dataset.since));
      if (one.textContent !== text) one.textContent = text;
    }
    if (live.className === "on") {
      const at = new Date(now * 1000), two = (number) => String(number).padStart(2, "0");
      document.getElementById("now").textContent = `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}, `
        + `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} UTC`;
    }
    // While an outage goes on, what is said beside its clock ages with every second; a text that is being marked stays.
    if (live.className === "on" && !document.hidden && !fetching && Date.now() - asked > 5000
        && document.querySelector("[data-since]") && getSelection().isCollapsed) refresh();
    if (lost && Date.now() - lost > 5000) say("off", "connection lost; as of");
  };

  const say = (state, text) => {
    if (live.className === state) return;
    live.className = state;
    live.textContent = text;
  };

  const sentences = (root) => [...root.querySelectorAll(".verdict .head")].map((one) => one.textContent.trim());

  // Where the keyboard was: replaced parts must not throw it back to the top.
  const place = () => {
    const at = document.activeElement;
    if (!at || at === document.body) return null;
    return at.id ? `#${CSS.escape(at.id)}` : at.getAttribute("href") ? `a[href="${CSS.escape(at.getAttribute("href"))}"]` : null;
  };

  const put = (fresh) => {
    const before = sentences(document), focus = place();
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
    const ids = (root) => [...root.querySelectorAll("main [data-part]")].map((one) => one.id).join(" ");
    const several = ids(document) === ids(fresh) ? document.querySelectorAll("[data-part]") : [document.querySelector("main")];
    for (const old of several) {
      const other = old.id ? fresh.getElementById(old.id) : null;
      if (!other) continue;
      for (const id of open) other.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
      if (old.innerHTML !== other.innerHTML) old.replaceWith(document.importNode(other, true));
    }
    if (focus && document.activeElement === document.body) document.querySelector(focus)?.focus({ preventScroll: true });
    document.title = fresh.title;
    const icon = document.getElementById("icon"), other = fresh.getElementById("icon");
    if (other && icon.getAttribute("href") !== other.getAttribute("href")) icon.href = other.getAttribute("href");
    const changed = sentences(document).filter((one, number) => one !== before[number]);
    if (changed.length) announce.textContent = changed.join(" ");
    version = fresh.documentElement.dataset.version;
    offset = Number(fresh.documentElement.dataset.now) * 1000 - Date.now();
    seen = Date.now();
    tick();
  };

  const refresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    asked = Date.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the stream says when it is back */ }
    await new Promise((done) => setTimeout(done, 700));
    fetching = false;
    if (again) { again = false; refresh(); }
  };

  const listen = () => {
    stream?.close();
    stream = new EventSource(`${html.dataset.root}events`);
    stream.onopen = () => { if (lost) refresh(); lost = 0; say("on", "live"); };
    stream.onmessage = (event) => { if (event.data !== version || Date.now() - seen > 25000) refresh(); };
    stream.onerror = () => {
      lost ||= Date.now();
      if (stream.readyState === EventSource.CLOSED) setTimeout(() => { refresh(); if (!document.hidden) listen(); }, 15000);
    };
  };

  // A browser gives a host six connections: pages that nobody looks at do not keep one.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream?.close(); stream = null; } else { listen(); refresh(); }
  });
  addEventListener("pagehide", () => stream?.close());
  setInterval(tick, 1000);
  tick();
  listen();
})();
