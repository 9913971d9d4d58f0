"use strict";
// The answers of each recording and person in order of time; a click shows the motion below.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("timeline");
  const make = (tag, parent, fields = {}) => parent.appendChild(
    Object.assign(document.createElement(tag), fields));
  const lanes = new Map();
  data.answers.forEach((answer, index) => {
    const who = answer.person ? `${answer.recording}, person ${answer.person}` : answer.recording;
    if (!lanes.has(who)) {
      const lane = make("section", root, { className: "lane" });
      make("h2", lane, { textContent: who });
      lanes.set(who, make("div", lane, { className: "blocks" }));
    }
    const block = make("button", lanes.get(who), { type: "button" });
    const when = answer.start === null ? "whole" : `${answer.start}–${answer.end} s`;
    make("span", block, { className: "when", textContent: when });
    const odd = ["unknown", "still"].filter((word) => answer[word]).map((word) => ` (${word})`).join("");
    make("span", block, { textContent: `${answer.label || "?"}${odd}` });
    if (answer.unknown) block.classList.add("unknown");
    if (answer.probability !== null) {
      const sure = Math.round(100 * answer.probability);
      block.title = `${sure} %`;
      make("span", block, { className: "sure" }).style.width = `${sure}%`;
    }
    if (answer.nearest) block.title += ` nearest: ${answer.nearest} (${answer.distance.toFixed(3)})`;
    block.addEventListener("click", () => {
      const clip = document.querySelectorAll(".clip")[index];
      for (const other of document.querySelectorAll(".clip.chosen")) other.classList.remove("chosen");
      if (!clip) return; // the page holds the first ones alone
      clip.classList.add("chosen");
      clip.scrollIntoView({ block: "nearest" });
    });
  });
})();
