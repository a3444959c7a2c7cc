"""Draw the logo and the favicon: a map of 5×5 cells with one warm spot.

Run it after a change; the SVG files are committed.
"""

from math import hypot
from pathlib import Path

from matplotlib import colormaps
from matplotlib.colors import to_hex

CELL, GAP, CELLS, SPOT, WIDTH = 18, 3, 5, (3.0, 1.4), 1.9


def squares() -> str:
    """One rounded square for each cell, coloured by its distance from the spot."""
    drawn = []
    for row in range(CELLS):
        for column in range(CELLS):
            warmth = max(0.0, 1 - hypot(column - SPOT[0], row - SPOT[1]) / (2 * WIDTH))
            colour = to_hex(colormaps["magma"](0.22 + 0.68 * warmth))
            x, y = column * (CELL + GAP), row * (CELL + GAP)
            drawn.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="3.5" fill="{colour}"/>')
    return "".join(drawn)


def main() -> None:
    side = CELLS * (CELL + GAP) - GAP
    head = '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
    assets = Path(__file__).resolve().parents[2] / "book/assets"
    assets.joinpath("favicon.svg").write_text(f'{head} viewBox="0 0 {side} {side}">{squares()}</svg>\n')
    title = "<title>Visualizing and Understanding CNNs</title>"
    assets.joinpath("logo.svg").write_text(f'{head} viewBox="0 0 {side} {side}">{title}{squares()}</svg>\n')


if __name__ == "__main__":
    main()
