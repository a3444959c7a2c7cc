"""The figures of the book: one look, alternative text in every one of them, a second drawing for dark pages.

`panels` shows photographs and maps side by side, `curves`, `bars` and `table` show numbers; what they do not do is
drawn with matplotlib on the axes of `new` and shown with `show`.
"""

from .charts import CHART, bars, curves, scatters
from .look import COLOURS, DARK, HEAT, LIGHT, SHARPNESS, SIGNED, WIDTH, new, show
from .photographs import Panel, draw, panels
from .tables import table

__all__ = ["CHART", "COLOURS", "DARK", "HEAT", "LIGHT", "SHARPNESS", "SIGNED", "WIDTH"]
__all__ += ["Panel", "bars", "curves", "draw", "new", "panels", "scatters", "show", "table"]
