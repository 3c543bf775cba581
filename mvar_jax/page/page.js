// The page of mvar_jax.serve: asks for drawings, and shows them as they grow.
"use strict";

const byId = (id) => document.getElementById(id);
const SETTINGS = ["guidance", "temperature", "top_k", "top_p", "guidance_layer"];
const MOST_PIXELS = 2 ** 22; // of an image to edit, as the server takes them
const SEEN = 480; // pixels that a row of images takes at most
const SEEN_OF_TWO = 390; // beside another row

let offers = [];
let drawn = null; // what the request that is shown has given so far
let stopping = null; // the AbortController of the request that runs

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const offer = () => offers[Number(byId("model").value)];
const editing = () => byId("mode-edit").checked;
const kib = (bytes) => `${(bytes / 1024).toLocaleString("en", { maximumFractionDigits: 1 })} KiB`;

function say(sentence) {
  byId("error").textContent = sentence;
  byId("error").hidden = !sentence;
}

// ---- What may be chosen

async function begin() {
  const answer = await fetch("api/models");
  const { models, policies } = await answer.json();
  offers = models;
  models.forEach((model, index) => byId("model").append(new Option(model.workdir, index)));
  for (const run of [0, 1]) {
    byId(`policy-${run}`).append(new Option("none: all is kept", ""), ...policies.map((name) => new Option(name)));
    byId(`policy-${run}`).addEventListener("change", showChoices);
  }
  byId("model").addEventListener("change", chooseModel);
  byId("compare").addEventListener("change", showChoices);
  document.getElementsByName("mode").forEach((input) => input.addEventListener("change", showChoices));
  chooseModel();
}

function chooseModel() {
  const { sampling, class_names: names, strength, threshold, feather, most_images: most } = offer();
  for (const name of SETTINGS) byId(name).value = sampling[name];
  byId("smooth").checked = sampling.smooth;
  byId("strength").value = strength;
  byId("threshold").value = threshold;
  byId("feather").value = feather;
  byId("columns").max = most;
  byId("columns").value = Math.min(byId("columns").value, most);
  byId("classes").replaceChildren(...names.map((name) => new Option(name)));
  byId("label").value = names[0] ?? "";
  showChoices();
}

function showChoices() {
  const { texts, rotary, remembers } = offer();
  const shown = { texting: texts, rotating: rotary, remembering: remembers, editing: editing(), comparing: byId("compare").checked };
  for (const [name, on] of Object.entries(shown)) document.body.classList.toggle(name, on);
  for (const run of [0, 1]) {
    const name = byId(`policy-${run}`).value;
    byId(`ratio-${run}`).disabled = !name || name.startsWith("full");
  }
  byId("draw").textContent = editing() ? "Edit" : "Draw";
}

function policy(run) {
  const ratio = byId(`ratio-${run}`);
  return { name: byId(`policy-${run}`).value, ratio: ratio.disabled ? 0 : Number(ratio.value) };
}

function checkFields() {
  // The browser's own check would refuse over hidden fields too, without a word.
  const wrong = [...byId("form").elements].find((field) => field.offsetParent && !field.checkValidity());
  if (wrong) throw new Error(`${wrong.labels[0].firstChild.textContent.trim()}: ${wrong.validationMessage}`);
}

function asked() {
  checkFields();
  const { texts, rotary, remembers } = offer();
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, Number(byId(name).value)]));
  settings.smooth = byId("smooth").checked;
  const wish = {
    model: Number(byId("model").value),
    subject: byId(texts ? "prompt" : "label").value,
    seed: Number(byId("seed").value),
    settings,
  };
  if (texts) wish.negative = byId("negative").value;
  if (rotary) Object.assign(wish, { aspect: byId("aspect").value, pixels: byId("pixels").value });
  if (remembers) wish.policies = byId("compare").checked ? [policy(0), policy(1)] : [policy(0)];
  if (!editing()) return { ...wish, columns: Number(byId("columns").value) };
  if (!board.image) throw new Error("There is no image to edit; open one, or choose “edit” below one that was drawn.");
  const paste = byId("paste").checked;
  if (paste && board.isBlank()) throw new Error("Nothing is painted, so the whole image would stay; paint over what is to be drawn anew, or press “Invert” for all of it.");
  const edit = { image: board.image, mask: board.mask(), source: byId("source").value, paste };
  for (const name of ["strength", "threshold", "feather"]) edit[name] = Number(byId(name).value);
  return { ...wish, edit };
}

// ---- Asking, and hearing of it scale by scale

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const [, kind, data] = /^event: (\w+)\ndata: (.*)$/s.exec(part);
      yield [kind, JSON.parse(data)];
    }
  }
}

async function refusal(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error;
  } catch {
    return `The server answers ${answer.status} (${text}); try again in a while.`; // of the server itself, as when it is full
  }
}

