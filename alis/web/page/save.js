// The dialog that downloads a strip.

const $ = (id) => document.getElementById(id);
const chosen = (name) => $("save-sheet").querySelector(`[name=${name}]:checked`).value;

export class Save {
  constructor(plane, painter, editor, tell) {
    Object.assign(this, { plane, painter, editor, tell });
    $("save-sheet").oninput = () => this.measure();
    $("take").onclick = () => this.take();
  }

  open() {
    this.plane.stop();
    $("frames").max = this.plane.model.max_frames;
    this.measure();
    $("save-sheet").showModal();
  }

  get span() {
    const { plane } = this, px = (x) => Math.round(x * plane.model.tile_px), left = px(plane.left);
    return chosen("span") === "view" ? [left, px(plane.right)]
      : [left, left + Number($("frames").value) * plane.model.resolution];
  }

  measure() {
    const [left, right] = this.span;
    $("frames-value").value = `${$("frames").value} frames`;
    $("save-size").value = `${(right - left).toLocaleString("en")} × ${this.plane.model.resolution} px`;
    $("wide").hidden = chosen("span") === "view";
    $("save-error").hidden = true;
  }

  async take() {
    const { painter, editor: { sketch } } = this, [left, right] = this.span, ending = chosen("format");
    $("take").disabled = true;
    $("take").textContent = "Painting…";
    $("save-error").hidden = true;
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await painter.strip(sketch, left, right, ending));
      link.download = `panorama-${sketch.seed}-${left}-${right}.${ending}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      $("save-sheet").close();
      this.tell("Saved, with a note of how it was painted");
    } catch (error) {
      // In the dialog itself: a toast would be hidden behind it.
      $("save-error").textContent = `Not saved: ${error.message}. Try again in a moment.`;
      $("save-error").hidden = false;
    } finally {
      $("take").disabled = false;
      $("take").textContent = "Paint and save";
    }
  }
}
