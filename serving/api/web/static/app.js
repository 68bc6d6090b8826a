// The page: what is typed is translated by the models of this server, and by nobody else.
import { offerAttention } from "/attention.js";
import { streamTranslation } from "/stream.js";
import { showWords } from "/words.js";

const PAUSE = 350; // milliseconds without a key until a translation begins
const FLAGS = {
  SPAN_APPENDED: "a link or placeholder was put at the end",
  NUMBERS_DIFFER: "the numbers differ",
  REPETITION: "it repeats itself",
  COPIED_SOURCE: "part of it is not translated",
  LENGTH_RATIO: "it is unusually long or short",
  RETRIED: "translated a second time, since the first repeated itself",
};
const PREFIX = "QUALITY_FLAG_";
const at = (id) => document.getElementById(id);
const names = new Intl.DisplayNames(navigator.languages, { type: "language" });

let models = [];
let running = null; // AbortController of the translation in progress
let timer = 0;

function nameOf(tag) {
  try {
    return names.of(tag);
  } catch {
    return tag;
  }
}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function fill(select, values, label) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(label(value), value)));
  if (values.includes(before)) select.value = before;
}

const unique = (values) => [...new Set(values)];
const sourcesOf = (model) => (model.source_languages?.length ? model.source_languages : [model.source_language]);
const targetsOf = (model) => (model.target_languages?.length ? model.target_languages : [model.target_language]);

function chooseTargets() {
  const fitting = models.filter((model) => sourcesOf(model).includes(at("source-language").value));
  fill(at("target-language"), unique(fitting.flatMap(targetsOf)).filter((tag) => tag !== at("source-language").value), nameOf);
  chooseModels();
}

function chooseModels() {
  const pair = [at("source-language").value, at("target-language").value];
  const fitting = models.filter((model) => sourcesOf(model).includes(pair[0]) && targetsOf(model).includes(pair[1]));
  fill(at("model"), fitting.map((model) => `${model.name}/${model.version}`), (label) => label);
  at("source").lang = pair[0];
  at("target").lang = at("target-words").lang = at("alternatives").lang = pair[1];
  at("source-words").lang = pair[0];
}

async function loadModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (response.status === 401) return askForToken();
  const body = await response.json();
  if (!response.ok) return fail(body.error.message);
  at("token-form").hidden = true;
  models = body.models.sort((one, other) => other.is_default - one.is_default);
  fill(at("source-language"), unique(models.flatMap(sourcesOf)), nameOf);
  chooseTargets();
  at("status").textContent = models.length === 1 ? "One model is loaded." : `${models.length} models are loaded.`;
}

function askForToken() {
  at("token-form").hidden = false;
  at("token").focus();
}

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = !message;
}

function request(text) {
  const [model, version] = at("model").value.split("/");
  const chosen = models.find((one) => one.name === model && one.version === version);
  const wanted = Number(at("n-best").value);
  const beam = Math.min(Math.max(wanted, chosen.defaults.beam_size), chosen.limits.max_beam_size);
  return {
    model,
    version,
    source_language: at("source-language").value,
    target_language: at("target-language").value,
    contents: [text],
    include_alignments: true,
    options: { n_best: Math.min(wanted, beam), beam_size: beam },
  };
}

async function translate() {
  clearTimeout(timer);
  running?.abort();
  const text = at("source").value;
  fail("");
  if (!text.trim() || !at("model").value) return show(null, null);
  const asked = request(text);
  const own = (running = new AbortController());
  const target = at("target");
  target.setAttribute("aria-busy", "true");
  at("status").textContent = "Translating…";
  let grown = "";
  try {
    const answer = await streamTranslation(asked, headers(), own.signal, (delta) => {
      if (!grown) target.textContent = "";
      grown += delta;
      target.textContent = grown;
    });
    show(answer, asked);
  } catch (error) {
    if (own.signal.aborted) return;
    at("status").textContent = "";
    if (error.status === 401) askForToken();
    else fail(error.message);
  } finally {
    if (running === own) target.setAttribute("aria-busy", "false");
  }
}

function show(answer, asked) {
  const translation = answer?.translations[0];
  const text = asked?.contents[0];
  const model = models.find((one) => one.name === answer?.model && one.version === answer?.version);
  offerAttention(model?.has_attention ? asked : null, headers());
  at("details").hidden = !translation?.parts;
  at("copy").disabled = !translation || !navigator.clipboard; // browsers have none for pages of other machines without TLS
  at("flags").replaceChildren(...(translation?.flags ?? []).map(flagItem));
  if (!translation) {
    at("target").textContent = at("figures").textContent = at("status").textContent = "";
    at("target").setAttribute("aria-busy", "false");
    return;
  }
  const seconds = Number.parseFloat(answer.queue_time) + Number.parseFloat(answer.compute_time);
  const unfinished = translation.hypotheses[0].finish_reason === "FINISH_REASON_LENGTH";
  at("figures").textContent = `${(1000 * seconds).toFixed(0)} ms, ${answer.source_tokens} tokens in, ${answer.target_tokens} out`;
  at("status").textContent = unfinished ? "The length limit was reached." : `Translated by ${answer.model}/${answer.version}.`;
  at("alternatives").replaceChildren(...translation.hypotheses.map((one, index) => alternative(translation, index, text)));
  choose(translation, 0, text);
}

function flagItem(flag) {
  const item = document.createElement("li");
  const name = flag.replace(PREFIX, "");
  item.textContent = FLAGS[name] ?? name.toLowerCase().replaceAll("_", " ");
  return item;
}

function alternative(translation, index, text) {
  const { text: words, score } = translation.hypotheses[index];
  const item = document.createElement("li");
  const button = document.createElement("button");
  const figure = document.createElement("span");
  button.type = "button";
  button.textContent = words;
  button.addEventListener("click", () => choose(translation, index, text));
  figure.className = "score";
  figure.textContent = ` score ${score.toFixed(3)}`;
  item.append(button, figure);
  return item;
}

function choose(translation, index, text) {
  const hypothesis = translation.hypotheses[index];
  at("target").textContent = hypothesis.text;
  document.querySelectorAll("#alternatives button").forEach((button, place) => {
    button.setAttribute("aria-pressed", String(place === index));
  });
  showWords(text, hypothesis);
}

at("source").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(translate, PAUSE);
});
at("source").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) translate();
});
at("source-language").addEventListener("change", () => (chooseTargets(), translate()));
at("target-language").addEventListener("change", () => (chooseModels(), translate()));
at("model").addEventListener("change", translate);
at("n-best").addEventListener("change", translate);
at("choices").addEventListener("submit", (event) => event.preventDefault());
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(at("target").textContent);
  at("status").textContent = "Copied.";
});
at("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value.trim());
  await loadModels();
  translate();
});

await loadModels();
