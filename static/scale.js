// The slider between "keep more" and "more convincing": the guidance scale, in steps of a factor of
// 2^(1/8) around the usual one of sampler and steps, or "auto": the least that convinces.

const MIDDLE = 24, PER_DOUBLING = 8;
const $ = (id) => document.getElementById(id);

export class Scale {
  constructor(onChange) { // onChange(live): live while the slider moves
    this.usual = this.exact = 1;
    $('scale').addEventListener('input', () => {
      $('auto').checked = false;
      this.exact = this.usual * 2 ** ((Number($('scale').value) - MIDDLE) / PER_DOUBLING);
      this.show();
      onChange(true);
    });
    $('auto').addEventListener('input', () => {
      this.show();
      onChange(false);
    });
  }

  // As a request has it.
  get value() {
    return $('auto').checked ? 'auto' : Number(this.exact.toPrecision(4));
  }

  // A request's value; undefined leaves what is set.
  set value(scale) {
    if (scale === undefined) return;
    $('auto').checked = scale === 'auto';
    if (typeof scale === 'number') this.exact = scale;
    this.show();
  }

  // Other steps want another scale, unless the user has chosen one.
  follow(usual) {
    if (this.exact === this.usual) this.exact = usual;
    this.usual = usual;
    this.show();
  }

  // What a search has found.
  found(scale) {
    if (!$('auto').checked || !(scale > 0)) return;
    this.exact = scale;
    this.show(true);
  }

  show(found = false) {
    const place = MIDDLE + PER_DOUBLING * Math.log2(this.exact / this.usual);
    $('scale').value = Math.round(Math.min(48, Math.max(0, place)));
    const text = Number(this.exact.toPrecision(3));
    $('scale-value').textContent = !$('auto').checked ? `scale ${text}`
      : found ? `scale ${text}, found` : 'auto';
    $('scale').setAttribute('aria-valuetext', $('scale-value').textContent);
  }
}