async function draw(event) {
  event.preventDefault();
  say("");
  let wish;
  try {
    wish = asked();
  } catch (error) {
    say(error.message);
    return;
  }
  stopping?.abort();
  const own = (stopping = new AbortController());
  try {
    drawn = { wish, since: performance.now(), sizes: [], runs: [], steps: [[], []], chosen: [0, 0], status: "Waiting" };
    show();
    byId("stop").disabled = false;
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("api/draw", { method: "POST", headers, body: JSON.stringify(wish), signal: own.signal });
    if (!answer.ok) throw new Error(await refusal(answer));
    for await (const [kind, values] of events(answer.body)) if (stopping === own) HEARD[kind](values);
    if (stopping === own && !drawn.ended) throw new Error("The server has gone before the image was done; is it still running?");
  } catch (error) {
    if (stopping !== own) return;
    const lost = error instanceof TypeError;
    drawn.status = own.signal.aborted ? "Stopped" : "Failed";
    if (!own.signal.aborted) say(lost ? "The server does not answer; is it still running?" : error.message);
  }
  if (stopping !== own) return;
  stopping = null;
  byId("stop").disabled = true;
  Object.assign(drawn, { ended: true, took: drawn.took ?? performance.now() - drawn.since });
  showStatus();
}

const HEARD = {
  waiting({ ahead }) {
    if (!drawn.sizes.length && !drawn.loading) drawn.status = ahead ? `Waiting for ${ahead} other${ahead > 1 ? "s" : ""}` : "Starting";
    showStatus();
  },
  loading({ workdir }) {
    Object.assign(drawn, { loading: true, status: `Loading ${workdir}` });
    showStatus();
  },
  started({ sizes, runs, note }) {
    Object.assign(drawn, { sizes, runs, status: "Drawing" });
    if (note) say(note);
    show();
  },
  scale(step) {
    drawn.steps[step.run][step.scale] = step;
    byId("scale").max = drawn.sizes.length - 1;
    byId("scale").value = step.scale;
    show();
  },
  compared(values) {
    drawn.compared = values;
    show();
  },
  done({ seconds, compiled }) {
    const programs = compiled ? `; ${compiled} programs compiled, which takes time once` : "";
    Object.assign(drawn, { ended: true, took: 1000 * seconds, status: `Done${programs}` });
    show();
  },
  error({ sentence }) {
    Object.assign(drawn, { ended: true, status: "Failed" });
    say(sentence);
    showStatus();
  },
};

// ---- Showing

function showStatus() {
  byId("progress").hidden = !drawn;
  if (!drawn) return;
  const steps = drawn.steps.flat().filter(Boolean).length;
  const all = drawn.sizes.length * Math.max(drawn.runs.length, 1);
  byId("bar").max = all || 1;
  byId("bar").value = steps;
  const milliseconds = drawn.took ?? performance.now() - drawn.since;
  const at = all && !drawn.ended ? `, scale ${Math.min(Math.floor(steps / drawn.runs.length) + 1, drawn.sizes.length)} of ${drawn.sizes.length}` : "";
  byId("status").textContent = `${drawn.status}${at}, ${(milliseconds / 1000).toFixed(1)} s`;
}

setInterval(() => drawn && !drawn.ended && showStatus(), 100);

function show() {
  showStatus();
  const scale = Number(byId("scale").value);
  const size = drawn.sizes[scale];
  byId("replay").hidden = !drawn.steps[0].length;
  byId("scale-name").textContent = size ? `${scale + 1}: ${size[0]} × ${size[1]} tokens` : "";
  byId("runs").replaceChildren(...drawn.runs.map((run, index) => runOf(run, index, scale)));
  showCompared();
  showMaps();
  showBytes();
  showCommands();
}

function named(index) {
  const { name = "", ratio } = drawn.wish.policies?.[index] ?? {};
  return name ? `${name}${ratio ? ` ${ratio}` : ""}` : "all kept";
}

function runOf(run, index, scale) {
  const step = drawn.steps[index][scale] ?? drawn.steps[index].at(-1);
  const section = element("div", { className: "run" });
  if (drawn.wish.policies) section.append(element("h2", {}, named(index), element("small", {}, run.summary)));
  const images = element("div", { className: "images" });
  step?.images.forEach((source, image) => images.append(figureOf(source, index, image)));
  fit(images, step?.images.length ?? 1);
  section.append(images);
  return section;
}

function fit(images, count) {
  const [height, width] = offers[drawn.wish.model].image_size;
  const columns = Math.min(count, drawn.wish.columns ?? 1, 4);
  const seen = drawn.runs.length > 1 ? SEEN_OF_TWO : SEEN;
  images.style.setProperty("--side", `${Math.max(80, Math.floor(seen / columns) - 12)}px`);
  images.style.maxWidth = `${seen + 24}px`;
  images.classList.toggle("large", Math.max(height, width) >= 200);
}

