"use strict";
// The utterance viewer. What an utterance's `frames` hold: asr_kd/report/viewer.py, pack.
(() => {
  const part = (id) => document.getElementById(id);
  const data = JSON.parse(part("viewer-data").textContent);
  const utterances = part("utterances-data").textContent.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const audio = part("audio"), strip = part("strip");
  const LANE = 18, BAND = 3, HEAD_STEP = 0.05;
  let order = { column: "difference", down: true }, shown = null, zoom = 3, head = null, lanes = [], position = 0;

  function element(tag, text = "", attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // ---- the list ----

  const wer = (utterance, system) => (100 * utterance.errors[system]) / Math.max(1, utterance.words);
  const [first, second] = data.systems;
  const columns = [
    { key: "id", title: "utterance", value: (u) => u.id },
    { key: "speaker", title: "speaker", value: (u) => u.speaker },
    { key: "words", title: "words", value: (u) => u.words, number: 0 },
    { key: "first", title: `WER ${first}, %`, value: (u) => wer(u, 0), number: 1 },
    { key: "second", title: `WER ${second}, %`, value: (u) => wer(u, 1), number: 1 },
    { key: "difference", title: `difference, ${second} − ${first}`, value: (u) => wer(u, 1) - wer(u, 0), number: 1 },
    { key: "said", title: "reference", value: (u) => u.reference },
  ];

  function drawHead() {
    const row = document.querySelector("#list thead tr");
    row.replaceChildren(...columns.map(({ key, title, number }) => {
      const cell = element("th", "", { scope: "col", ...(number === undefined && { class: "label" }) });
      const sorted = order.column === key;
      if (sorted) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      const button = element("button", `${title}${sorted ? (order.down ? " ↓" : " ↑") : ""}`, { type: "button" });
      button.addEventListener("click", () => {
        order = { column: key, down: sorted ? !order.down : number !== undefined };
        drawHead();
        drawList();
        row.children[columns.findIndex((column) => column.key === key)].firstChild.focus();
      });
      cell.append(button);
      return cell;
    }));
  }

  function drawList() {
    const { value } = columns.find((column) => column.key === order.column);
    const sign = order.down ? -1 : 1;
    const terms = part("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = utterances.filter((u) => terms.every((term) => u.text.includes(term)));
    found.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0);
    });
    document.querySelector("#list tbody").replaceChildren(...found.map((utterance) => {
      const row = element("tr", "", { "data-id": utterance.id, "aria-selected": String(utterance === shown) });
      for (const { key, value, number } of columns) {
        const cell = element("td", "", number === undefined ? { class: key === "said" ? "label said" : "label" } : {});
        if (key === "id") {
          const button = element("button", utterance.id, { type: "button" });
          button.addEventListener("click", () => show(utterance));
          cell.append(button);
        } else {
          cell.textContent = number === undefined ? value(utterance) : value(utterance).toFixed(number).replace("-", "−");
        }
        row.append(cell);
      }
      return row;
    }));
    part("found").textContent = `${found.length} of the ${utterances.length} listed here; the test set has ${data.total}`;
  }

  // ---- one utterance ----

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  async function unpack(utterance) {
    const stream = new Blob([bytesOf(utterance.data)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const count = utterance.frames, kept = data.posteriors.length ? data.top : 0;
    let offset = 0;
    const take = (Kind, length) => {
      const array = new Kind(buffer, offset, length);
      offset += array.byteLength;
      return array;
    };
    const frames = { aligned: take(Uint16Array, count), states: [], shares: [], bands: null };
    for (const _ of data.posteriors) frames.states.push(take(Uint16Array, kept * count));
    for (const _ of data.posteriors) frames.shares.push(take(Uint8Array, kept * count));
    frames.bands = take(Uint8Array, data.bands * count);
    return frames;
  }

  async function show(utterance) {
    shown = utterance;
    for (const row of document.querySelectorAll("#list tbody tr")) {
      row.setAttribute("aria-selected", String(row.dataset.id === utterance.id));
    }
    utterance.unpacked ??= await unpack(utterance);
    if (shown !== utterance) return;
    position = 0;
    part("utterance").hidden = false;
    part("utterance-title").textContent = `${utterance.id}, speaker ${utterance.speaker}, ${utterance.seconds.toFixed(1)} s`;
    part("no-audio").hidden = utterance.audio !== null;
    audio.hidden = utterance.audio === null;
    if (audio.src) URL.revokeObjectURL(audio.src);
    if (utterance.audio === null) audio.removeAttribute("src");
    else audio.src = URL.createObjectURL(new Blob([bytesOf(utterance.audio)], { type: utterance.type }));
    drawAligned(utterance);
    drawStrip();
  }

  function drawAligned(utterance) {
    const names = element("div", "", { class: "names", "aria-hidden": "true" });
    names.append(...["reference", first, second].map((name) => element("span", name)));
    const rows = element("div", "", { class: "rows" });
    let word = 0;
    for (const [said, ...heard] of utterance.columns) {
      const column = element("div", "", { class: "column" });
      const span = said === data.gap ? null : utterance.spans[word++];
      if (span) {
        const button = element("button", said, { type: "button", title: `play from ${(span[0] * data.shift).toFixed(2)} s` });
        button.addEventListener("click", () => { seek(span[0] * data.shift); audio.play(); });
        column.append(button);
      } else {
        column.append(element("span", said, said === data.gap ? { class: "gap" } : {}));
      }
      heard.forEach((text, number) => {
        const wrong = text !== said, gap = text === data.gap;
        const cell = element("span", text, wrong ? { class: gap ? "wrong gap" : "wrong" } : gap ? { class: "gap" } : {});
        cell.title = `${data.systems[number]}${wrong ? ", wrong" : ""}`;
        column.append(cell);
      });
      rows.append(column);
    }
    part("aligned").replaceChildren(names, rows);
  }

  // ---- the picture over time ----

  function lane(title, height) {
    const canvas = element("canvas");
    const width = Math.max(1, Math.round(shown.frames * zoom));
    const scale = Math.min(devicePixelRatio || 1, 32000 / width);
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const heading = element("div", "", { class: "lane-title" });
    heading.append(element("span", title));
    lanes.push(heading, canvas);
    return context;
  }

  function segment(context, start, end, top, text, ink, alpha) {
    const left = start * zoom, width = (end - start) * zoom;
    if (alpha) {
      context.globalAlpha = alpha;
      context.fillStyle = ink;
      context.fillRect(left, top, width, LANE - 1);
      context.globalAlpha = 1;
    } else {
      context.strokeStyle = ink;
      context.strokeRect(left + 0.5, top + 0.5, Math.max(1, width - 1), LANE - 2);
    }
    if (context.measureText(text).width + 4 <= width) {
      context.fillStyle = colour("--text");
      context.fillText(text, left + 3, top + LANE / 2);
    }
  }

  const rgb = (name) => [1, 3, 5].map((at) => parseInt(colour(name).slice(at, at + 2), 16));

  function drawBands(bands) {
    const count = shown.frames, small = element("canvas");
    small.width = count;
    small.height = data.bands;
    const image = new ImageData(count, data.bands), [low, high] = [rgb("--page"), rgb("--text")];
    for (let band = 0; band < data.bands; band++) {
      for (let frame = 0; frame < count; frame++) {
        const share = bands[band * count + frame] / (data.levels - 1);
        const place = 4 * ((data.bands - 1 - band) * count + frame);
        for (let part = 0; part < 3; part++) image.data[place + part] = low[part] + share * (high[part] - low[part]);
        image.data[place + 3] = 255;
      }
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const context = lane("log-mel filterbanks, low to high", data.bands * BAND);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, count * zoom, data.bands * BAND);
  }

  const phoneOf = (state) => data.states[state].split(".")[0];

  function inkOf(state, aligned) {
    return state === aligned ? "--aligned" : phoneOf(state) === phoneOf(aligned) ? "--near" : "--other";
  }

  function drawPosteriors(number) {
    const { aligned, states, shares } = shown.unpacked, count = shown.frames;
    const context = lane(`${data.posteriors[number]}: its ${data.top} most probable states`, data.top * LANE);
    for (let rank = 0; rank < data.top; rank++) {
      const own = states[number].subarray(rank * count, (rank + 1) * count);
      for (let start = 0, end = 0; start < count; start = end) {
        let sum = 0;
        while (end < count && own[end] === own[start] && aligned[end] === aligned[start]) {
          sum += shares[number][rank * count + end++] / 255;
        }
        const ink = colour(inkOf(own[start], aligned[start]));
        segment(context, start, end, rank * LANE, data.states[own[start]], ink, 0.12 + (0.88 * sum) / (end - start));
      }
    }
  }

  function drawStrip() {
    lanes = [];
    const words = lane("words", LANE);
    shown.spans.forEach((span, number) => span && segment(words, span[0], span[1], 0, shown.said[number], colour("--quiet"), 0));
    const phones = lane("phones of the forced alignment", LANE);
    for (const [start, end, phone] of shown.phones) segment(phones, start, end, 0, data.phones[phone], colour("--quiet"), 0);
    drawBands(shown.unpacked.bands);
    data.posteriors.forEach((_, number) => drawPosteriors(number));
    head = element("div", "", { class: "head" });
    const inner = element("div", "", { class: "inner" });
    inner.style.width = `${shown.frames * zoom}px`;
    inner.append(...lanes, head);
    strip.replaceChildren(inner);
    strip.setAttribute("aria-valuemax", shown.seconds.toFixed(2));
    moveHead();
  }

  function drawLegend() {
    const entries = data.posteriors.length
      ? [["--aligned", "the aligned state"], ["--near", "another state of its phone"], ["--other", "another phone"]]
      : [];
    part("legend").replaceChildren(...entries.map(([ink, text]) => {
      const entry = element("span"), patch = element("i");
      patch.style.background = colour(ink);
      entry.append(patch, text);
      return entry;
    }), ...(entries.length ? [element("span", "the stronger the colour, the more probable")] : []));
  }

  // ---- the play head ----

  function seek(seconds) {
    position = Math.min(Math.max(0, seconds), shown.seconds);
    if (shown.audio !== null) audio.currentTime = position;
    moveHead();
  }

  function moveHead() {
    const at = (position / data.shift) * zoom;
    head.style.left = `${at}px`;
    if (at < strip.scrollLeft || at > strip.scrollLeft + strip.clientWidth - 20) {
      strip.scrollLeft = at - strip.clientWidth / 4;
    }
    strip.setAttribute("aria-valuenow", position.toFixed(2));
    drawNow();
  }

  function drawNow() {
    const { aligned, states, shares } = shown.unpacked, count = shown.frames;
    const frame = Math.min(count - 1, Math.floor(position / data.shift));
    const name = (state) => `${data.states[state]} (${state})`;
    const top = element("tr");
    const ranks = data.posteriors.length ? data.top : 1;
    top.append(element("th", `at ${position.toFixed(2)} s`, { class: "label", scope: "col" }));
    for (let rank = 1; rank <= ranks; rank++) top.append(element("th", data.posteriors.length ? `state ${rank}` : "state", { class: "label", scope: "col" }));
    const rows = [["forced alignment", [name(aligned[frame]), ...Array(ranks - 1).fill("")]]];
    data.posteriors.forEach((system, number) => {
      const cells = Array.from({ length: data.top }, (_, rank) => rank * count + frame);
      rows.push([system, cells.map((at) => `${name(states[number][at])} ${Math.round(shares[number][at] / 2.55)} %`)]);
    });
    part("now").replaceChildren(top, ...rows.map(([title, cells]) => {
      const row = element("tr");
      row.append(element("th", title, { scope: "row", class: "label" }), ...cells.map((text) => element("td", text, { class: "label" })));
      return row;
    }));
  }

  function follow() {
    if (!shown || audio.hidden) return;
    position = Math.min(audio.currentTime, shown.seconds);
    moveHead();
    if (!audio.paused) requestAnimationFrame(follow);
  }

  const toggle = () => audio.hidden || (audio.paused ? audio.play() : audio.pause());
  const keys = {
    ArrowLeft: (far) => seek(position - HEAD_STEP * (far ? 10 : 1)),
    ArrowRight: (far) => seek(position + HEAD_STEP * (far ? 10 : 1)),
    Home: () => seek(0),
    End: () => seek(shown.seconds),
    " ": toggle,
  };
  strip.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key](event.shiftKey);
  });
  strip.addEventListener("click", (event) => {
    seek(((event.clientX - strip.getBoundingClientRect().left + strip.scrollLeft) / zoom) * data.shift);
  });
  audio.addEventListener("play", follow);
  audio.addEventListener("seeked", follow);
  for (const [id, factor] of [["narrower", 1 / 1.5], ["wider", 1.5]]) {
    part(id).addEventListener("click", () => {
      zoom = Math.min(10, Math.max(0.5, zoom * factor));
      drawStrip();
    });
  }
  part("search").addEventListener("input", drawList);
  dark.addEventListener("change", () => {
    drawLegend();
    if (shown) drawStrip();
  });

  for (const utterance of utterances) {
    utterance.said = utterance.columns.map(([said]) => said).filter((said) => said !== data.gap);
    utterance.reference = utterance.said.join(" ");
    utterance.text = [utterance.id, utterance.speaker, ...utterance.columns.flat()].join(" ").toLowerCase();
  }
  drawHead();
  drawList();
  drawLegend();
  const top = document.querySelector("#list tbody tr");
  if (top) show(utterances.find((utterance) => utterance.id === top.dataset.id));
})();
