"use strict";
// Features in two dimensions: a dot that is pointed at is played beside its nearest neighbors.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("map");
  if (!root || !data.points) return;
  const SHAPES = 5, HUES = 12; // a class has a shape and a hue, so that color is not needed
  const make = (tag, parent, fields = {}) => parent.appendChild(
    Object.assign(document.createElement(tag), fields));
  document.getElementById("about-map").textContent =
    `${data.about}. Point at a dot, or press the arrow keys, to play it beside its nearest neighbors.`;

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const color = (label) =>
    `hsl(${(360 * (label % HUES)) / HUES} 70% ${dark.matches ? 65 : 40}%)`;
  function dot(to, label, x, y, size) {
    to.beginPath();
    const shape = label % SHAPES;
    if (shape === 0) to.arc(x, y, size, 0, 2 * Math.PI);
    else {
      const corners = [0, 3, 4, 5, 4][shape], first = [0, -0.5, 0.25, -0.5, 0][shape] * Math.PI;
      for (let i = 0; i < corners; ++i) {
        const angle = first + (2 * Math.PI * i) / corners;
        to.lineTo(x + 1.2 * size * Math.cos(angle), y + 1.2 * size * Math.sin(angle));
      }
      to.closePath();
    }
    to.fillStyle = color(label);
    to.fill();
  }

  const box = make("div", root, { className: "map" });
  const canvas = make("canvas", box, { tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", data.about);
  const list = make("ol", box);
  let chosen = -1, only = null, places = [];
  const buttons = data.classes.map((name, label) => {
    const button = make("button", make("li", list), { type: "button" });
    const sign = make("canvas", button, { width: 16, height: 16 });
    dot(sign.getContext("2d"), label, 8, 8, 5);
    make("span", button, { textContent: name });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      only = only === label ? null : label;
      buttons.forEach((one, i) => one.setAttribute("aria-pressed", String(i === only)));
      draw();
    });
    return button;
  });
  const player = new window.SkeletonPlayer(document.getElementById("shown"), data.skeleton, []);

  function draw() {
    const wide = canvas.clientWidth, high = canvas.clientHeight;
    const ratio = window.devicePixelRatio || 1;
    if (wide === 0) return;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    const to = canvas.getContext("2d");
    to.setTransform(ratio, 0, 0, ratio, 0, 0);
    places = data.points.map(([x, y]) => [
      12 + ((x + 1) / 2) * (wide - 24), 12 + ((1 - y) / 2) * (high - 24)]);
    const size = data.points.length > 500 ? 3 : 4;
    places.forEach(([x, y], i) => {
      to.globalAlpha = only === null || data.labels[i] === only ? 0.85 : 0.08;
      dot(to, data.labels[i], x, y, size);
    });
    to.globalAlpha = 1;
    if (chosen < 0) return;
    const style = getComputedStyle(canvas);
    to.strokeStyle = style.getPropertyValue("--text");
    to.lineWidth = 1;
    for (const near of data.neighbors[chosen] || []) {
      to.beginPath();
      to.moveTo(...places[chosen]);
      to.lineTo(...places[near]);
      to.stroke();
    }
    to.lineWidth = 2;
    to.beginPath();
    to.arc(...places[chosen], size + 5, 0, 2 * Math.PI);
    to.stroke();
  }

  function choose(index) {
    if (index === chosen) return;
    chosen = index;
    const near = data.neighbors[index] || [];
    player.show([index, ...near].map((one, place) => ({
      ...data.dots[one],
      title: place ? `neighbor ${place}, ${data.dots[one].title}` : data.dots[one].title,
    })));
    draw();
  }

  function point(event) {
    const edge = canvas.getBoundingClientRect();
    const x = event.clientX - edge.left, y = event.clientY - edge.top;
    let best = -1, least = 20 ** 2;
    places.forEach(([a, b], i) => {
      if (only !== null && data.labels[i] !== only) return;
      const away = (a - x) ** 2 + (b - y) ** 2;
      if (away < least) [best, least] = [i, away];
    });
    if (best >= 0) choose(best);
  }
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const count = data.points.length;
    choose(chosen < 0 ? 0 : (chosen + step + count) % count);
  });
  new ResizeObserver(draw).observe(canvas);
  dark.addEventListener("change", draw);
  window.map = { choose, point, places: () => places, chosen: () => chosen, player };
  draw();
  choose(0);
})();