function figureOf(source, run, image) {
  const name = `seed${drawn.wish.seed}_${String(image).padStart(5, "0")}${run ? `_${named(run)}` : ""}.png`;
  const picture = element("img", { src: source, alt: `Image ${image}` });
  picture.addEventListener("click", () => {
    drawn.chosen = [run, image];
    show();
  });
  const edit = element("button", { type: "button" }, "edit");
  edit.addEventListener("click", () => board.open(source));
  const caption = element("figcaption", {}, element("a", { href: source, download: name }, "save"), edit);
  const chosen = drawn.chosen[0] === run && drawn.chosen[1] === image;
  return element("figure", { className: chosen ? "chosen" : "" }, picture, caption);
}

function showCompared() {
  const { compared } = drawn;
  byId("compared").hidden = !compared;
  if (!compared) return;
  const each = compared.psnr.map((value) => (value === null ? "equal" : `${value.toFixed(1)} dB`)).join(", ");
  const same = compared.equal_tokens.map((share) => `${Math.round(100 * share)}%`).join(", ");
  byId("psnr").textContent = `PSNR of ${named(1)} against ${named(0)}: ${each}. Equal tokens, scale by scale: ${same}. The pictures show the difference × ${compared.amplified}.`;
  byId("differences").replaceChildren(...compared.differences.map((source) => element("figure", {}, element("img", { src: source, alt: "Difference" }))));
  fit(byId("differences"), compared.differences.length);
}

function showMaps() {
  const [, image] = drawn.chosen;
  byId("maps").hidden = !drawn.steps[0].length;
  byId("maps-of").textContent = drawn.steps[0][0]?.tokens.length > 1 ? `of image ${image}; click another` : "";
  const rows = drawn.runs.map((_, run) => element("div", { className: "maps" }, ...drawn.steps[run].map((step) => mapOf(step, image))));
  byId("map-rows").replaceChildren(...rows);
}

function mapOf(step, image) {
  const [height, width] = drawn.sizes[step.scale];
  const picture = element("img", { src: step.tokens[image] ?? step.tokens[0], alt: `Tokens of scale ${step.scale + 1}` });
  return element("figure", {}, picture, element("figcaption", {}, `${height} × ${width}`));
}

function showBytes() {
  byId("bytes").hidden = !drawn.steps[0].length;
  if (!drawn.steps[0].length) return;
  const most = Math.max(1, ...drawn.runs.flatMap((run) => run.carried_bytes));
  const several = drawn.runs.length > 1;
  const heads = drawn.runs.flatMap((_, run) => [`${several ? `${named(run)}: ` : ""}cache`, "in all"]);
  const rows = drawn.sizes.flatMap(([height, width], scale) => {
    if (!drawn.steps[0][scale]) return [];
    const cells = drawn.runs.flatMap((run, index) => (drawn.steps[index][scale] ? [kib(run.cache_bytes[scale]), kib(run.carried_bytes[scale])] : ["", ""]));
    const bars = drawn.runs.map((run, index) => {
      const bar = element("div");
      bar.style.width = drawn.steps[index][scale] ? `${(100 * run.carried_bytes[scale]) / most}%` : 0;
      return bar;
    });
    return [element("tr", {}, element("td", {}, `${height} × ${width}`), ...cells.map((text) => element("td", {}, text)), element("td", { className: "meter" }, ...bars))];
  });
  const head = element("tr", {}, ...["scale", ...heads, ""].map((text) => element("th", {}, text)));
  byId("bytes-table").replaceChildren(head, ...rows);
}

function showCommands() {
  const { edit } = drawn.wish;
  byId("commands").hidden = !drawn.runs.length;
  const lines = drawn.runs.map(({ command }) => {
    const line = element("div", { className: "command" }, element("pre", {}, command));
    if (!navigator.clipboard) return line; // a page without encryption from another machine has none
    const copy = element("button", { type: "button" }, "Copy");
    copy.addEventListener("click", () => navigator.clipboard.writeText(command));
    line.append(copy);
    return line;
  });
  byId("command-lines").replaceChildren(...lines);
  byId("edited-files").hidden = !edit;
  if (edit) Object.assign(byId("save-image"), { href: edit.image });
  if (edit) Object.assign(byId("save-mask"), { href: edit.mask });
}

byId("dice").addEventListener("click", () => (byId("seed").value = Math.floor(Math.random() * 2 ** 32)));
byId("scale").addEventListener("input", show);
byId("form").addEventListener("submit", draw);
byId("stop").addEventListener("click", () => stopping?.abort());
begin().catch(() => say("The server does not answer; is it still running?"));
