"""The tables of a page as files: every `<table>` as CSV and as LaTeX, with links to both below it.

The page itself is what is read, so that tables of all parts are treated alike and files say what the page says.
Where a cell tells the number behind its text (`data-value`, `data-low`, `data-high`), CSV has that in full precision
and the bounds in columns of their own. A table is named by `data-name`, else by the heading above it.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from regbench.reports import words
from regbench.reports.page import download

_TABLE = re.compile(r"<table\b.*?</table>(\s*</div>)?", re.DOTALL)
_HEADING = re.compile(r"<h[2-4][^>]*>(.*?)</h[2-4]>", re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_LONGEST_NAME = 60


@dataclass
class _Cell:
    text: str = ""
    kinds: tuple[str, ...] = ()
    data: dict[str, str] = field(default_factory=dict)


@dataclass
class PageTable:
    """A table as it stands on the page: rows of the head and of the body, of equal length where the page is sound."""

    name: str
    title: str
    head: list[list[_Cell]] = field(default_factory=list)
    body: list[list[_Cell]] = field(default_factory=list)

    @property
    def headings(self) -> list[str]:
        """Returns one heading per column, those of several rows joined."""
        width = max((len(row) for row in (*self.head, *self.body)), default=0)
        rows = [[cell.text for cell in row] + [""] * (width - len(row)) for row in self.head]
        return [" ".join(filter(None, dict.fromkeys(column))) for column in zip(*rows, strict=True)] or [""] * width


def with_files(page: str) -> tuple[str, dict[str, str]]:
    """Returns the page with links below its tables, and the files by name, such as 'results.csv'."""
    files: dict[str, str] = {}
    parts, end = [], 0
    for match in _TABLE.finditer(page):
        found = _read(match.group(), page[: match.start()], {name.rpartition(".")[0] for name in files})
        end, before = match.end(), end
        parts += [page[before : match.start()], _aligned(match.group(), found)]
        if not found.body:
            continue
        as_csv, as_latex = csv_text(found), latex_text(found)
        files |= {f"{found.name}.csv": as_csv, f"{found.name}.tex": as_latex}
        parts.append(_links(found.name, as_csv, as_latex))
    return "".join([*parts, page[end:]]), files


def _links(name: str, as_csv: str, as_latex: str) -> str:
    """Returns the line below a table; names are safe by construction."""
    links = [
        f'<a download="{name}.{ending}" href="{download(text, kind)}">{shown}</a>'
        for ending, shown, kind, text in (
            ("csv", "CSV", "text/csv", as_csv),
            ("tex", "LaTeX", "application/x-tex", as_latex),
        )
    ]
    return f'\n<p class="files">This table: {" ".join(links)}</p>'


def _aligned(table: str, found: PageTable) -> str:
    """Returns a table whose headings stand where the cells below them do: to the left where those are text."""
    if len(found.head) != 1 or not found.body:
        return table
    head, end, rest = table.partition("</thead>")
    kinds = iter(cell.kinds for cell in found.body[0])

    def heading(match: re.Match[str]) -> str:
        is_text = "text" in next(kinds, ())
        return f'<th class="text"{match.group(1)}>' if is_text and "class=" not in match.group(1) else match.group()

    return re.sub(r"<th\b([^>]*)>", heading, head) + end + rest


# -- reading ------------------------------------------------------------------------------------------


class _Reader(HTMLParser):
    """Reads the one table that it is fed."""

    def __init__(self, table: PageTable) -> None:
        super().__init__()
        self.table, self.attributes = table, dict[str, str]()
        self._rows = table.body
        self.caption: str | None = None
        self._cell: _Cell | None = None
        self._is_caption, self._span = False, 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "table":
            self.attributes = given
        elif tag == "caption":
            self._is_caption, self.caption = True, ""
        elif tag in ("thead", "tbody", "tfoot"):
            self._rows = self.table.head if tag == "thead" else self.table.body
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            data = {name[5:]: value for name, value in given.items() if name.startswith("data-")}
            self._cell = _Cell("", tuple(given.get("class", "").split()), data)
            self._span = int(given["colspan"]) if given.get("colspan", "").isdigit() else 1
        elif tag == "br":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None and self._rows:
            self._cell.text = " ".join(self._cell.text.split())
            self._rows[-1].extend([self._cell] * self._span)
            self._cell = None
        self._is_caption = self._is_caption and tag != "caption"

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.text += data
        elif self._is_caption:
            self.caption = (self.caption or "") + data


def _read(table: str, before: str, taken: set[str]) -> PageTable:
    found = PageTable("", "")
    reader = _Reader(found)
    reader.feed(table)
    heading = ""
    for match in _HEADING.finditer(before, max(0, len(before) - 200_000)):
        heading = match.group(1)
    heading = " ".join(html.unescape(re.sub(r"<[^>]+>", "", heading)).split())
    caption = " ".join((reader.caption or "").split())
    found.title = reader.attributes.get("data-title") or caption or heading
    name = slug(reader.attributes.get("data-name") or found.title) or "table"
    found.name = next(n for n in _numbered(name) if n not in taken)
    return found


def slug(text: str) -> str:
    """Returns text as a file name without ending: letters, digits and single hyphens."""
    return _UNSAFE.sub("-", text).strip("-").lower()[:_LONGEST_NAME].strip("-")


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


# -- writing ------------------------------------------------------------------------------------------


def csv_text(table: PageTable) -> str:
    """Returns a table as CSV: numbers in full precision, bounds of intervals in columns of their own."""
    rows = [*table.body]
    width = len(table.headings)
    bounded = [any("low" in row[i].data for row in rows if i < len(row)) for i in range(width)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        part
        for heading, has_bounds in zip(table.headings, bounded, strict=True)
        for part in ([heading, f"{heading} low", f"{heading} high"] if has_bounds else [heading])
    )
    for row in rows:
        cells = row + [_Cell()] * (width - len(row))
        writer.writerow(
            part
            for cell, has_bounds in zip(cells, bounded, strict=False)
            for part in (
                [_plain(cell), *(cell.data.get(b, "") for b in ("low", "high"))] if has_bounds else [_plain(cell)]
            )
        )
    return stream.getvalue()


def _plain(cell: _Cell) -> str:
    """Returns the number of a cell, else its text; nothing for the mark of what is missing."""
    text = cell.data.get("value", "" if cell.text == words.MISSING else cell.text)
    # A text that a spreadsheet would take for a formula is no number of ours.
    is_formula = text.startswith(("=", "@")) or (text.startswith(("+", "-")) and not _is_number(text))
    return f"'{text}" if is_formula else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return bool(re.match(r"[+-]?\d", text))
    return True


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    words.MINUS: "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "Δ": r"$\Delta$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def latex_escaped(text: str) -> str:
    """Returns text in which LaTeX finds no commands."""
    return "".join(_LATEX.get(character, character) for character in text)


def latex_text(table: PageTable) -> str:
    """Returns a table as LaTeX for the package booktabs: text to the left, numbers to the right, the best in bold."""
    headings = table.headings
    columns = "".join("l" if _is_text(table, i) else "r" for i in range(len(headings)))
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_escaped(table.title)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        f"{' & '.join(map(latex_escaped, headings))} \\\\",
        "\\midrule",
        *(f"{' & '.join(map(_latex_cell, row))} \\\\" for row in table.body),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _is_text(table: PageTable, column: int) -> bool:
    cells = [row[column] for row in table.body if column < len(row)]
    numbers = [cell for cell in cells if "value" in cell.data or re.match(r"[+\-\u2212<]?\d", cell.text)]
    return column == 0 or 2 * len(numbers) < len([cell for cell in cells if cell.text != words.MISSING])


def _latex_cell(cell: _Cell) -> str:
    # A row that begins with a bracket would be taken for the option of the line before it.
    text = latex_escaped(cell.text).replace("[", "{[}", 1) if cell.text.startswith("[") else latex_escaped(cell.text)
    return rf"\textbf{{{text}}}" if "best" in cell.kinds else text
