// The atlas by keyboard: arrow keys in a grid and between channels, Escape closes, focus follows and comes back.
// Opening and closing are links to what the style sheet shows as :target, so they work without this script, too.
(() => {
  const tileOf = (channel) => document.getElementById(`at-${channel.id}`);
  const opened = () => document.querySelector(".atlas-channel:target");

  const close = () => {
    const tile = tileOf(opened());
    location.replace(tile.hash.replace("#", "#at-")); // no entry in the history
    tile.focus();
  };

  const follow = () => {
    const target = document.querySelector(".atlas-channel:target, .atlas-tile:target");
    document.querySelectorAll(".atlas-tile[aria-current]").forEach((tile) => tile.removeAttribute("aria-current"));
    if (target?.matches(".atlas-channel")) tileOf(target).setAttribute("aria-current", "true");
    target?.focus({ preventScroll: true });
  };

  /** The next picture of the grid in the direction of a key. */
  const beside = (tile, key) => {
    const tiles = [...tile.parentElement.querySelectorAll(".atlas-tile")], place = tiles.indexOf(tile);
    if (key === "ArrowLeft") return tiles[place - 1];
    if (key === "ArrowRight") return tiles[place + 1];
    const same = tiles.filter((one) => one.offsetLeft === tile.offsetLeft), row = same.indexOf(tile);
    return same[row + (key === "ArrowUp" ? -1 : 1)];
  };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Escape" && opened()) return close();
    if (!event.key.startsWith("Arrow")) return;
    const tile = event.target.closest(".atlas-tile"), channel = event.target.closest(".atlas-channel");
    const step = { ArrowLeft: ".atlas-before", ArrowRight: ".atlas-after" }[event.key];
    if (tile) {
      event.preventDefault();
      beside(tile, event.key)?.focus();
    } else if (channel && step) {
      event.preventDefault();
      channel.querySelector(step)?.click();
    }
  });

  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".atlas-tile");
    if (tile && opened() && tileOf(opened()) === tile) { // a second click
      event.preventDefault();
      close();
    }
  });

  addEventListener("hashchange", follow);
  follow();
})();
