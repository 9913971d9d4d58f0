"use strict";
// The answers of each recording and person in order of time; a click shows the motion below.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("timeline");
  const make = (tag, parent, fields = {}) => parent.appendChild(
    Object.assign(document.createElement(tag), fields));
  const played = data.clips.length;
  if (played < data.answers.length) {
    make("p", root, {
      textContent: `The motion of the first ${played} answers is below; that of the others is not ` +
        "on this page.",
    });
  }
  const lanes = new Map(), blocks = [];
  data.answers.forEach((answer, index) => {
    const who = answer.person ? `${answer.recording}, person ${answer.person}` : answer.recording;
    if (!lanes.has(who)) {
      const lane = make("section", root, { className: "lane" });
      make("h2", lane, { textContent: who });
      lanes.set(who, make("div", lane, { className: "blocks" }));
    }
    const block = make("button", lanes.get(who), { type: "button" });
    blocks.push(block);
    block.setAttribute("aria-pressed", "false");
    const when = answer.start === null ? "whole" : `${answer.start}–${answer.end} s`;
    make("span", block, { className: "when", textContent: when });
    const label = `${answer.label || "?"}${answer.still ? " (still)" : ""}`;
    if (answer.unknown) {
      // How likely a class is says nothing of a motion that is unlike all of them.
      block.classList.add("unknown");
      make("strong", block, { textContent: "unknown" });
      make("span", block, { className: "label", textContent: `closest class: ${label}` });
    } else if (answer.probability === null) {
      make("span", block, { className: "label", textContent: label });
    } else {
      const sure = `${Math.round(100 * answer.probability)}%`;
      make("span", block, { className: "label", textContent: `${label}, ${sure}` });
      make("span", make("span", block, { className: "bar" })).style.width = sure;
    }
    if (answer.nearest) block.title = `nearest: ${answer.nearest} (${answer.distance.toFixed(3)})`;
    block.addEventListener("click", () => {
      const clip = document.querySelectorAll(".clip")[index];
      blocks.forEach((one) => one.setAttribute("aria-pressed", String(one === block)));
      for (const other of document.querySelectorAll(".clip.chosen")) other.classList.remove("chosen");
      if (!clip) return;
      clip.classList.add("chosen");
      clip.scrollIntoView({ block: "nearest" });
    });
  });
})();
