// The page: three views, and the address that says which one shows what, so that it can be sent to someone.

import { LANGUAGES } from "./labels.js";
import { bars, element, picture } from "./picture.js";
import { ask, Refused, remember } from "./server.js";

const main = document.getElementById("main");
const status = document.getElementById("status");
const SHOWN = 600; // characters of a hit before the reader asks for all
// Scripts without spaces between words: there, a word may begin anywhere.
const UNSPACED = /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}]/u;
const OF_CHUNK = ["document", "chunk", "start", "end"]; // where a chunk lies in its document
const PAUSE = 150; // milliseconds without a key pressed, after which a search begins

let info;
let asking = new AbortController();

function state() {
  const given = new URLSearchParams(location.search);
  const fallback = info?.trivec.collection ? "search" : "texts";
  return {
    view: given.get("view") ?? fallback,
    q: given.get("q") ?? "",
    mode: given.get("mode") ?? "hybrid",
    other: given.get("other") ?? "dense",
    rerank: given.get("rerank") ?? "",
    filter: given.get("filter") ?? "",
    limit: given.get("limit") ?? "10",
    second: given.get("second") ?? "",
    lang: given.get("lang") ?? (navigator.language.startsWith("ja") ? "ja" : "en"),
  };
}

function labels() {
  return LANGUAGES[state().lang] ?? LANGUAGES.en;
}

function address(changes) {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) given.set(name, value);
    else given.delete(name);
  }
  return `?${given}`;
}

function remembered(changes) {
  history.replaceState(null, "", address(changes));
}

function go(changes) {
  history.pushState(null, "", address(changes));
  show();
}

function link(text, changes, current) {
  const follow = (event) => {
    event.preventDefault();
    go(changes);
  };
  return element("a", { href: address(changes), onclick: follow, "aria-current": current ? "page" : null }, text);
}

function frame() {
  const t = labels();
  const { view, lang } = state();
  document.documentElement.lang = lang;
  const views = info.trivec.collection ? ["search", "compare", "texts"] : ["texts"];
  document.getElementById("views").replaceChildren(...views.map((name) => link(t[name], { view: name }, view === name)));
  const where = info.trivec.collection ? t.collection(info.trivec.collection) : t.noCollection;
  document.getElementById("model").textContent = `${info.trivec.name} · ${info.trivec.precision} · ${where}`;
  const language = document.getElementById("language");
  language.textContent = t.other;
  language.onclick = () => go({ lang: lang === "ja" ? "en" : "ja" });
}

function field(label, input, kind) {
  return element("label", { class: kind }, label, input);
}

function choice(name, values, chosen, label) {
  const options = values.map((value) => element("option", { value, selected: value === chosen }, label(value)));
  return element("select", { name }, ...options);
}

function told(error, where) {
  if (error.name === "AbortError") return;
  where.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
}

// Searches as one types: what was asked before is not waited for.
async function search(body) {
  asking.abort();
  asking = new AbortController();
  return ask("search", body, asking.signal);
}

function searchForm(after, two) {
  const t = labels();
  const { q, mode, other, rerank, filter, limit } = state();
  const named = (value) => t[value] ?? value;
  const modes = info.trivec.modes;
  const form = element(
    "form",
    { role: "search" },
    field(t.query, element("input", { type: "search", name: "q", value: q, autocomplete: "off", dir: "auto" }), "wide"),
    field(two ? t.left : t.mode, choice("mode", modes, mode, named)),
    two ? field(t.right, choice("other", modes, other, named)) : null,
    field(t.rerank, choice("rerank", ["", ...info.trivec.rerankers], rerank, (value) => (value ? named(value) : t.none))),
    field(t.filter, element("input", { name: "filter", value: filter, placeholder: "year > 2000" }), "grow"),
    field(t.limit, element("input", { name: "limit", type: "number", min: 1, max: 100, value: limit })),
  );
  let timer;
  const begin = () => {
    const given = Object.fromEntries(new FormData(form));
    remembered(given);
    after();
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(begin, PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    begin();
  });
  return form;
}

function request(mode) {
  const { q, rerank, filter, limit } = state();
  return { query: q, mode, rerank: rerank || null, filter: filter || null, limit: Number(limit) || 10 };
}

// A text with the words that matched marked, whatever case they are in.
function marked(text, words) {
  const wanted = words
    .filter((word) => word !== "▁")
    .sort((a, b) => b.length - a.length)
    .map((word) => (UNSPACED.test(word) ? "" : "(?<![\\p{L}\\p{M}\\p{N}])") + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!wanted.length) return [text];
  const parts = text.split(new RegExp(`(${wanted.join("|")})`, "giu"));
  return parts.map((part, i) => (i % 2 ? element("mark", {}, part) : part));
}

