// The picture of an explanation: words by their weight, and which words of the text answer a word of the query.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  // Strings become text, never markup, whatever a document holds.
  made.append(...children.filter((child) => child != null));
  return made;
}

export function bars(scores, labels, scale = {}) {
  const rows = element("div", { class: "bars" });
  for (const [kind, score] of Object.entries(scores)) {
    const share = Math.max(0, Math.min(1, score / (scale[kind] || 1)));
    const part = kind.includes("+") ? "fused" : kind;
    const fill = element("span", { class: part });
    fill.style.width = `${100 * share}%`;
    const bar = element("div", { class: "bar", "aria-hidden": "true" }, fill);
    rows.append(element("span", {}, labels[kind] ?? kind), bar, element("span", {}, score.toFixed(4)));
  }
  return rows;
}

// A text with its words as elements; what stands between them stays text.
function wordsOf(text, words, make) {
  const heaviest = Math.max(...words.map((word) => word.weight), 1e-9);
  const line = element("p", { class: "words", dir: "auto" });
  // Offsets count characters as Python does; JavaScript's strings count what lies beyond the first plane twice.
  const characters = Array.from(text);
  const made = [];
  let end = 0;
  for (const word of words) {
    line.append(characters.slice(end, word.start).join(""));
    const one = make(characters.slice(word.start, word.end).join(""), word);
    one.style.setProperty("--weight", (word.weight / heaviest).toFixed(3));
    one.title = word.weight.toFixed(3);
    line.append(one);
    made.push(one);
    end = word.end;
  }
  const rest = characters.slice(end, end + 2000).join("");
  line.append(rest, characters.length > end + 2000 ? "…" : "");
  return [line, made];
}

// `heading` is the level of its headings: one below what stands before it on the page.
export function picture(explanation, labels, heading = "h2") {
  const { query, text, query_words: ofQuery, text_words: ofText, alignment, scores, truncated } = explanation;
  const [textLine, textWords] = wordsOf(text, ofText, (shown) => element("span", { class: "word" }, shown));
  const told = element("p", { class: "quiet", "aria-live": "polite" });
  const shownWord = (word) => Array.from(text).slice(word.start, word.end).join("");

  function lightUp(number) {
    const row = alignment?.[number];
    textWords.forEach((one, i) => {
      const near = row ? Math.max(0, row[i]) : 0;
      one.classList.toggle("near", near > 0.3);
      one.style.setProperty("--near", near.toFixed(3));
    });
    if (!row) return;
    const best = row.map((value, i) => [value, i]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    told.textContent = best.map(([value, i]) => `${shownWord(ofText[i])} ${value.toFixed(2)}`).join(", ");
  }

  function dim() {
    textWords.forEach((one) => one.classList.remove("near"));
  }

  const [queryLine, queryWords] = wordsOf(query, ofQuery, (shown) =>
    element("button", { type: "button", class: "word" }, shown),
  );
  queryWords.forEach((one, number) => {
    for (const event of ["pointerenter", "focus", "click"]) one.addEventListener(event, () => lightUp(number));
    for (const event of ["pointerleave", "blur"]) one.addEventListener(event, dim);
  });
  return element(
    "section",
    { class: "picture" },
    element(heading, {}, labels.inFirst),
    queryLine,
    told,
    element(heading, {}, labels.inSecond),
    textLine,
    truncated ? element("p", { class: "quiet" }, labels.cut) : null,
    element(heading, {}, labels.scores),
    bars(scores, labels, { sparse: Math.max(1, scores.sparse ?? 0) }),
  );
}
