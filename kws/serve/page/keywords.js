// Each keyword's threshold and score: a handle on the chart for mouse, finger and keys, and a row below with figures.

import { find, make, seconds } from "./dom.js";

const RECENT_S = 1;
const LABEL_PX = { width: 66, height: 28 };
const STEPS = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 };

export class Keywords {
  // `onMove(keyword, value)` is called while a threshold moves; `onSave(keyword)` writes it, where it can be written.
  constructor(chart, onMove, onSave) {
    this.chart = chart;
    this.onMove = onMove;
    this.onSave = onSave;
    this.rows = [];
    new ResizeObserver(() => this.place()).observe(find("chart"));
  }

  // `own`: the keywords whose threshold can be written.
  show(names, thresholds, own) {
    this.rows = names.map((name, column) => this.makeRow(name, column, thresholds[column], own.includes(name)));
    find("handles").replaceChildren(...this.rows.map((row) => row.handle));
    find("keywords").replaceChildren(...this.rows.map((row) => row.item));
    this.rows.forEach((row) => this.set(row, row.value));
  }

  makeRow(name, column, threshold, canSave) {
    const row = { name, column, value: threshold, saved: threshold, canSave };
    row.label = make("span");
    row.handle = make("div", { class: "handle", role: "slider", tabindex: "0", "aria-label": `Threshold of ${name}`, "aria-valuemin": "0", "aria-valuemax": "1", "aria-orientation": "vertical" }, row.label);
    row.bar = make("div", { class: "bar-in" });
    row.figure = make("span", { text: "0.00" });
    row.effect = make("span", { class: "effect", role: "status" });
    row.save = make("button", { type: "button", class: "plain tiny", text: "Save threshold", onclick: () => this.onSave(row.name) });
    row.undo = make("button", { type: "button", class: "plain tiny", text: "Undo", onclick: () => this.move(row, row.saved) });
    row.item = make(
      "li",
      { "data-keyword": name },
      make("span", { class: "name" }, make("i", { class: "dot" }), name),
      make("span", { class: "score", title: "highest score of the last second" }, make("span", { class: "bar-out" }, row.bar), row.figure),
      row.effect,
      make("span", { class: "acts" }, row.undo, row.save),
    );
    for (const element of [row.handle, row.item]) element.style.setProperty("--key", `var(--key-${column % 4})`);
    row.handle.addEventListener("pointerdown", (event) => this.drag(event, row));
    row.handle.addEventListener("keydown", (event) => this.press(event, row));
    return row;
  }

  drag(event, row) {
    event.preventDefault();
    row.handle.focus();
    row.handle.setPointerCapture(event.pointerId);
    const top = find("chart").getBoundingClientRect().top;
    const offset = event.clientY - top - this.chart.yOf(row.value);
    row.handle.onpointermove = (moved) => this.move(row, this.chart.scoreAt(moved.clientY - top - offset));
    row.handle.onpointerup = row.handle.onpointercancel = () => (row.handle.onpointermove = null);
  }

  press(event, row) {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    this.move(row, row.value + STEPS[event.key]);
  }

  move(row, value) {
    this.set(row, Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000);
    this.onMove(row.name, row.value);
  }

  set(row, value) {
    row.value = value;
    row.label.textContent = value.toFixed(2);
    row.handle.setAttribute("aria-valuenow", value.toFixed(2));
    row.save.hidden = !row.canSave || value === row.saved;
    row.undo.hidden = value === row.saved;
    this.place();
  }

  // Puts the handles at their heights, and labels that would cover each other side by side.
  place() {
    const heights = this.rows.map((row) => this.chart.yOf(row.value));
    this.rows.forEach((row, index) => {
      const numNear = heights.slice(0, index).filter((height) => Math.abs(height - heights[index]) < LABEL_PX.height).length;
      row.handle.style.top = `${heights[index]}px`;
      row.label.style.right = `${8 + numNear * LABEL_PX.width}px`;
    });
  }

  // What the threshold would have done to the scores that are kept.
  showEffect(name, threshold, times, spanS) {
    const row = this.rows.find((one) => one.name === name);
    if (!row) return;
    if (spanS < 1) return; // nothing was heard yet
    const heard = this.chart.heard.filter((one) => one.column === row.column).length;
    row.effect.replaceChildren(make("b", { text: `${times.length}×` }), ` at ${threshold.toFixed(2)} in the last ${seconds(spanS)}; heard ${heard}×`);
    this.chart.trials.set(row.column, { times, threshold });
  }

  saved(name, threshold) {
    const row = this.rows.find((one) => one.name === name);
    if (!row) return;
    row.saved = threshold;
    this.set(row, row.value);
    row.effect.textContent = `threshold ${threshold.toFixed(2)} saved`;
  }

  // The highest score of the last second, beside each name.
  showScores() {
    const from = this.chart.endS - RECENT_S - 0.5;
    for (const row of this.rows) {
      let highest = 0;
      for (let index = this.chart.scores.length - 1; index >= 0 && this.chart.scores[index][0] > from; index -= 1) {
        highest = Math.max(highest, this.chart.scores[index][row.column + 1]);
      }
      row.bar.style.transform = `scaleX(${highest})`;
      row.figure.textContent = highest.toFixed(2);
    }
  }
}
