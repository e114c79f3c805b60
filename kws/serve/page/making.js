// "Make your own": a phrase, takes of it, and the training with its progress.

import { find, make, seconds, showProblem } from "./dom.js";

const NUM_SLOTS = 5;
const MIN_TAKES = 3;
const HINTS = {
  enrol: "Say it three times or more; silent, clipped and cut takes are not kept.",
  text: "Takes of your own make it better, and may be left out.",
};

export class Making {
  // `listen()` opens the microphone and resolves to whether it is open.
  constructor(connection, listen) {
    this.connection = connection;
    this.listen = listen;
    this.takes = [];
    this.isRecording = false;
    this.training = { state: "none" };
    find("make").addEventListener("submit", (event) => this.train(event));
    find("make").addEventListener("input", () => this.refresh());
    find("record").addEventListener("click", () => (this.isRecording ? this.endRecording() : this.record()));
    find("cancel").addEventListener("click", () => this.connection.send({ type: "cancel" }));
    connection.on("takes", (told) => this.onTakes(told));
    connection.on("training", (state) => this.onTraining(state));
    connection.addEventListener("lost", () => this.forget());
    setInterval(() => this.showProgress(), 1000);
    this.refresh();
  }

  get method() {
    return document.querySelector("input[name=method]:checked").value;
  }

  hello(values) {
    this.cannot = values.cannot_train;
    this.onTraining(values.training);
  }

  async record() {
    if (!(await this.listen())) return;
    const count = Math.max(NUM_SLOTS, this.takes.length + 1);
    this.isRecording = true;
    this.hasEnded = false;
    this.connection.send({ type: "record", count });
    this.refresh();
  }

  endRecording() {
    this.isRecording = false;
    this.connection.send({ type: "end_record" });
    if (this.takes.length) this.say(`${this.takes.length} recorded`);
    this.refresh();
  }

  onTakes(told) {
    const phrase = find("phrase").value.trim() || "the phrase";
    if (told.state === "room") this.say("Quiet, please: listening to the room…", "now");
    if (told.state === "say") {
      const number = `take ${told.num_takes + 1} of ${told.count}`;
      this.say(this.refused ? `${this.refused} Again: say “${phrase}” (${number})` : `Say “${phrase}” now (${number})`, this.refused ? "bad" : "now");
      this.refused = "";
    }
    if (told.state === "refused") this.refused = `Not kept: ${told.reasons.join("; ")}.`;
    if (told.state === "kept") this.takes.push(told);
    if (told.state === "left") this.takes = told.left;
    if (told.state === "ended") {
      const isDone = told.num_takes >= told.count;
      if (this.isRecording) this.say(isDone ? `${told.num_takes} good takes: train now, or record more` : "Recording ended.", this.refused ? "bad" : "");
      this.isRecording = this.refused = "";
      this.hasEnded = true; // its message stays
    }
    this.refresh();
  }

  async train(event) {
    event.preventDefault();
    showProblem("");
    const phrase = find("phrase").value.trim();
    this.connection.send({ type: "train", phrase, method: this.method, keep_takes: find("keep").checked });
  }

  onTraining(state) {
    const wasRunning = this.isRunning;
    this.training = state;
    this.isRunning = ["running", "cancelling"].includes(state.state);
    if (this.isRunning && !wasRunning) this.beganMs = performance.now();
    if (this.isRunning || wasRunning) this.showProgress();
    this.refresh();
  }

  showProgress() {
    const { state, stage, done, total, phrase, text } = this.training;
    const bar = find("progress");
    if (this.isRunning) {
      if (total > 1) [bar.max, bar.value] = [total, done];
      else bar.removeAttribute("value");
      const count = total > 1 ? ` ${done} of ${total}` : "";
      const elapsed = seconds((performance.now() - this.beganMs) / 1000);
      this.report(state === "cancelling" ? "Stopping…" : `“${phrase}”: ${stage}${count}, ${elapsed}`);
    } else if (state === "failed") this.report(text, "bad");
    else if (state === "cancelled") this.report("Cancelled. From the text, training goes on where it was.");
    else if (state === "done") this.report(`“${phrase}” is ready: say it.`);
  }

  refresh() {
    const isEnrolment = this.method === "enrol";
    if (!this.isRecording && !this.takes.length && !this.hasEnded) this.say(HINTS[this.method]);
    const numSlots = Math.max(NUM_SLOTS, this.takes.length);
    find("takes").replaceChildren(...Array.from({ length: numSlots }, (_, index) => this.slot(index)));
    find("record").textContent = this.isRecording ? "Stop recording" : this.takes.length ? "Record more" : "Record takes";
    find("record").setAttribute("aria-pressed", String(Boolean(this.isRecording)));
    find("keep").closest("label").hidden = !isEnrolment || !this.takes.length;
    const missing = isEnrolment ? MIN_TAKES - this.takes.length : 0;
    find("train").disabled = Boolean(this.isRunning || this.cannot || missing > 0 || !find("phrase").value.trim());
    find("train").textContent = isEnrolment ? "Train from takes" : this.takes.length ? "Train from text and takes" : "Train from text";
    find("cancel").hidden = find("progress-box").hidden = !this.isRunning;
    find("record").disabled = Boolean(this.isRunning && !this.isRecording);
    if (this.cannot) this.report(this.cannot, "bad");
  }

  slot(index) {
    const take = this.takes[index];
    if (!take) return make("li", { class: this.isRecording && index === this.takes.length ? "next" : "", "aria-hidden": "true" });
    const picture = make("canvas", { width: "96", height: "64" });
    const number = `take ${index + 1}`;
    const play = make("button", { type: "button", class: "play", "aria-label": `Play ${number}, ${take.duration_s} s`, onclick: () => new Audio(`/takes/${take.take}`).play() });
    const drop = make("button", { type: "button", class: "drop", "aria-label": `Delete ${number}`, text: "✕", onclick: () => this.connection.send({ type: "drop_take", take: take.take }) });
    drawPeaks(picture, take.peaks);
    return make("li", { class: "good" }, picture, play, drop);
  }

  forget() {
    this.takes = [];
    this.isRecording = false;
    this.refresh();
  }

  say(text, kind = "") {
    find("take-status").textContent = text;
    find("take-status").className = `hint ${kind}`;
  }

  report(text, kind = "") {
    find("progress-text").textContent = text;
    find("progress-text").className = `hint ${kind}`;
  }
}

function drawPeaks(canvas, peaks) {
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const step = canvas.width / peaks.length;
  peaks.forEach((peak, index) => {
    const height = Math.max(2, peak * canvas.height);
    pen.fillRect(index * step, (canvas.height - height) / 2, Math.max(1, step - 0.6), height);
  });
}
