// Runs in the audio thread: the microphone's samples ─▶ blocks of float32, handed to the page.

const BLOCK_S = 0.04;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(BLOCK_S * sampleRate));
    this.numFilled = 0;
  }

  process([channels]) {
    const samples = channels[0]; // the context mixes down to one channel
    if (!samples) return true;
    for (let start = 0; start < samples.length; ) {
      const piece = samples.subarray(start, start + this.block.length - this.numFilled);
      this.block.set(piece, this.numFilled);
      this.numFilled += piece.length;
      start += piece.length;
      if (this.numFilled === this.block.length) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(Math.round(BLOCK_S * sampleRate));
        this.numFilled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
