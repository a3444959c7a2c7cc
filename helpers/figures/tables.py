"""Numbers as a table, which readers of text, too, can take apart."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping

from IPython.display import display
from torch import Tensor


def table(
    rows: Mapping[str, Mapping[str, object]],
    *,
    caption: str,
    best: Mapping[str, Callable] | None = None,
    digits: int = 2,
) -> None:
    """Numbers with their headers: ``rows`` goes from the name of each row to its values, by the name of their column.

    A float has so many ``digits``, a (mean, low, high) is shown with its interval; what a row lacks stays empty.
    ``best`` goes from columns to `max` or `min`: that value is marked.
    """
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    marked = {}
    for column, choose in (best or {}).items():
        marked[column] = choose(_number(values[column]) for values in rows.values() if column in values)
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    lines, body = [["", *columns]], ""
    for name, values in rows.items():
        lines.append([name, *(" ".join(_written(values.get(column, ""), digits)) for column in columns)])
        body += f'<tr><th scope="row">{html.escape(name)}</th>'
        for column in columns:
            number, *interval = map(html.escape, _written(values.get(column, ""), digits))
            if column in values and marked.get(column) == _number(values[column]):
                number = f"<strong>{number}</strong>"
            body += f"<td>{number}{''.join(f' <small>{ends}</small>' for ends in interval)}</td>"
        body += "</tr>"
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
    page = f'<table class="results"><caption>{html.escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
    display({"text/html": f"{page}<tbody>{body}</tbody></table>", "text/plain": f"{caption}\n{text}"}, raw=True)


def _number(value: object) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _written(value: object, digits: int) -> list[str]:
    """A value as text, and its interval if it has one."""
    if isinstance(value, tuple):
        mean, low, high = value
        return [f"{mean:.{digits}f}", f"[{low:.{digits}f}, {high:.{digits}f}]"]
    value = value.item() if isinstance(value, Tensor) else value
    return [f"{value:.{digits}f}" if isinstance(value, float) else str(value)]
