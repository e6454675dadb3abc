// Numbers for people: no more digits than tell something.

// Of a value whose range is not known.
export function plain(value) {
  if (typeof value !== 'number') return value;
  return Number(Math.abs(value) < 0.01 ? value.toPrecision(1)
    : Math.abs(value) < 10 ? value.toFixed(2) : value.toPrecision(3));
}

// Of a value between min and max, in hundredths of the range's magnitude.
export function plainIn(min, max) {
  const digits = Math.min(20, Math.max(0, 2 - Math.floor(Math.log10(max - min || 1))));
  return (value) => String(Number(Number(value).toFixed(digits)));
}
