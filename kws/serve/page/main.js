// The demo's page: listening through `kws demo`, and making wake words with it.

import { Connection } from "./connection.js";
import { find } from "./dom.js";
import { Listening } from "./listening.js";
import { Making } from "./making.js";

const connection = new Connection("/demo");
const noneText = "No wake word here yet: type a phrase and make your own.";
const listening = new Listening(connection, { hasSeveral: true, noneText });
const making = new Making(connection, () => listening.start());
listening.onStop = () => making.endRecording();

function showStatus(text, kind) {
  find("status").textContent = text;
  find("status").className = `pill ${kind}`;
}

connection.on("hello", (values) => {
  showStatus("connected", "on");
  making.hello(values);
});

connection.on("trained", (values) => {
  listening.offers = values.wakewords;
  making.onTraining(values.training);
  listening.showOffers();
  // A phrase that was trained again takes the place of the one before: a detector can't have two of the same name.
  const keywordsOf = (name) => listening.offers.find((offer) => offer.name === name)?.keywords ?? [];
  const isOther = (name) => !keywordsOf(name).some((keyword) => keywordsOf(values.name).includes(keyword));
  listening.choose([...listening.chosen.names.filter(isOther), values.name]);
});

connection.addEventListener("lost", () => showStatus("kws demo is not running", "off"));