function hitCard(hit, scale, change) {
  const t = labels();
  const words = hit.matched_words.map(({ word }) => word);
  const text = element("p", { class: "text", dir: "auto" });
  const start = hit.text.slice(0, SHOWN);
  text.append(...marked(start, words), hit.text.length > SHOWN ? "…" : "");
  const whole = element("button", { type: "button" }, t.whole);
  whole.addEventListener("click", () => {
    text.replaceChildren(...marked(hit.text, words));
    whole.remove();
  });
  const shown = Object.entries(hit.metadata).filter(([name]) => !OF_CHUNK.includes(name));
  const metadata = shown.map(([name, value]) =>
    element("div", {}, element("dt", {}, `${name}:`), element("dd", { dir: "auto" }, String(value))),
  );
  const card = element(
    "li",
    { class: "hit" },
    element("h3", { dir: "auto" }, hit.id),
    change ? element("p", { class: "change" }, change) : null,
    bars({ fused: hit.score, ...hit.scores }, t, scale),
    text,
    hit.text.length > SHOWN ? whole : null,
    metadata.length ? element("dl", { "aria-label": t.metadata }, ...metadata) : null,
  );
  const why = element("button", { type: "button", "aria-expanded": "false" }, t.why);
  why.addEventListener("click", async () => {
    const open = card.querySelector(".picture");
    if (open) {
      open.remove();
      why.setAttribute("aria-expanded", "false");
      return;
    }
    try {
      card.append(picture(await ask("explain", { query: state().q, text: hit.text }), t, "h4"));
      why.setAttribute("aria-expanded", "true");
    } catch (error) {
      const place = element("div", { class: "picture" });
      card.append(place);
      told(error, place);
    }
  });
  card.append(why);
  return card;
}

function scaleOf(hits) {
  const most = (values) => Math.max(1e-9, ...values.filter((value) => value !== undefined));
  return {
    fused: most(hits.map((hit) => hit.score)),
    sparse: most(hits.map((hit) => hit.scores.sparse)),
  };
}

function hitList(hits, change) {
  if (!hits.length) return element("p", {}, labels().nothing);
  const scale = scaleOf(hits);
  return element("ol", { class: "hits" }, ...hits.map((hit, rank) => hitCard(hit, scale, change?.(hit, rank))));
}

function searchView() {
  const results = element("div");
  const run = async () => {
    const { q, mode } = state();
    if (!q.trim()) {
      results.replaceChildren(element("p", { class: "quiet" }, labels().empty));
      return;
    }
    try {
      const { hits } = await search(request(mode));
      results.replaceChildren(element("h2", { class: "unseen" }, labels().results), hitList(hits));
      status.textContent = labels().found(hits.length);
    } catch (error) {
      told(error, results);
    }
  };
  main.replaceChildren(searchForm(run), results);
  run();
}

function compareView() {
  const results = element("div");
  const run = async () => {
    const t = labels();
    const { q, mode, other } = state();
    if (!q.trim()) {
      results.replaceChildren(element("p", { class: "quiet" }, t.empty));
      return;
    }
    try {
      const [left, right] = [await search(request(mode)), await ask("search", request(other))];
      const column = (name, own, others) => {
        const ranks = new Map(others.hits.map((hit, rank) => [hit.id, rank]));
        const change = (hit, rank) => {
          const there = ranks.get(hit.id);
          if (there === undefined) return t.missing;
          if (there === rank) return t.same;
          return there > rank ? t.up(there - rank) : t.down(rank - there);
        };
        return element("section", {}, element("h2", {}, t[name] ?? name), hitList(own.hits, change));
      };
      results.replaceChildren(
        element("div", { class: "columns" }, column(mode, left, right), column(other, right, left)),
      );
      status.textContent = t.found(left.hits.length);
    } catch (error) {
      told(error, results);
    }
  };
  main.replaceChildren(searchForm(run, true), results);
  run();
}

function textsView() {
  const t = labels();
  const { q, second } = state();
  const results = element("div");
  const first = element("textarea", { name: "q", rows: 2, dir: "auto" }, q);
  const other = element("textarea", { name: "second", rows: 4, dir: "auto" }, second);
  const form = element("form", {}, field(t.first, first, "wide"), field(t.second, other, "wide"));
  const run = async () => {
    asking.abort();
    asking = new AbortController();
    if (!first.value.trim()) {
      results.replaceChildren(element("p", { class: "quiet" }, t.empty));
      return;
    }
    try {
      const body = { query: first.value, text: other.value || first.value };
      results.replaceChildren(picture(await ask("explain", body, asking.signal), t));
    } catch (error) {
      told(error, results);
    }
  };
  let timer;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      remembered({ q: first.value.slice(0, 1000), second: other.value.slice(0, 1000) });
      run();
    }, PAUSE);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  main.replaceChildren(form, results);
  run();
}

function keyView() {
  const t = labels();
  const input = element("input", { type: "password", name: "key", autocomplete: "off" });
  const form = element("form", {}, field(t.key, input, "grow"), element("button", {}, t.enter));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    remember(input.value);
    begin();
  });
  main.replaceChildren(form);
  input.focus();
}

function show() {
  frame();
  const views = { search: searchView, compare: compareView, texts: textsView };
  const wanted = info.trivec.collection ? state().view : "texts";
  (views[wanted] ?? searchView)();
}

async function begin() {
  try {
    info = await ask("info");
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      keyView();
    } else if (error instanceof Refused && error.status === 503) {
      main.replaceChildren(element("p", {}, labels().loading));
      setTimeout(begin, 1000);
    } else {
      told(error, main);
    }
    return;
  }
  show();
}

window.addEventListener("popstate", show);
begin();
