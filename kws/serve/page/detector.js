// The detector in the browser: 16 kHz samples ─▶ encoder step (onnxruntime-web) ─▶ head ─▶ trigger.
//
// Its frames, caches and overlap are those of kws/model/incremental.py: whole blocks, each with the caches of the last.

import { HeadStream } from "./head.js";
import { SAMPLE_RATE } from "./resampler.js";
import { Trigger } from "./trigger.js";

export class Detector {
  // `model`: what /wakeword/model answers; `graph`: the bytes of /wakeword/graph.
  static async load(ort, model, graph) {
    const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
    return new Detector(ort, model, session);
  }

  constructor(ort, model, session) {
    this.ort = ort;
    this.model = model;
    this.session = session;
    this.hopS = model.encoder.hop / SAMPLE_RATE;
  }

  stream() {
    return new Stream(this);
  }
}

class Stream {
  constructor(detector) {
    this.detector = detector;
    const { encoder, head, weights, keywords } = detector.model;
    this.samples = new Float32Array(0);
    this.numFrames = 0;
    this.head = new HeadStream(head, weights);
    this.triggers = keywords.map((keyword) => new Trigger(keyword.trigger, detector.hopS));
    this.caches = Object.fromEntries(
      Object.entries(encoder.caches).map(([name, shape]) => [name, this.tensor(new Float32Array(shape[0] * shape[1]), shape)]),
    );
  }

  tensor(data, shape) {
    return new this.detector.ort.Tensor("float32", data, shape);
  }

  // What `samples` (float32, 16 kHz) completes: [{time_s, scores, smoothed, fired}] a frame.
  async feed(samples) {
    const { hop, overlap, block_frames: block } = this.detector.model.encoder;
    const joined = new Float32Array(this.samples.length + samples.length);
    joined.set(this.samples);
    joined.set(samples, this.samples.length);
    this.samples = joined;
    const heard = [];
    while (this.samples.length >= block * hop + overlap) {
      heard.push(...(await this.step(this.samples.slice(0, block * hop + overlap))));
      this.samples = this.samples.slice(block * hop);
    }
    return heard;
  }

  // The frames still owed at the end of the audio.
  async flush() {
    const { hop, overlap } = this.detector.model.encoder;
    const numFrames = Math.floor((this.samples.length - overlap) / hop);
    return numFrames > 0 ? this.step(this.samples.slice(0, numFrames * hop + overlap)) : [];
  }

  async step(samples) {
    const { dim, hop, receptive_field: field } = this.detector.model.encoder;
    const outputs = await this.detector.session.run({ samples: this.tensor(samples, [samples.length]), ...this.caches });
    for (const name of Object.keys(this.caches)) this.caches[name] = outputs[`next_${name}`];
    const frames = outputs.frames.data;
    const heard = [];
    for (let start = 0; start < frames.length; start += dim) {
      const scores = Array.from(this.head.feed(frames.subarray(start, start + dim)));
      const triggered = this.triggers.map((trigger, column) => trigger.feed(scores[column]));
      heard.push({
        time_s: (this.numFrames * hop + field) / SAMPLE_RATE,
        scores,
        smoothed: triggered.map((one) => one.smoothed),
        fired: triggered.map((one) => one.fires),
      });
      this.numFrames += 1;
    }
    return heard;
  }
}
