// The WebSocket to `kws demo`: JSON by type, audio as bytes, and a new connection where one was lost.

const RETRY_MS = [500, 1000, 2000, 4000];
const MAX_WAITING_BYTES = 1 << 19; // more than that unsent: the link is too slow, and old audio is of no use

export class Connection extends EventTarget {
  constructor(path) {
    super();
    this.path = path;
    this.numFailed = 0;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => {
      this.numFailed = 0;
      const values = JSON.parse(event.data);
      this.dispatchEvent(new CustomEvent(values.type, { detail: values }));
    };
    this.socket.onclose = () => {
      this.dispatchEvent(new Event("lost"));
      setTimeout(() => this.open(), RETRY_MS[Math.min(this.numFailed++, RETRY_MS.length - 1)]);
    };
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  send(values) {
    if (this.isOpen) this.socket.send(JSON.stringify(values));
  }

  // Returns whether it was sent.
  sendAudio(pcm16) {
    const isSent = this.isOpen && this.socket.bufferedAmount <= MAX_WAITING_BYTES;
    if (isSent) this.socket.send(pcm16);
    return isSent;
  }

  on(type, handle) {
    this.addEventListener(type, (event) => handle(event.detail));
  }
}
