// The picture of the last 30 seconds, waveform above scores, and the strip of the last minutes below.

export const SHOWN_S = 30;
export const KEPT_S = 180;
const WAVE_SHARE = 0.3; // of the height
const MARGIN = { top: 12, bottom: 22, right: 70 };
const QUIET = 0.04; // the waveform is magnified to its loudest moment, or to this where it is quieter
const STRIP_S = 0.5; // a column of the strip

export class Chart {
  constructor(canvas, strip) {
    this.canvas = canvas;
    this.strip = strip;
    this.keywords = [];
    this.reset();
    const redraw = () => this.draw();
    new ResizeObserver(redraw).observe(canvas);
    new ResizeObserver(redraw).observe(strip);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  // Forgets everything; time starts at zero again.
  reset(keywords = this.keywords) {
    this.keywords = keywords;
    this.wave = []; // [time, lowest, highest] of each block
    this.scores = []; // [time, score of each keyword] of each frame
    this.heard = []; // {time, column}
    this.trials = new Map(); // column ─▶ times at which it would have fired
    this.endS = 0;
    this.arrivedMs = performance.now();
  }

  addBlock(block, rate) {
    const parts = 2;
    for (let part = 0; part < parts; part += 1) {
      const piece = block.subarray((part * block.length) / parts, ((part + 1) * block.length) / parts);
      let [low, high] = [0, 0];
      for (const sample of piece) {
        if (sample < low) low = sample;
        if (sample > high) high = sample;
      }
      this.endS += piece.length / rate;
      this.wave.push([this.endS, low, high]);
    }
    this.arrivedMs = performance.now();
    while (this.wave.length && this.wave[0][0] < this.endS - SHOWN_S - 1) this.wave.shift();
  }

  addScores(firstS, hopS, columns) {
    for (let frame = 0; frame < columns[0].length; frame += 1) {
      this.scores.push([firstS + frame * hopS, ...columns.map((column) => column[frame])]);
    }
    let numOld = 0;
    while (numOld < this.scores.length && this.scores[numOld][0] < this.endS - KEPT_S) numOld += 1;
    if (numOld > 50) this.scores.splice(0, numOld);
    this.heard = this.heard.filter((one) => one.time > this.endS - KEPT_S);
  }

  // Where the right edge stands: between two blocks it moves on with the clock, so that the picture glides.
  get nowS() {
    return this.endS + Math.min(0.1, (performance.now() - this.arrivedMs) / 1000) - 0.1;
  }

  // The height, from the top in CSS pixels, at which a score is drawn, and the score at a height.
  yOf(score) {
    const { top, bottom } = this.scoreBox();
    return bottom - score * (bottom - top);
  }

  scoreAt(y) {
    const { top, bottom } = this.scoreBox();
    return Math.min(1, Math.max(0, (bottom - y) / (bottom - top)));
  }

  scoreBox() {
    const height = this.canvas.clientHeight;
    return { top: MARGIN.top + height * WAVE_SHARE, bottom: height - MARGIN.bottom };
  }

  draw() {
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(name).trim();
    this.drawLive();
    this.drawStrip();
  }

  drawLive() {
    const [pen, width, height] = prepare(this.canvas);
    if (!pen) return;
    const right = width - MARGIN.right;
    const xOf = (time) => right - ((this.nowS - time) / SHOWN_S) * right;
    this.drawGrid(pen, right, height, xOf);
    this.drawWave(pen, height, xOf);
    this.keywords.forEach((_, column) => this.drawScores(pen, column, xOf));
    this.heard.forEach((one) => this.drawHeard(pen, one, xOf));
    this.drawNames(pen, xOf);
    this.trials.forEach((trial, column) => trial.times.forEach((time) => this.drawTrial(pen, xOf(time), this.yOf(trial.threshold), column)));
  }

  drawGrid(pen, right, height, xOf) {
    pen.strokeStyle = this.colour("--line");
    pen.fillStyle = this.colour("--muted");
    pen.font = "12px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.textAlign = "left";
    for (const score of [0, 0.5, 1]) {
      line(pen, 0, Math.round(this.yOf(score)) + 0.5, right, Math.round(this.yOf(score)) + 0.5);
      if (this.keywords.length) pen.fillText(score.toFixed(1), 8, this.yOf(score) - 5);
    }
    pen.textAlign = "center";
    const step = right < 400 ? 10 : 5;
    for (let ago = step; ago < SHOWN_S; ago += step) pen.fillText(`−${ago} s`, right - (ago / SHOWN_S) * right, height - 6);
    pen.fillText("now", right, height - 6);
  }

  drawWave(pen, height, xOf) {
    const middle = MARGIN.top + (height * WAVE_SHARE) / 2 - 6;
    const reach = (height * WAVE_SHARE) / 2 - 6;
    pen.fillStyle = this.colour("--wave");
    const loudest = this.wave.reduce((most, [, low, high]) => Math.max(most, high, -low), QUIET);
    this.scale = this.scale ? this.scale + 0.1 * (loudest - this.scale) : loudest; // it glides, it doesn't jump
    const tall = (share) => Math.min(1, share / this.scale) * reach;
    for (const [time, low, high] of this.wave) {
      const top = middle - Math.max(0.75, tall(high));
      pen.fillRect(xOf(time), top, 1.5, Math.max(1.5, middle + tall(-low) - top));
    }
  }

  drawScores(pen, column, xOf) {
    pen.strokeStyle = this.colour(`--key-${column % 4}`);
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    let isFirst = true;
    for (const frame of this.scores) {
      const x = xOf(frame[0]);
      if (x < -4) continue;
      if (isFirst) pen.moveTo(x, this.yOf(frame[column + 1]));
      else pen.lineTo(x, this.yOf(frame[column + 1]));
      isFirst = false;
    }
    pen.stroke();
  }

  drawHeard(pen, { time, column, score }, xOf) {
    const x = xOf(time);
    if (x < -60) return;
    const { bottom } = this.scoreBox();
    pen.fillStyle = this.colour(`--key-${column % 4}`);
    pen.globalAlpha = 0.12;
    pen.fillRect(x - 9, 0, 18, bottom);
    pen.globalAlpha = 1;
    dot(pen, x, this.yOf(score), 5, true);
  }

  // The keyword beside each detection, newest first, where it finds room.
  drawNames(pen, xOf) {
    pen.font = "600 12.5px system-ui, sans-serif";
    pen.textAlign = "right";
    let free = Infinity;
    for (const { time, column } of this.heard.toReversed()) {
      const x = xOf(time) - 13;
      const width = pen.measureText(this.keywords[column]).width;
      if (x > free || x < width) continue;
      pen.fillStyle = this.colour(`--key-${column % 4}`);
      pen.fillText(this.keywords[column], x, this.scoreBox().top - 7);
      free = x - width - 24;
    }
  }

  drawTrial(pen, x, y, column) {
    pen.strokeStyle = this.colour(`--key-${column % 4}`);
    pen.fillStyle = this.colour("--well");
    pen.lineWidth = 2.5;
    dot(pen, x, y, 6, true);
    dot(pen, x, y, 6, false);
  }

  drawStrip() {
    const [pen, width, height] = prepare(this.strip);
    if (!pen) return;
    const spanS = Math.max(SHOWN_S, Math.min(KEPT_S, this.endS));
    const xOf = (time) => width - ((this.nowS - time) / spanS) * width;
    const yOf = (score) => height - 4 - score * (height - 12);
    pen.globalAlpha = 0.07;
    pen.fillStyle = this.colour("--text");
    if (spanS > SHOWN_S) pen.fillRect(xOf(this.nowS - SHOWN_S), 0, width, height);
    this.keywords.forEach((_, column) => {
      pen.fillStyle = this.colour(`--key-${column % 4}`);
      pen.globalAlpha = 0.55;
      for (const [time, score] of this.highest(column)) {
        pen.fillRect(xOf(time), yOf(score), Math.max(1, (STRIP_S / spanS) * width - 1), height - yOf(score));
      }
    });
    pen.globalAlpha = 1;
    this.trials.forEach((trial, column) => trial.times.forEach((time) => this.drawTrial(pen, xOf(time), 9, column)));
    for (const one of this.heard) {
      pen.fillStyle = this.colour(`--key-${one.column % 4}`);
      dot(pen, xOf(one.time), 9, 4, true);
    }
  }

  // The highest score of `column` in each column of the strip.
  highest(column) {
    const found = new Map();
    for (const frame of this.scores) {
      const time = Math.floor(frame[0] / STRIP_S) * STRIP_S;
      found.set(time, Math.max(found.get(time) ?? 0, frame[column + 1]));
    }
    return found;
  }
}

function prepare(canvas) {
  const [width, height, dense] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  if (!width || !height) return [];
  const size = [Math.round(width * dense), Math.round(height * dense)];
  if (canvas.width !== size[0]) canvas.width = size[0];
  if (canvas.height !== size[1]) canvas.height = size[1];
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height];
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function dot(pen, x, y, radius, isFilled) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  if (isFilled) pen.fill();
  else pen.stroke();
}
