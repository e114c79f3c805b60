// Small things with the document that several modules do.

export const find = (id) => document.getElementById(id);

// A new element: tag, attributes (`class`, `text`, others as they are), children.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function showProblem(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

export function seconds(span) {
  const whole = Math.round(span);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

// The level of the microphone: a bar that jumps up and sinks slowly, and a figure.
export class LevelMeter {
  constructor() {
    this.shownDb = -60;
  }

  show(db) {
    this.shownDb = Math.max(db, this.shownDb - 1.5);
    find("level-fill").style.clipPath = `inset(0 ${(-this.shownDb / 60) * 100}% 0 0)`;
    find("level-text").textContent = `${this.shownDb.toFixed(0)} dBFS`;
    find("level").setAttribute("aria-valuenow", this.shownDb.toFixed(0));
  }

  off() {
    this.show(-60);
    this.shownDb = -60;
    find("level-text").textContent = "microphone off";
  }
}

// The list of what was heard, newest first, and the line that says it aloud.
export class Log {
  constructor() {
    this.counts = new Map();
  }

  add(keyword, score, column) {
    this.counts.set(keyword, (this.counts.get(keyword) ?? 0) + 1);
    const when = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const item = make(
      "li",
      {},
      make("i", { class: "dot" }),
      make("b", { text: keyword }),
      make("span", { class: "sure", text: score.toFixed(2) }),
      make("span", { class: "when", text: when }),
    );
    item.style.setProperty("--key", `var(--key-${column % 4})`);
    find("log").prepend(item);
    while (find("log").children.length > 50) find("log").lastChild.remove();
    find("log-empty").hidden = true;
    find("heard").replaceChildren(keyword, make("small", { text: `score ${score.toFixed(2)}` }));
    const stage = document.querySelector(".stage");
    stage.classList.add("fired");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => stage.classList.remove("fired"), 1500);
  }
}
