"use strict";
// Plays skeleton sequences: two views of each, one clock and one angle for all.
(function () {
  const FLOOR_LINES = 6;

  const make = (tag, parent, fields = {}) => parent.appendChild(
    Object.assign(document.createElement(tag), fields));

  // Coordinates of a packed clip: [frame][body][joint][x, y, z], NaN where a body is absent.
  function unpack(clip, joints) {
    const bytes = Uint8Array.from(atob(clip.data), (c) => c.charCodeAt(0));
    const levels = new DataView(bytes.buffer), wide = clip.bits === 16;
    const missing = wide ? 65535 : 255;
    const values = new Float32Array(wide ? bytes.length / 2 : bytes.length);
    for (let i = 0; i < values.length; ++i) {
      const level = wide ? levels.getUint16(2 * i, true) : bytes[i];
      values[i] = level === missing ? NaN : clip.low[i % 3] + level * clip.step;
    }
    if (values.length !== clip.frames * clip.bodies * joints * 3) {
      throw new Error(`${clip.title}: damaged data`);
    }
    return values;
  }

  // The box around all bodies of a clip, for one scale in all of its frames.
  function bounds(values) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    values.forEach((value, i) => {
      if (!Number.isNaN(value)) {
        low[i % 3] = Math.min(low[i % 3], value);
        high[i % 3] = Math.max(high[i % 3], value);
      }
    });
    const middle = low.map((value, i) => (Number.isFinite(value) ? (value + high[i]) / 2 : 0));
    const radius = Math.hypot(...low.map((value, i) => (high[i] - value) / 2)) || 1;
    return { middle, radius, floor: Number.isFinite(low[1]) ? low[1] : 0 };
  }

  // The angle from which the left is on the viewer's right: from the front.
  function front(clip, skeleton) {
    let x = 0, z = 0;
    const joints = skeleton.joints.length;
    for (const [joint, , side] of skeleton.bones) {
      if (side === "middle") continue;
      const sign = side === "left" ? 1 : -1;
      for (let at = 3 * joint; at < clip.values.length; at += 3 * joints) {
        if (Number.isNaN(clip.values[at])) continue;
        x += sign * clip.values[at];
        z += sign * clip.values[at + 2];
      }
    }
    return Math.atan2(z, x);
  }

  class View {
    constructor(canvas, turn) {
      this.canvas = canvas;
      this.turn = turn; // beyond the angle that all views share
    }

    draw(clip, skeleton, frame, angle) {
      const { canvas } = this;
      const side = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
      if (side === 0) return;
      const pixels = Math.round(side * ratio);
      if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
      const to = canvas.getContext("2d");
      to.setTransform(ratio, 0, 0, ratio, 0, 0);
      to.clearRect(0, 0, side, side);
      const { middle, radius, floor } = clip.box;
      const yaw = clip.flat ? 0 : clip.front + angle.yaw + this.turn, pitch = clip.flat ? 0 : angle.pitch;
      const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
      const scale = (0.47 * side) / radius;
      const project = (x, y, z) => {
        x -= middle[0]; y -= middle[1]; z -= middle[2];
        const depth = -sy * x + cy * z;
        return [side / 2 + scale * (cy * x + sy * z), side / 2 - scale * (cp * y - sp * depth)];
      };
      const style = getComputedStyle(canvas);
      const line = (from, end) => {
        to.beginPath(); to.moveTo(...from); to.lineTo(...end); to.stroke();
      };
      if (!clip.flat) {
        to.strokeStyle = style.getPropertyValue("--line");
        to.lineWidth = 1;
        for (let i = 0; i <= FLOOR_LINES; ++i) {
          const at = radius * ((2 * i) / FLOOR_LINES - 1);
          const [x, z] = [middle[0], middle[2]];
          line(project(x + at, floor, z - radius), project(x + at, floor, z + radius));
          line(project(x - radius, floor, z + at), project(x + radius, floor, z + at));
        }
      }
      const joints = skeleton.joints.length;
      to.lineCap = "round";
      for (let body = 0; body < clip.bodies; ++body) {
        const first = (frame * clip.bodies + body) * joints * 3;
        const joint = (v) => clip.values.subarray(first + 3 * v, first + 3 * v + 3);
        if (Number.isNaN(clip.values[first])) continue;
        for (const [a, b, where] of skeleton.bones) {
          to.strokeStyle = style.getPropertyValue(`--${where}`);
          to.lineWidth = where === "middle" ? 2 : 3;
          to.setLineDash(where === "right" ? [5, 4] : []);
          line(project(...joint(a)), project(...joint(b)));
        }
        to.setLineDash([]);
        if (!clip.weights) continue;
        const window = Math.floor((frame * clip.weights.length) / clip.frames);
        to.fillStyle = style.getPropertyValue("--text");
        clip.weights[window].forEach((weight, v) => {
          if (weight < 0.05) return;
          to.beginPath();
          to.arc(...project(...joint(v)), 1 + 6 * weight, 0, 2 * Math.PI);
          to.fill();
        });
      }
    }
  }

  class Player {
    constructor(root, skeleton, clips) {
      this.skeleton = skeleton;
      this.angle = { yaw: 0, pitch: 0.15 };
      this.frame = 0;
      this.timer = null; // while it plays
      this.build(root);
      this.show(clips);
      const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.play(!still);
      new ResizeObserver(() => this.draw()).observe(this.grid);
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    build(root) {
      const controls = make("div", root, { className: "controls" });
      this.button = make("button", controls, { type: "button", id: "play" });
      this.button.addEventListener("click", () => this.play(this.timer === null));
      this.slider = make("input", controls, { type: "range", id: "frame", min: 0, step: 1 });
      this.slider.setAttribute("aria-label", "frame");
      this.slider.addEventListener("input", () => {
        this.play(false);
        this.seek(Number(this.slider.value));
      });
      const label = make("label", controls, { textContent: "frames/s " });
      this.speed = make("select", label, { id: "speed" });
      for (const rate of [5, 15, 30, 60]) {
        make("option", this.speed, { value: rate, textContent: rate, selected: rate === 15 });
      }
      this.speed.addEventListener("change", () => this.play(this.timer !== null));
      const reset = make("button", controls, { type: "button", id: "front", textContent: "Front" });
      reset.addEventListener("click", () => this.rotate(0, 0.15));
      const legend = make("p", root, { className: "legend" });
      for (const side of ["left", "right"]) {
        make("span", legend, { className: side, textContent: side });
      }
      make("span", legend, { textContent: "drag a figure to turn all; space plays, arrows step" });
      this.grid = make("div", root, { className: "clips" });
      document.addEventListener("keydown", (event) => this.key(event));
    }

    // Takes the place of what was shown.
    show(clips) {
      const joints = this.skeleton.joints.length;
      this.grid.replaceChildren();
      this.clips = clips.map((clip) => {
        const values = unpack(clip, joints);
        return { ...clip, values, box: bounds(values), front: front({ values }, this.skeleton) };
      });
      for (const clip of this.clips) {
        const figure = make("figure", this.grid, { className: "clip" });
        const caption = make("figcaption", figure, { textContent: `${clip.title} ` });
        clip.counter = make("span", caption, { className: "frame" });
        const views = make("div", figure, { className: "views" });
        clip.views = (clip.flat ? [0] : [0, Math.PI / 2]).map((turn) => {
          const canvas = make("canvas", views, { tabIndex: 0 });
          canvas.setAttribute("role", "img");
          canvas.setAttribute("aria-label", `${clip.title}, ${turn ? "side" : "front"}`);
          this.drag(canvas);
          return new View(canvas, turn);
        });
      }
      this.frames = Math.max(1, ...this.clips.map((clip) => clip.frames));
      this.slider.max = this.frames - 1;
      this.frame = Math.min(this.frame, this.frames - 1);
      this.draw();
    }

    drag(canvas) {
      let from = null;
      canvas.addEventListener("pointerdown", (event) => {
        from = [event.clientX, event.clientY, this.angle.yaw, this.angle.pitch];
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (from === null) return;
        this.rotate(from[2] + (event.clientX - from[0]) / 100,
          from[3] + (event.clientY - from[1]) / 100);
      });
      for (const end of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(end, () => { from = null; });
      }
    }

    key(event) {
      const at = event.target;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(at.tagName)) return;
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (event.key === " ") this.play(this.timer === null);
      else if (event.key in steps) {
        this.play(false);
        this.seek((this.frame + steps[event.key] + this.frames) % this.frames);
      } else return;
      event.preventDefault();
    }

    seek(frame) {
      this.frame = frame;
      this.draw();
    }

    rotate(yaw, pitch) {
      const most = Math.PI / 2;
      this.angle = { yaw, pitch: Math.max(-most, Math.min(most, pitch)) };
      this.draw();
    }

    play(playing) {
      this.button.textContent = playing ? "Pause" : "Play";
      clearInterval(this.timer);
      this.timer = null;
      if (playing && this.frames > 1) {
        const next = () => this.seek((this.frame + 1) % this.frames);
        this.timer = setInterval(next, 1000 / Number(this.speed.value));
      }
    }

    // A shorter sequence holds its last frame until the longest has ended.
    draw() {
      this.slider.value = this.frame;
      for (const clip of this.clips) {
        const own = Math.min(this.frame, clip.frames - 1);
        clip.counter.textContent = `${own + 1}/${clip.frames}`;
        for (const view of clip.views) view.draw(clip, this.skeleton, own, this.angle);
      }
    }
  }

  window.SkeletonPlayer = Player;
  const root = document.getElementById("player");
  const data = JSON.parse(document.getElementById("data").textContent);
  if (root && data.clips) window.player = new Player(root, data.skeleton, data.clips);
})();
