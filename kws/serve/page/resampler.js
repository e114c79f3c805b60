// A stream at any rate ─▶ 16 kHz: a windowed sinc, the same for any cutting into blocks.

export const SAMPLE_RATE = 16000;
const ZERO_CROSSINGS = 24; // on each side of the filter's middle
const ROLL_OFF = 0.94; // of the lower Nyquist frequency

export class Resampler {
  constructor(rate) {
    const divisor = greatestDivisor(rate, SAMPLE_RATE);
    this.up = SAMPLE_RATE / divisor; // output sample n lies at input sample n · down / up
    this.down = rate / divisor;
    this.cutoff = ROLL_OFF * Math.min(1, this.up / this.down);
    this.half = Math.ceil(ZERO_CROSSINGS / this.cutoff);
    this.filters = new Map(); // by the place between two input samples
    this.pending = new Float32Array(this.half); // silence before the beginning
    this.start = -this.half; // index in the stream of the first pending sample
    this.numGiven = 0;
  }

  // The samples at 16 kHz that are ready after `samples` (float32): they lag by half the filter.
  feed(samples) {
    if (this.up === this.down) return samples;
    const joined = new Float32Array(this.pending.length + samples.length);
    joined.set(this.pending);
    joined.set(samples, this.pending.length);
    const ready = [];
    for (; this.base + this.half < this.start + joined.length; this.numGiven += 1) ready.push(this.next(joined));
    const numOld = Math.max(0, this.base - this.half - this.start);
    this.pending = joined.slice(numOld);
    this.start += numOld;
    return Float32Array.from(ready);
  }

  // The input sample just before the next output sample.
  get base() {
    return Math.floor((this.numGiven * this.down) / this.up);
  }

  next(joined) {
    const filter = this.filter((this.numGiven * this.down) % this.up);
    const first = this.base - this.half + 1 - this.start;
    let sum = 0;
    for (let tap = 0; tap < filter.length; tap += 1) sum += filter[tap] * joined[first + tap];
    return sum;
  }

  filter(phase) {
    if (!this.filters.has(phase)) {
      const place = phase / this.up;
      const taps = Float64Array.from({ length: 2 * this.half }, (_, tap) => this.weight(this.half - 1 - tap + place));
      this.filters.set(phase, taps);
    }
    return this.filters.get(phase);
  }

  weight(away) {
    const angle = Math.PI * this.cutoff * away;
    const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
    const hann = Math.abs(away) < this.half ? 0.5 + 0.5 * Math.cos((Math.PI * away) / this.half) : 0;
    return this.cutoff * sinc * hann;
  }
}

function greatestDivisor(first, second) {
  return second ? greatestDivisor(second, first % second) : first;
}
