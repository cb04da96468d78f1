"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("timeline"), tip = document.getElementById("tip");
  if (canvas) {
    const KINDS = ["ok", "failed", "late", "interrupted", "again", "flaky"];
    const LEFT = 46, AXIS = 22, TOP = 14, HEIGHT_MAX = 640, ROW_MAX = 22;
    const rows = Math.max(1, data.slots), row = Math.min(ROW_MAX, HEIGHT_MAX / rows);
    const end = Math.max(1, data.end), height = TOP + row * rows + AXIS;
    let from = 0, to = end, drag = null;
    const width = () => Math.max(1, canvas.clientWidth - LEFT - 4);
    const x = (time) => LEFT + (time - from) / (to - from) * width();
    const time = (px) => from + (px - LEFT) / width() * (to - from);
    const show = (micros) => micros === 0 ? "0 s" : micros < 1e3 ? `${Math.round(micros)} µs` : micros < 1e6 ? `${+(micros / 1e3).toPrecision(4)} ms`
      : micros < 12e7 ? `${+(micros / 1e6).toPrecision(4)} s` : micros < 72e8 ? `${+(micros / 6e7).toPrecision(4)} min`
      : `${+(micros / 36e8).toPrecision(4)} h`;
    // The bars of each slot in the order of their starts, so that few are looked at.
    data.attempts.sort((a, b) => a[1] - b[1]);

    function draw() {
      const scale = devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
      const color = (name) => style.getPropertyValue("--" + name);
      canvas.style.height = height + "px";
      canvas.width = Math.round(canvas.clientWidth * scale);
      canvas.height = Math.round(height * scale);
      const to2d = canvas.getContext("2d");
      to2d.scale(scale, scale);
      to2d.font = "11px system-ui, sans-serif";
      to2d.fillStyle = color("faint");
      to2d.fillRect(LEFT, TOP, width(), row * rows);
      // The axis: steps of 1, 2 or 5, or of minutes and hours.
      const about = (to - from) / Math.max(2, width() / 110);
      const power = 10 ** Math.floor(Math.log10(about));
      const steps = about > 3e7 ? [60e6, 120e6, 300e6, 600e6, 1800e6, 36e8, 72e8, 216e8, 432e8, 864e8] : [1, 2, 5, 10].map((n) => n * power);
      const step = steps.find((step) => step >= about) || Math.ceil(about / 864e8) * 864e8;
      to2d.textAlign = "center";
      for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
        to2d.fillStyle = color("line");
        to2d.fillRect(x(at), TOP, 1, row * rows + 4);
        to2d.fillStyle = color("soft");
        to2d.fillText(show(at), Math.min(Math.max(x(at), LEFT), LEFT + width() - 18), height - 6);
      }
      to2d.textAlign = "right";
      const every = Math.max(1, Math.ceil(13 / row));
      for (let slot = 1; slot <= rows; slot += every) {
        to2d.fillText(slot, LEFT - 6, TOP + (slot - .5) * row + 4);
      }
      to2d.save();
      to2d.beginPath();
      to2d.rect(LEFT, 0, width(), height);
      to2d.clip();
      const gap = row > 6 ? 1 : 0;
      // Failures last, so that no other bar covers them.
      for (const late of [false, true]) {
        for (const [slot, start, wall, kind, , , , , slow] of data.attempts) {
          if ((kind === 0) === late || start > to || start + wall < from) continue;
          const left = Math.max(x(start), LEFT - 2), right = Math.min(x(start + wall), LEFT + width() + 2);
          const space = right - left > 4 ? 1 : 0;
          to2d.fillStyle = color(KINDS[kind]);
          to2d.fillRect(left, TOP + (slot - 1) * row + gap, Math.max(1, right - left - space), Math.max(1, row - 2 * gap));
          if (slow) {
            to2d.fillStyle = color("slow");
            to2d.fillRect(left, TOP + slot * row - gap - row / 5, Math.max(1, right - left - space), row / 5);
          }
        }
      }
      to2d.fillStyle = color("text");
      to2d.textAlign = "left";
      for (const [at, name] of data.marks) {
        to2d.fillRect(x(at), 0, 1, TOP + row * rows);
        const wide = to2d.measureText(name).width;
        to2d.fillText(name, x(at) + 4 + wide > LEFT + width() ? x(at) - 4 - wide : x(at) + 4, 10);
      }
      if (drag && drag.moved) {
        to2d.globalAlpha = .2;
        to2d.fillRect(Math.min(drag.from, drag.to), TOP, Math.abs(drag.to - drag.from), row * rows);
      }
      to2d.restore();
    }

    function zoom(begin, finish) {
      const least = 10;
      from = Math.max(0, begin);
      to = Math.min(end, Math.max(finish, from + least));
      tip.hidden = true;
      draw();
    }
    const by = (factor) => {
      const middle = (from + to) / 2, half = (to - from) / 2 * factor;
      zoom(middle - half, middle + half);
    };

    function point(event) {
      const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      const slot = Math.floor((py - TOP) / row) + 1, at = time(px), near = 2 * (to - from) / width();
      let found = null, distance = near;
      for (const attempt of data.attempts) {
        if (attempt[0] !== slot) continue;
        const away = Math.max(attempt[1] - at, at - attempt[1] - attempt[2], 0);
        if (away <= distance) [found, distance] = [attempt, away];
      }
      tip.hidden = !found;
      if (!found) return;
      const [, start, wall, kind, job, attempt, name, result, slow, repeat] = found;
      const again = attempt > 1 || KINDS[kind] === "again" ? `, attempt ${attempt}` : "";
      const more = (slow ? ", slow" : "") + (repeat ? `, repeat ${repeat}` : "");
      tip.textContent = `job ${job}${again}: ${result || "succeeded"}${more}\n${show(wall)} from ${show(start)}, slot ${slot}\n${name}`;
      const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = Math.max(8, Math.min(event.pageX + 12, right)) + "px";
      tip.style.top = event.pageY + 16 + "px";
    }

    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return Math.min(Math.max(event.clientX - box.left, LEFT), LEFT + width());
    };
    canvas.addEventListener("pointerdown", (event) => {
      drag = { from: place(event), to: place(event), moved: false };
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) return point(event);
      drag.to = place(event);
      drag.moved = drag.moved || Math.abs(drag.to - drag.from) > 4;
      if (drag.moved) draw();
    });
    canvas.addEventListener("pointerup", () => {
      const done = drag;
      drag = null;
      if (done && done.moved) zoom(time(Math.min(done.from, done.to)), time(Math.max(done.from, done.to)));
    });
    canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    document.getElementById("in").addEventListener("click", () => by(.5));
    document.getElementById("out").addEventListener("click", () => by(2));
    document.getElementById("all").addEventListener("click", () => zoom(0, end));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(draw).observe(canvas.parentElement);
    draw();
  }

  // A click on the head of a column sorts by it, the largest first.
  const table = document.getElementById("most");
  for (const button of table ? table.querySelectorAll("th button") : []) {
    button.addEventListener("click", () => {
      const head = button.parentElement, column = head.cellIndex, body = table.tBodies[0];
      const up = head.getAttribute("aria-sort") === "descending";
      const value = (line) => Number(line.cells[column].dataset.value);
      const lines = [...body.rows].sort((a, b) => up ? value(a) - value(b) : value(b) - value(a));
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...lines);
    });
  }
})();
