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
    `${data.about}. Point at a dot, or use the arrow keys, to play it beside its nearest neighbors; ` +
    "click to keep it. A click on a class shows that class alone.";

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

  const canvas = make("canvas", root, { className: "plot", tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", data.about);
  const shown = make("div", root, { className: "shown" });
  const list = make("ol", root, { className: "classes" });
  let chosen = -1, held = false, only = null, places = [];
  const buttons = data.classes.map((name, label) => {
    const button = make("button", make("li", list), { type: "button" });
    make("canvas", button, { width: 16, height: 16 });
    make("span", button, { textContent: name });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      only = only === label ? null : label;
      buttons.forEach((one, i) => one.setAttribute("aria-pressed", String(i === only)));
      draw();
    });
    return button;
  });
  const player = new window.SkeletonPlayer(shown, data.skeleton, []);

  function sign(button, label) {
    const to = button.firstChild.getContext("2d");
    to.clearRect(0, 0, 16, 16);
    dot(to, label, 8, 8, 5);
  }

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
    to.lineWidth = held ? 4 : 2;
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

  // The dot at the pointer, or -1.
  function under(event) {
    const edge = canvas.getBoundingClientRect();
    const x = event.clientX - edge.left, y = event.clientY - edge.top;
    let best = -1, least = 20 ** 2;
    places.forEach(([a, b], i) => {
      if (only !== null && data.labels[i] !== only) return;
      const away = (a - x) ** 2 + (b - y) ** 2;
      if (away < least) [best, least] = [i, away];
    });
    return best;
  }

  // A dot that was clicked stays until another is, or it is clicked again, so that the pointer can
  // leave the map across other dots.
  canvas.addEventListener("pointermove", (event) => {
    const index = held ? -1 : under(event);
    if (index >= 0) choose(index);
  });
  canvas.addEventListener("click", (event) => {
    const index = under(event);
    held = index >= 0 && !(held && index === chosen);
    if (index >= 0) choose(index);
    draw();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const count = data.points.length;
    let next = chosen;
    do next = (next + step + count) % count;
    while (only !== null && data.labels[next] !== only && next !== chosen);
    choose(next);
  });
  new ResizeObserver(draw).observe(canvas);
  dark.addEventListener("change", () => {
    buttons.forEach(sign);
    draw();
  });
  window.map = { places: () => places, chosen: () => chosen, player };
  buttons.forEach(sign);
  draw();
  choose(0);
})();
