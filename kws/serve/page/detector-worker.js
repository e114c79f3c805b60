// A worker that answers as `kws demo` would (kws/serve/demo_client.py): the page's microphone ─▶ detector ─▶ scores.

import * as ort from "/runtime/ort.wasm.min.mjs";
import { Detector } from "./detector.js";
import { Resampler } from "./resampler.js";
import { Trigger } from "./trigger.js";

const KEPT_S = 180;
const MAX_WAITING = 100; // blocks of sound; more means that this device is too slow

ort.env.wasm.wasmPaths = "/runtime/";
ort.env.wasm.numThreads = 1; // more would need cross-origin isolation, and a step is too short to share

let detector;
let stream;
let resampler;
let kept = []; // [time, score of each keyword]
let numWaiting = 0;
let queue = Promise.resolve();
const spent = { ms: 0, s: 0 };

const handlers = {
  async choose({ names }) {
    detector = stream = undefined;
    if (names.length) {
      const query = `?name=${encodeURIComponent(names[0])}`;
      const [model, graph] = await Promise.all([load(`/wakeword/model${query}`), load(`/wakeword/graph${query}`)]);
      detector = await Detector.load(ort, await model.json(), new Uint8Array(await graph.arrayBuffer()));
    }
    const keywords = detector?.model.keywords ?? [];
    postMessage({
      type: "chosen",
      names,
      keywords: keywords.map((keyword) => keyword.name),
      thresholds: keywords.map((keyword) => keyword.trigger.threshold),
      hop_s: detector?.hopS ?? 0,
      own: [],
    });
  },

  start({ rate }) {
    stream = detector?.stream();
    resampler = new Resampler(rate);
    kept = [];
    postMessage({ type: "started" });
  },

  stop() {
    stream = undefined;
  },

  threshold({ keyword, value }) {
    const column = detector.model.keywords.findIndex((one) => one.name === keyword);
    const { trigger } = detector.model.keywords[column];
    trigger.threshold = value;
    if (stream) stream.triggers[column].config.threshold = value;
    const again = new Trigger(trigger, detector.hopS);
    const times = kept.filter((frame) => again.feed(frame[column + 1]).fires).map((frame) => frame[0]);
    postMessage({ type: "would_fire", keyword, threshold: value, times_s: times, span_s: kept.length * detector.hopS });
  },

  async audio({ pcm16 }) {
    numWaiting -= 1;
    if (!stream) return;
    const samples = Float32Array.from(new Int16Array(pcm16), (sample) => sample / 32768);
    const began = performance.now();
    const heard = await stream.feed(resampler.feed(samples));
    report(heard, performance.now() - began);
  },
};

function report(heard, ms) {
  if (!heard.length) return;
  for (const frame of heard) kept.push([frame.time_s, ...frame.scores]);
  while (kept.length && kept[0][0] < heard[0].time_s - KEPT_S) kept.shift();
  const { keywords } = detector.model;
  const scores = keywords.map((_, column) => heard.map((frame) => frame.smoothed[column]));
  postMessage({ type: "scores", first_s: heard[0].time_s, scores });
  for (const frame of heard) {
    frame.fired.forEach((fires, column) => {
      if (!fires) return;
      const keyword = keywords[column].name;
      postMessage({ type: "detection", keyword, score: frame.smoothed[column], end_s: frame.time_s });
    });
  }
  spent.ms = 0.9 * spent.ms + ms;
  spent.s = 0.9 * spent.s + heard.length * detector.hopS;
  postMessage({ type: "load", share: spent.ms / 1000 / spent.s });
}

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response;
}

// One after the other: a step must have ended before the next begins.
onmessage = ({ data }) => {
  if (data.type === "audio" && numWaiting >= MAX_WAITING) {
    postMessage({ type: "dropped", blocks: 1 });
    return;
  }
  if (data.type === "audio") numWaiting += 1;
  queue = queue.then(() => handlers[data.type]?.(data)).catch((error) => postMessage({ type: "problem", text: error.message }));
};
postMessage({ type: "loaded" });
