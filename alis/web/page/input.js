// Pointer, wheel and arrow keys → the plane's motion; other keys → their actions.

const MOST_SPEED = 40; // tiles per second
const fast = (v) => Math.max(-MOST_SPEED, Math.min(MOST_SPEED, v));

// touched(): any input. stopped(): input that stops the plane's own motion.
export function listen(stage, plane, keys, { touched, stopped }) {
  drag(stage, plane, touched, stopped);
  wheel(stage, plane, touched, stopped);
  press(plane, keys, touched, stopped);
}

function drag(stage, plane, touched, stopped) {
  const touches = new Map();
  let pinch = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || event.button > 0) return;
    stage.setPointerCapture(event.pointerId);
    touches.set(event.pointerId, { x: event.clientX, time: event.timeStamp });
    plane.stop();
    plane.held = true;
    stopped();
    if (touches.size === 2) pinch = { apart: apart(touches), zoom: plane.zoom };
  });
  stage.addEventListener("pointermove", (event) => {
    const last = touches.get(event.pointerId);
    if (!last) return;
    touched();
    if (touches.size === 1) {
      const by = (last.x - event.clientX) / plane.tile, seconds = Math.max((event.timeStamp - last.time) / 1000, 0.001);
      plane.x += by;
      plane.v = plane.v * 0.6 + (by / seconds) * 0.4;
    }
    touches.set(event.pointerId, { x: event.clientX, time: event.timeStamp });
    if (pinch && touches.size === 2) plane.zoomTo((pinch.zoom * apart(touches)) / pinch.apart);
    plane.wake();
  });
  const letGo = (event) => {
    const last = touches.get(event.pointerId);
    touches.delete(event.pointerId);
    if (touches.size < 2) pinch = null;
    if (touches.size) return;
    plane.held = false;
    if (last && event.timeStamp - last.time > 90) plane.v = 0;
    plane.v = fast(plane.v);
    plane.wake();
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, letGo);
}

function apart(touches) {
  const [a, b] = [...touches.values()];
  return Math.abs(a.x - b.x) + 1;
}

function wheel(stage, plane, touched, stopped) {
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    touched();
    stopped();
    if (event.ctrlKey) return plane.zoomTo(plane.zoom * Math.exp(-event.deltaY / 300));
    const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? plane.width : 1;
    const by = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.deltaY;
    plane.glide = null;
    plane.v = fast(plane.v + (by * unit * 2.6) / plane.tile);
    plane.wake();
  }, { passive: false });
}

// keys: name → action, with letters in lower case; "Z" (with shift) and "z" are different keys.
function press(plane, keys, touched, stopped) {
  const held = new Set();
  const pushed = () => {
    const way = (held.has("ArrowRight") ? 1 : 0) - (held.has("ArrowLeft") ? 1 : 0);
    plane.push = way * (held.has("Shift") ? 3 : 1);
    plane.wake();
  };
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const inSlider = event.target.matches("input");
    if (event.key === "Shift" || (event.key.startsWith("Arrow") && !inSlider && /Left|Right/.test(event.key))) {
      if (event.key !== "Shift") {
        plane.glide = null;
        stopped();
        touched();
        event.preventDefault();
      }
      held.add(event.key);
      return pushed();
    }
    let key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "z" && event.shiftKey) key = "Z";
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() !== "z") return;
    if (key === " " && event.target.closest("button")) return;
    if (keys[key] && !(inSlider && key === "Home")) {
      event.preventDefault();
      keys[key]();
    }
  });
  addEventListener("keyup", (event) => { held.delete(event.key); pushed(); });
  addEventListener("blur", () => { held.clear(); pushed(); });
}
