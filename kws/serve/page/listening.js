// Listening: microphone ─▶ connection (a server's, or a worker in this browser) ─▶ chart, keywords, list of detections.

import { Chart, KEPT_S } from "./chart.js";
import { LevelMeter, Log, find, make, seconds, showProblem } from "./dom.js";
import { Keywords } from "./keywords.js";
import { Microphone, levelDb, pcm16 } from "./microphone.js";

const FRAME_MS = 25; // the picture moves some 25 pixels a second: more frames would only cost
const MOVE_MS = 40; // as often as the eye follows a threshold
const METHODS = { enrolment: "from takes", text: "from text" };

export class Listening {
  // `connection` takes `choose`, `start`, `threshold`, `save` and `stop`, and audio; see kws/serve/demo_client.py.
  constructor(connection, { hasSeveral, noneText }) {
    this.connection = connection;
    this.hasSeveral = hasSeveral; // whether several wake words can be chosen
    this.noneText = noneText; // said where there is no wake word
    this.chart = new Chart(find("live"), find("minutes"));
    this.microphone = new Microphone((block) => this.onBlock(block), () => this.stop("the microphone was lost; connect it, then start again"));
    this.keywords = new Keywords(this.chart, (keyword, value) => this.onMove(keyword, value), (keyword) => connection.send({ type: "save", keyword }));
    this.meter = new LevelMeter();
    this.log = new Log();
    this.offers = [];
    this.chosen = { names: [], keywords: [], own: [] };
    this.numStarting = 0; // starts that were not confirmed: scores until then belong to the stream before
    this.moves = new Map();
    find("listen").addEventListener("click", () => (this.microphone.isOpen ? this.stop() : this.start()));
    this.follow();
    this.show();
  }

  follow() {
    const { connection, chart } = this;
    connection.on("hello", (values) => this.onHello(values));
    connection.on("chosen", (values) => this.onChosen(values));
    connection.on("started", () => (this.numStarting -= 1));
    connection.on("scores", (values) => {
      const isCurrent = this.numStarting === 0 && values.scores.length === chart.keywords.length;
      if (isCurrent) chart.addScores(values.first_s, this.chosen.hop_s, values.scores);
    });
    connection.on("detection", (values) => this.onDetection(values));
    connection.on("would_fire", (values) => {
      this.keywords.showEffect(values.keyword, values.threshold, values.times_s, values.span_s);
      if (!this.microphone.isOpen) chart.draw();
    });
    connection.on("saved", (values) => this.keywords.saved(values.keyword, values.threshold));
    connection.on("dropped", (values) => showProblem(`${values.blocks} blocks of sound were lost: this computer is too slow`));
    connection.on("problem", (values) => showProblem(values.text));
    connection.on("error", (values) => showProblem(values.text));
  }

  // Resolves to whether the microphone is open.
  async start() {
    if (this.microphone.isOpen) return true;
    showProblem("");
    try {
      await this.microphone.open();
    } catch (error) {
      showProblem(error.message);
      return false;
    }
    this.beginStream();
    this.show();
    requestAnimationFrame(() => this.animate());
    return true;
  }

  stop(problem = "") {
    this.microphone.close();
    this.connection.send({ type: "stop" });
    this.onStop?.();
    this.meter.off();
    this.show();
    showProblem(problem);
  }

  beginStream() {
    this.chart.reset(this.chosen.keywords);
    if (!this.microphone.isOpen || !this.connection.isOpen) return;
    this.numStarting += 1;
    this.connection.send({ type: "start", rate: this.microphone.rate });
  }

  choose(names) {
    this.connection.send({ type: "choose", names });
  }

  toggle(name) {
    showProblem("");
    const { names } = this.chosen;
    if (names.includes(name)) this.choose(names.filter((other) => other !== name));
    else this.choose(this.hasSeveral ? [...names, name] : [name]);
  }

  onBlock(block) {
    this.meter.show(levelDb(block));
    if (this.connection.sendAudio(pcm16(block))) this.chart.addBlock(block, this.microphone.rate);
  }

  onHello(values) {
    this.offers = values.wakewords;
    this.numStarting = 0;
    const known = this.chosen.names.filter((name) => this.offers.some((offer) => offer.name === name));
    this.choose(known.length ? known : this.offers.slice(0, 1).map((offer) => offer.name));
  }

  onChosen(values) {
    this.chosen = values;
    this.keywords.show(values.keywords, values.thresholds, values.own);
    this.beginStream();
    this.showOffers();
    this.show();
  }

  onDetection(values) {
    const column = this.chart.keywords.indexOf(values.keyword);
    if (this.numStarting || column < 0) return;
    this.chart.heard.push({ time: values.end_s, score: values.score, column });
    this.log.add(values.keyword, values.score, column);
  }

  onMove(keyword, value) {
    if (!this.moves.size) {
      setTimeout(() => {
        for (const [moved, to] of this.moves) this.connection.send({ type: "threshold", keyword: moved, value: to });
        this.moves.clear();
      }, MOVE_MS);
    }
    this.moves.set(keyword, value);
  }

  animate() {
    if (!this.microphone.isOpen) return;
    this.chart.draw();
    this.keywords.showScores();
    find("span-text").textContent = this.chart.endS > 1 ? `the last ${seconds(Math.min(KEPT_S, this.chart.endS))}` : "";
    const pace = matchMedia("(prefers-reduced-motion: reduce)").matches ? 10 * FRAME_MS : FRAME_MS;
    setTimeout(() => requestAnimationFrame(() => this.animate()), pace);
  }

  show() {
    const { microphone, chosen } = this;
    const button = find("listen");
    button.setAttribute("aria-pressed", String(microphone.isOpen));
    button.querySelector("span").textContent = microphone.isOpen ? "Stop listening" : "Start listening";
    find("overview").hidden = !chosen.keywords.length || !(microphone.isOpen || this.chart.endS);
    const say = `Start listening, then say “${chosen.keywords.join("” or “")}”.`;
    const hint = chosen.keywords.length ? say : this.offers.length ? "Choose a wake word." : this.noneText;
    find("empty").textContent = chosen.keywords.length && (microphone.isOpen || this.chart.endS) ? "" : hint;
    this.chart.draw();
  }

  showOffers() {
    const focused = document.activeElement?.dataset?.name;
    const buttons = this.offers.map((offer) => this.choiceOf(offer));
    find("wakewords").replaceChildren(...(buttons.length ? buttons : [make("p", { class: "hint", text: "None on this computer yet." })]));
    if (focused) find("wakewords").querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }

  choiceOf(offer) {
    const isChosen = this.chosen.names.includes(offer.name);
    const method = offer.is_own ? METHODS[offer.method] ?? "" : "comes with kws";
    const names = offer.keywords.join(", ");
    const detail = offer.name === names.replaceAll(" ", "_") ? method : `${method} · ${offer.name}`;
    return make(
      "button",
      { type: "button", class: "choice", "aria-pressed": String(isChosen), "data-name": offer.name, onclick: () => this.toggle(offer.name) },
      make("span", { class: "tick", "aria-hidden": "true", text: "✓" }),
      make("span", {}, make("b", { text: names }), make("small", { text: detail })),
    );
  }
}
