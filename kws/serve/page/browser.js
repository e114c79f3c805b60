// The page of the detector that runs in the browser: the same picture, with a worker in place of the server.

import { find, showProblem } from "./dom.js";
import { Listening } from "./listening.js";

class LocalConnection extends EventTarget {
  constructor() {
    super();
    this.isOpen = true;
    this.worker = new Worker("/page/detector-worker.js", { type: "module" });
    this.worker.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent(data.type, { detail: data }));
    this.worker.onerror = () => showProblem("the detector could not be loaded; fetch it again: kws demo --fetch-browser-runtime");
  }

  send(values) {
    this.worker.postMessage(values);
  }

  sendAudio(pcm16) {
    this.worker.postMessage({ type: "audio", pcm16 }, [pcm16]);
    return true;
  }

  on(type, handle) {
    this.addEventListener(type, (event) => handle(event.detail));
  }
}

function showStatus(text, kind) {
  find("status").textContent = text;
  find("status").className = `pill ${kind}`;
}

async function begin() {
  const offered = await (await fetch("/wakewords")).json();
  if (!offered.has_runtime) {
    find("missing").hidden = false;
    document.querySelector("main").hidden = true;
    showStatus("not installed", "off");
    return;
  }
  const connection = new LocalConnection();
  const noneText = "No wake word here yet: make one on the other page.";
  const listening = new Listening(connection, { hasSeveral: false, noneText });
  connection.on("chosen", () => showStatus("ready", "on"));
  connection.on("load", ({ share }) => showStatus(`${Math.round(100 * share)} % of one core`, "on"));
  connection.on("loaded", () => listening.onHello(offered));
}

begin();
