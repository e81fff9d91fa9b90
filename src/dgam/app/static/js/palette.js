// A colour for each class, by its place in the model's list; labels made by hand come after.

const COLOURS = 8;

export function createPalette(classes) {
  const place = new Map(classes.map((name, index) => [name, index]));
  return (label) => {
    if (!place.has(label)) place.set(label, place.size);
    return String(place.get(label) % COLOURS);
  };
}
