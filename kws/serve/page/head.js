// A wake word's head: encoder frames ─▶ scores, with the weights of its artefact; as kws/detect/head_stream.py has it.

const NORM_EPSILON = 1e-5;

// `weights`: {name: {shape, data}} with base64 of little-endian float32.
export class HeadStream {
  constructor(config, weights) {
    this.config = config;
    this.weights = Object.fromEntries(Object.entries(weights).map(([name, one]) => [name, decode(one.data)]));
    this.numKeywords = weights["output.bias"].shape[0];
    [this.width, this.dim] = weights["input.weight"].shape;
    this.numMembers = this.width / config.hidden; // side by side, each in its own rows; their logits are averaged
    this.reset();
  }

  reset() {
    const { kind, kernel, dilation } = this.config;
    this.state = new Float64Array(this.width); // of the GRU
    this.past = kind === "gru" ? [] : Array.from({ length: (kernel - 1) * dilation }, () => new Float64Array(this.width));
  }

  // The scores of one (dim,) frame: (num_keywords,), 0 to 1.
  feed(frame) {
    const given = product(this.weights["input.weight"], frame, this.width, this.weights["input.bias"]);
    const rows = normed(given, this.config.hidden, this.weights);
    const seen = (this.config.kind === "gru" ? this.recur(rows) : this.convolve(rows)).map((value) => value / this.numMembers);
    return product(this.weights["output.weight"], seen, this.numKeywords, this.weights["output.bias"]).map(sigmoid);
  }

  convolve(rows) {
    const { hidden, kernel, dilation } = this.config;
    this.past.push(rows);
    const weight = this.weights["temporal.weight"]; // (out, in of the same member, kernel)
    const result = Float64Array.from(this.weights["temporal.bias"]);
    for (let tap = 0; tap < kernel; tap += 1) {
      const input = this.past[tap * dilation];
      for (let out = 0; out < this.width; out += 1) {
        const first = out - (out % hidden);
        let sum = 0;
        for (let index = 0; index < hidden; index += 1) sum += weight[(out * hidden + index) * kernel + tap] * input[first + index];
        result[out] += sum;
      }
    }
    this.past.shift();
    return result.map((value) => Math.max(0, value));
  }

  // Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as torch has it.
  recur(rows) {
    const { hidden } = this.config;
    const given = product(this.weights["temporal.weight_ih_l0"], rows, 3 * hidden, this.weights["temporal.bias_ih_l0"]);
    const kept = product(this.weights["temporal.weight_hh_l0"], this.state, 3 * hidden, this.weights["temporal.bias_hh_l0"]);
    this.state = this.state.map((before, index) => {
      const reset = sigmoid(given[index] + kept[index]);
      const update = sigmoid(given[hidden + index] + kept[hidden + index]);
      const fresh = Math.tanh(given[2 * hidden + index] + reset * kept[2 * hidden + index]);
      return fresh + update * (before - fresh);
    });
    return this.state;
  }
}

// `weight` (numRows, input.length) times `input`, plus `bias`.
function product(weight, input, numRows, bias) {
  const result = Float64Array.from(bias);
  for (let row = 0; row < numRows; row += 1) {
    let sum = 0;
    for (let index = 0; index < input.length; index += 1) sum += weight[row * input.length + index] * input[index];
    result[row] += sum;
  }
  return result;
}

// Layer norm of each `size` values by themselves, and ReLU.
function normed(values, size, weights) {
  const result = new Float64Array(values.length);
  for (let first = 0; first < values.length; first += size) {
    const part = values.subarray(first, first + size);
    const mean = part.reduce((sum, value) => sum + value, 0) / size;
    const variance = part.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size;
    const scale = 1 / Math.sqrt(variance + NORM_EPSILON);
    for (let index = 0; index < size; index += 1) {
      const place = first + index;
      const scaled = (part[index] - mean) * scale * weights["norm.weight"][place] + weights["norm.bias"][place];
      result[place] = Math.max(0, scaled);
    }
  }
  return result;
}

function sigmoid(logit) {
  return 1 / (1 + Math.exp(-logit));
}

function decode(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}
