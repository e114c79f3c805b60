// The browser's microphone: permission ─▶ AudioWorklet ─▶ blocks of float32 at the context's own rate.

// As raw as `kws listen` hears it: what browsers do for telephone calls takes speech away too.
const WANTED = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export class Microphone {
  constructor(onBlock, onLost) {
    this.onBlock = onBlock; // called with (num_samples,) float32 in −1..1
    this.onLost = onLost;
    this.rate = 0;
    this.name = "";
  }

  get isOpen() {
    return Boolean(this.context);
  }

  async open() {
    if (!navigator.mediaDevices) {
      throw new Error(
        "browsers give the microphone to https:// and localhost only; open this page as http://localhost, for example " +
          `through: ssh -L ${location.port}:localhost:${location.port} THE-COMPUTER`,
      );
    }
    try {
      this.media = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    } catch (error) {
      throw new Error(explain(error));
    }
    this.context = new AudioContext({ latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("/page/capture-worklet.js");
    const track = this.media.getAudioTracks()[0];
    track.onended = () => {
      this.close();
      this.onLost();
    };
    this.name = track.label;
    this.rate = this.context.sampleRate;
    const options = { numberOfInputs: 1, numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    this.capture = new AudioWorkletNode(this.context, "capture", options);
    this.capture.port.onmessage = (event) => this.onBlock(event.data);
    this.context.createMediaStreamSource(this.media).connect(this.capture);
    await this.context.resume();
  }

  close() {
    this.media?.getTracks().forEach((track) => track.stop());
    if (this.capture) this.capture.port.onmessage = null;
    this.context?.close();
    this.context = this.media = this.capture = undefined;
  }
}

export function pcm16(block) {
  const samples = new Int16Array(block.length);
  for (let index = 0; index < block.length; index += 1) {
    samples[index] = Math.max(-32768, Math.min(32767, Math.round(block[index] * 32768)));
  }
  return samples.buffer;
}

export function levelDb(block) {
  let power = 0;
  for (const sample of block) power += sample * sample;
  return Math.max(-60, 10 * Math.log10(Math.max(power / block.length, 1e-12)));
}

function explain(error) {
  if (error.name === "NotAllowedError") return "the microphone was refused; allow it for this page beside its address, then start again";
  if (error.name === "NotFoundError") return "this computer has no microphone that the browser can see; connect one, then start again";
  if (error.name === "NotReadableError") return "another program holds the microphone; close it, then start again";
  return `the microphone can't be opened (${error.message})`;
}
