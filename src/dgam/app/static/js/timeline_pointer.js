// Mouse, pen and fingers on the timeline: seek, scrub, select, drag edges, pan, zoom.
import { hideTooltip } from "./tooltip.js";

const STILL = 4; // pixels below which a press is a click

export function followPointer({ body, scale, bars, actions, shown }) {
  const down = new Map(); // pointer id -> last x on the track
  let gesture = null; // {kind, ...} of the first pointer
  let pinch = null;

  const onTrack = (event) => event.clientX - body.querySelector(".ruler-track").getBoundingClientRect().left;
  const at = (event) => scale.t(onTrack(event));

  body.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.target.closest(".track, .playhead-knob")) return;
    down.set(event.pointerId, onTrack(event));
    if (down.size === 2) {
      const [a, b] = [...down.values()];
      pinch = { distance: Math.max(10, Math.abs(a - b)), span: scale.span, middle: scale.t((a + b) / 2) };
      if (gesture?.moved && gesture.finish) gesture.finish();
      gesture = null;
      return;
    }
    const handle = event.target.closest(".handle");
    const bar = event.target.closest(".seg-bar");
    const segment = bar && bars.segment(bar.dataset.key);
    gesture = { x: onTrack(event), t: at(event), moved: false, segment, kind: "scrub" };
    if (handle) Object.assign(gesture, { kind: "edge", edge: handle.dataset.edge, segment: shown().selected });
    else if (segment && shown().editable && shown().selected?.key === segment.key) gesture.kind = "move";
    else if (!segment) actions.seek(gesture.t);
    if (handle) handle.focus({ preventScroll: true });
    body.setPointerCapture(event.pointerId);
    hideTooltip();
  });

  body.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    down.set(event.pointerId, onTrack(event));
    if (pinch && down.size === 2) {
      const [a, b] = [...down.values()];
      const span = pinch.span * (pinch.distance / Math.max(10, Math.abs(a - b)));
      const share = (a + b) / 2 / scale.width;
      scale.show(pinch.middle - share * span, pinch.middle + (1 - share) * span);
      return;
    }
    if (!gesture) return;
    if (!gesture.moved && Math.abs(onTrack(event) - gesture.x) < STILL) return;
    gesture.moved = true;
    const t = at(event);
    if (gesture.kind === "scrub") actions.seek(t);
    else if (gesture.kind === "edge") actions.drag(gesture.segment, { [gesture.edge]: t });
    else actions.drag(gesture.segment, { start: gesture.segment.start + t - gesture.t, end: gesture.segment.end + t - gesture.t });
  });

  function up(event) {
    if (!down.delete(event.pointerId)) return;
    if (down.size < 2) pinch = null;
    const done = gesture;
    if (down.size === 0) gesture = null;
    if (!done || event.type === "pointercancel") {
      if (done?.moved && done.kind !== "scrub") actions.dragged(done.segment);
      return;
    }
    if (done.moved && done.kind !== "scrub") actions.dragged(done.segment);
    else if (!done.moved && done.segment && done.kind !== "edge") actions.select(done.segment);
  }
  body.addEventListener("pointerup", up);
  body.addEventListener("pointercancel", up);
  body.addEventListener("dblclick", (event) => {
    const bar = document.elementFromPoint(event.clientX, event.clientY)?.closest(".seg-bar");
    const segment = bar && bars.segment(bar.dataset.key);
    if (segment) actions.play(segment);
  });

  body.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      scale.zoom(Math.exp(-event.deltaY / 300), at(event));
    } else if (!scale.isWhole && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
      event.preventDefault();
      scale.pan(((event.deltaX || event.deltaY) / scale.width) * scale.span);
    }
  }, { passive: false });

}
