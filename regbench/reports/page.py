"""What the parts of the HTML report share: the template environment, pictures inside the page, and tables.

Every part is made with `environment()`, which escapes whatever is put into a template: names, reasons and logs are
other people's text. A part is HTML that begins with `<h3>` and uses the classes of the report: a table stands in
`<div class="table-wrap">`, remarks in `<p class="note">`, pictures in `<figure>`. The report gives every table of
every part its files (CSV, LaTeX) and makes it sortable, see `regbench.reports.page_tables`.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from regbench.analysis.statistics import Interval
from regbench.reports.figures import DPI, Plot

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).with_name("templates")
# A page has 100 dots per inch of a figure: figures stay sharp on fine screens and on paper.
_PAGE_DPI = 100


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Returns the environment of the report's templates; everything that is put into one is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["with_code"] = _with_code
    return made


def _with_code(text: str) -> str:
    """Returns text, escaped, in which what stands between backticks is marked as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def embedded(png: bytes) -> str:
    """Returns a PNG as a data URL, for the `src` of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def download(text: str, kind: str) -> str:
    """Returns text of a media type such as 'text/csv' as a data URL, for the `href` of a link."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode('utf-8')).decode('ascii')}"


def file_text(name: str) -> str:
    """Returns the style sheet or the script of the report, without its comments."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/\n?", "", text, flags=re.DOTALL).strip()


# -- pictures -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A figure of the page: data URL, size on the page in CSS pixels, and the words that go with it."""

    title: str
    description: str
    source: str
    width: int
    height: int


def picture(plot: Plot, dpi: int = DPI) -> Picture:
    """Returns a plot, drawn with these dots per inch, as the page shows it."""
    width, height = (round(side * _PAGE_DPI / dpi) for side in png_size(plot.png))
    return Picture(plot.title, plot.description, embedded(plot.png), width, height)


def png_size(png: bytes) -> tuple[int, int]:
    """Returns width and height of a PNG in pixels; (1, 1) for what is none."""
    return struct.unpack(">II", png[16:24]) if len(png) >= 24 and png.startswith(b"\x89PNG") else (1, 1)


# -- tables -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a CSS class, and the number behind the text with its interval, in full precision."""

    text: str
    kind: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, text: str, value: Interval | float | None, kind: str = "") -> Cell:
        """Returns a cell of a number or of a mean with its interval, shown as `text`."""
        if isinstance(value, Interval):
            return cls(text, kind, value.mean, value.low, value.high)
        return cls(text, kind, value)


@dataclass(frozen=True)
class Table:
    """A table: `name` is that of its files; headings are (text, CSS class), the first cell of a row names it."""

    name: str
    title: str
    headings: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)
