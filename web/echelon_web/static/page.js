// Theme before first paint, keys, copying, and the age of what is shown. Everything else is HTML.
(function () {
  "use strict";
  const root = document.documentElement;
  if (root.dataset.themeAsked === "system" && matchMedia("(prefers-color-scheme: dark)").matches) {
    root.dataset.bsTheme = "dark";
  }

  const STALE_S = 10, LOST_S = 60;
  let age = 0, heardAt = 0, connected = false, paused = null;

  function pill(kind, word, number) {
    const shown = document.getElementById("age");
    if (!shown) return;
    shown.dataset.age = kind;
    const said = shown.querySelector("b");
    if (said.textContent !== word) said.textContent = word;
    shown.querySelector("span").textContent = number;
    document.getElementById("main").classList.toggle("e-stale", kind === "stale" || kind === "lost");
  }
  function seconds(s) {
    return s < 10 ? s.toFixed(1) + " s" : s < 90 ? Math.round(s) + " s" : Math.round(s / 60) + " min";
  }
  function tick() {
    if (paused) return;
    if (!heardAt) return pill("paused", "Connecting", "");
    const old = age + (performance.now() - heardAt) / 1000;
    if (old > LOST_S) pill("lost", "Cut off", seconds(old) + " old");
    else if (old > STALE_S || !connected) pill("stale", "Reconnecting", seconds(old) + " old");
    else pill("live", "Live", seconds(old));
  }
  function pause() {
    const source = document.getElementById("live");
    if (paused) {
      document.body.append(paused);
      window.htmx.process(paused);
      paused = null;
    } else if (source) {
      paused = source.cloneNode(true);
      paused.removeAttribute("data-htmx-powered");
      source.remove();
      pill("paused", "Paused", "at " + new Date().toISOString().slice(11, 19));
    }
  }
  function theme() {
    root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    document.cookie = "echelon-theme=" + root.dataset.bsTheme + "; path=/; max-age=31536000; samesite=strict";
  }

  // Only now are all scripts there: htmx begins as soon as its own has run, and an element that it meets before
  // the extension for streams is registered stays unconnected for ever.
  document.addEventListener("DOMContentLoaded", function () {
    const source = document.getElementById("live");
    if (!source) return;
    source.setAttribute("hx-sse:connect", source.dataset.connect);
    source.setAttribute("hx-trigger", "load, every 5s");
    source.removeAttribute("data-htmx-powered");
    window.htmx.process(source);
  });
  document.addEventListener("htmx:sse:after:connection", function () { connected = true; });
  document.addEventListener("htmx:sse:error", function () { connected = false; tick(); });
  document.addEventListener("beat", function (e) {
    age = JSON.parse(e.detail.data).age;
    heardAt = performance.now();
    connected = true;
    tick();
  });
  setInterval(tick, 500);

  document.addEventListener("click", function (e) {
    if (e.target.closest("[data-act=theme]")) theme();
    if (e.target.closest("#age")) pause();
    const copy = e.target.closest("[data-copy]");
    if (copy && navigator.clipboard) {
      navigator.clipboard.writeText(copy.dataset.copy).then(function () {
        copy.setAttribute("aria-label", "Copied " + copy.dataset.copy);
      });
    }
  });

  const go = { o: "/ui/", t: "/ui/tasks" };
  let afterG = false;
  document.addEventListener("keydown", function (e) {
    if (e.target.closest("input, textarea, select") || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/") { e.preventDefault(); document.getElementById("find").focus(); }
    if (e.key === "?") document.getElementById("keys").togglePopover();
    if (e.key === "r") pause();
    if (afterG && go[e.key]) location.href = go[e.key];
    afterG = e.key === "g";
  });
})();
