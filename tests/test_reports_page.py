"""The HTML report: its parts, its tables as files, what other people wrote in it, and a real browser that opens it."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil
import socketserver
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_rows import METHODS, failure, row, table, write_run

from regbench.analysis.groups import group_rows
from regbench.reports.cost import Point, pareto_front, points_of
from regbench.reports.derived import write_derived
from regbench.reports.failures import log_end
from regbench.reports.html import render_report
from regbench.reports.labels import label_means
from regbench.reports.methods_text import methods_text
from regbench.reports.page import environment
from regbench.reports.page_tables import latex_escaped, with_files
from regbench.reports.references import merged, references_in
from regbench.reports.slices import upright_vectors

HOSTILE = '"><script>alert(1)</script>{{ 7 * 7 }}&amp;'


class Page(HTMLParser):
    """Texts, tags and the ids of sections of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.texts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "section":
            self._open.append(str(attributes.get("id") or attributes.get("class")))
            self.sections.append(self._open[-1])

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        place = self._open[-1] if self._open else ""
        self.texts[place] = self.texts.get(place, "") + data


def rendered(rows: list[dict[str, Any]], **run: Any) -> Page:
    return Page(render_report({"run": "r", **run}, rows, []).page)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = table(6)
    rows[3] = failure("identity", 3)
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", rows)
    (folder / "logs").mkdir()
    (folder / "logs" / "identity.log").write_text(
        "--- cohort / none / p00 / identity / 0\nnot this one\n--- cohort / none / p03 / identity / 0\nlast words\n"
    )
    assert write_derived(folder).problems == ()
    return folder


# -- parts --------------------------------------------------------------------------------------------


def test_the_report_has_its_parts_in_order(report: Path) -> None:
    page = Page((report / "report.html").read_text())
    order = [
        "verdict takeaway",
        "results",
        "accuracy",
        "labels",
        "cost",
        "robustness",
        "cases",
        "failures",
        "origin",
        "cite",
    ]
    assert [section for section in page.sections if section in order] == order
    assert "12 pairs" not in page.texts["results"] and "vxm-sup" in page.texts["results"]
    assert "Dice per label" in page.texts["labels"]
    assert "last words" in page.texts["failures"] and "not this one" not in page.texts["failures"]
    assert "test-host" not in page.texts["verdict takeaway"]
    assert "@article{dice1945" in page.texts["cite"]


def test_parts_without_data_are_absent() -> None:
    page = rendered([failure("demons", i) for i in range(3)])
    assert not {"accuracy", "labels", "cost", "robustness", "information", "ranking", "claims"} & set(page.sections)
    assert {"results", "failures", "origin"} <= set(page.sections)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a" and "download" not in attributes}
    assert links <= {f"#{section}" for section in page.sections}


def test_parts_of_other_modules_are_put_in_and_their_tables_get_files() -> None:
    part = "<h3>Order</h3><div class='table-wrap'><table><tr><td>demons</td><td>1</td></tr></table></div>"
    report = render_report({}, table(6), [], parts={"ranking": part})
    assert "Order" in Page(report.page).texts["ranking"]
    assert report.tables["order.csv"] == ",\ndemons,1\n"


def test_the_page_refers_to_nothing_outside(report: Path) -> None:
    text = (report / "report.html").read_text()
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "srcset", "data", "poster", "action", "background"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(str(a["content"]) for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy
    assert not re.search(r"url\(|@import", text)


def test_what_others_wrote_stays_text() -> None:
    rows = [row(m, i, dataset=HOSTILE, condition=c) for m in METHODS for i in range(6) for c in ("none", HOSTILE)]
    rows = [{**r, "method": HOSTILE if r["method"] == "demons" else r["method"]} for r in rows]
    rows.append(failure("affine", 7, dataset=HOSTILE) | {"reason": HOSTILE})
    run = {
        "name": HOSTILE,
        "run": HOSTILE,
        "versions": {"regbench": HOSTILE},
        "tuning": {},
        "hosts": {HOSTILE: {"cpu": HOSTILE}},
    }
    run |= {"config": {"methods": [{"name": HOSTILE, "label": HOSTILE, "parameters": {"x": HOSTILE}}]}}
    made = render_report(run, rows, [])
    page = Page(made.page)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert "49" not in page.texts[""].split("regbench report")[0]
    assert "<script>alert" not in made.page
    assert made.page.count("&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}&amp;amp;") > 10
    assert all("/" not in name and "<" not in name for name in made.tables)


def test_logs_of_hostile_programs_stay_text(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    text = f"--- cohort / none / p00 / demons / 0\n\x1b[31m{HOSTILE}\x07</pre>\n" + "x" * 5000 + "\n"
    (tmp_path / "logs" / "demons.log").write_bytes(text.encode() + b"\xff\xfe\n")
    shown = log_end(tmp_path, row("demons"))
    assert "\x1b" not in shown and "\x07" not in shown and len(shown) < 1000
    page = render_report({}, [failure("demons")], [], folder=tmp_path).page
    assert "&lt;/pre&gt;" in page and "<script>alert" not in page


def test_templates_escape_and_complain_of_what_they_do_not_know() -> None:
    from jinja2 import UndefinedError

    assert environment().from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    assert environment().from_string("{{ x | with_code }}").render(x="`<b>`") == "<code>&lt;b&gt;</code>"
    with pytest.raises(UndefinedError):
        environment().from_string("{{ x }}").render()


# -- tables as files ----------------------------------------------------------------------------------


def test_tables_are_links_and_files_alike(report: Path) -> None:
    page = Page((report / "report.html").read_text())
    links = {str(a["download"]): str(a["href"]) for tag, a in page.tags if tag == "a" and "download" in a}
    files = {path.name: path.read_text() for path in (report / "tables").iterdir() if path.name != ".written"}
    assert links.keys() == files.keys()
    for name, link in links.items():
        assert base64.b64decode(link.partition("base64,")[2]).decode() == files[name]
    results = list(csv.DictReader(io.StringIO(files["results-cohort-no-shift-5-pairs.csv"])))
    vxm = next(line for line in results if line["method"] == "vxm")
    assert float(vxm["Dice [95 %]"]) == pytest.approx(0.70, abs=0.02)
    assert len(vxm["Dice [95 %]"]) > 8, "in full precision"


def test_old_tables_go_and_those_of_the_user_stay(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [failure("demons")])
    write_derived(folder)
    (folder / "tables" / "mine.csv").write_text("1\n")
    assert (folder / "tables" / "failures.csv").exists()
    write_run(tmp_path / "run", [row("demons", dice=None)])
    write_derived(folder)
    assert {"mine.csv", "methods.csv"} <= {path.name for path in (folder / "tables").iterdir()}
    assert not (folder / "tables" / "failures.csv").exists()


def test_csv_has_bounds_and_no_formulas_and_latex_no_commands() -> None:
    cells = '<td data-value="0.5" data-low="0.25" data-high="0.75">0.50 [..]</td><td>=cmd()</td><td>a_b &amp; 50 %</td>'
    head = "<thead><tr><th>m</th><th>x</th><th>y</th><th>z</th><th>w</th></tr></thead>"
    page, files = with_files(f"<h3>A_1</h3><table>{head}<tbody><tr><th>-n</th>{cells}<td>-</td></tr></tbody></table>")
    assert list(csv.reader(io.StringIO(files["a-1.csv"]))) == [
        ["m", "x", "x low", "x high", "y", "z", "w"],
        ["'-n", "0.5", "0.25", "0.75", "'=cmd()", "a_b & 50 %", ""],
    ]
    assert r"-n & 0.50 {[}..] & =cmd() & a\_b \& 50 \% & - \\" in files["a-1.tex"].replace("0.50 [", "0.50 {[}")
    assert page.count("This table:") == 1
    assert latex_escaped("\\x{") == r"\textbackslash{}x\{"


def test_tables_of_one_name_are_told_apart() -> None:
    one = "<table><tr><td>1</td></tr></table>"
    assert set(with_files(f"<h3>T</h3>{one}{one}<h3>Ü</h3>{one}")[1]) == {
        *("t.csv", "t.tex", "t-2.csv", "t-2.tex", "table.csv", "table.tex")
    }


# -- what the parts say ---------------------------------------------------------------------------------


def test_label_means_are_over_pairs_that_all_methods_have() -> None:
    rows = [row(m, i, dice=d + 0.01 * i) for m, d in (("affine", 0.5), ("demons", 0.7)) for i in range(3)]
    del rows[0]["metrics"]["dice"]["per_label"]["2"]
    (means,) = label_means(rows, group_rows(rows), {"cohort": {"1": "left"}})
    assert list(means.means) == ["2", "1 left"], "hardest first"
    assert means.n_pairs == {"2": 2, "1 left": 3}
    assert means.means["2"]["demons"] == pytest.approx(0.7 + 0.015 - 0.05)
    assert means.means["1 left"]["affine"] == pytest.approx(0.5 + 0.01 + 0.05)


def test_the_pareto_front_is_what_nobody_beats() -> None:
    group = group_rows(table(6, conditions=("none",)))[0]
    points = points_of(group, "register_s")
    assert [p.method.name for p in pareto_front(points, "dice")] == ["vxm-sup"]
    costs = {"affine": 1.0, "demons": 5.0, "vxm": 9.0, "vxm-sup": 10.0}
    dearer = [Point(p.method, costs[p.method.name], p.accuracy) for p in points]
    front = [p.method.name for p in pareto_front(dearer, "dice")]
    assert front[0] == "affine" and front[-1] == "vxm-sup"
    assert pareto_front(dearer, "tre_mm")[-1].method.name == "affine", "there, lower is better"


def test_the_methods_text_says_what_was_run_and_cites_it() -> None:
    run = {
        "name": "r",
        "config": {
            "prealign": "affine",
            "methods": [
                {"name": "demons", "label": "demons", "parameters": {"shrink": [4, 2]}},
                {"name": "x.py:Y", "label": "vxm"},
            ],
        },
        "datasets": {"cohort": {"name": "mni-cohort", "parameters": {"spacing_mm": 2}, "manifest": {}}},
        "versions": {"regbench": "9.9", "python": "3.11"},
        "seed": 3,
    }
    rows = [row(m, i) for m in ("demons", "vxm") for i in range(6)]
    text = methods_text(run, rows, group_rows(rows))
    plain = " ".join(text.plain)
    for said in (
        "6 pairs of 12 subjects; spacing_mm = 2",
        "demons [Vercauteren et al. 2009] (regbench 0.1.0; shrink = 4/2)",
        "same affine pre-alignment",
        "Student's t over pairs, which share no subjects",
        "All 12 cases finished",
        "regbench 9.9 [regbench]",
    ):
        assert said in plain
    assert "dyadic" not in plain and "shift" not in plain
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", text.latex) for key in keys.split(",")}
    assert cited == set(re.findall(r"^@\w+\{(\w+),", text.bibtex, re.MULTILINE))
    for entry in text.bibtex.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}") and entry.endswith("}")


def test_every_citation_of_the_tables_is_an_entry() -> None:
    from regbench.datasets.table import DATASETS
    from regbench.methods.table import card, method_names
    from regbench.metrics.table import METRICS

    texts = [card(name).citation for name in method_names([])]
    texts += [dataset.citation for dataset in DATASETS.values()] + [metric.source for metric in METRICS.values()]
    for text in texts:
        # A text with the year of a publication names one.
        assert bool(references_in(text)) == bool(re.search(r"\b(1[89]|20)\d\d\b|arXiv", text)), text
    entries = merged(reference for text in texts for reference in references_in(text))
    assert len({entry.key for entry in entries}) == len(entries)
    two = [e for e in entries if e.key.startswith("jena2024")]
    assert len(two) == 2 and all("arXiv" in e.fields["howpublished"] for e in two)


@pytest.mark.parametrize("letters", ["RA", "LA", "RP", "AR", "PL", "AS", "SA", "IP", "RS", "SL"])
def test_in_plane_vectors_point_where_the_picture_shows_them(letters: str) -> None:
    """One voxel towards right (or anterior) is one to the right of the picture, towards superior one up."""
    for axis in (0, 1):
        vectors = np.zeros((5, 7, 2))
        vectors[..., axis] = 1.0 if letters[axis] in "RAS" else -1.0
        shown = upright_vectors(vectors, letters)
        rank = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
        is_horizontal = rank[letters[axis]] < rank[letters[1 - axis]]
        assert (shown == ([1, 0] if is_horizontal else [0, -1])).all()


# -- a real browser -----------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
_CLICK = """<script>
var header = document.querySelectorAll('#results th')[2];
header.querySelector('button').click();
document.title = Array.from(document.querySelector('#results tbody').rows, r => r.cells[0].textContent).join(' ');
header.querySelector('button').click();
document.title += ' | ' + header.getAttribute('aria-sort');
var input = document.querySelector('#results input');
input.value = 'VXM';
input.dispatchEvent(new Event('input'));
document.title += ' | ' + Array.from(document.querySelectorAll('#results tbody tr')).filter(r => !r.hidden).length;
</script></body>"""


def dom(page: Path, profile: Path, *options: str) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--disable-background-networking", "--disable-component-update", "--no-first-run", *options]
    found = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return found.stdout


@needs_browser
def test_a_browser_opens_the_report_and_asks_nobody_for_anything(report: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    class Proxy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode(errors="replace"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = dom(report / "report.html", tmp_path, f"--proxy-server=127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    # The browser's own errands are none of the page's.
    assert [line for line in asked if not re.search(r"google|gvt1|chrom", line)] == []
    page = Page(text)
    assert {"results", "accuracy", "labels", "cost", "robustness", "failures", "cite"} <= set(page.sections)
    # Buttons and the filter are there only if the policy let the script run.
    assert [a for tag, a in page.tags if tag == "button"] and [a for tag, a in page.tags if tag == "input"]


@needs_browser
def test_tables_are_sorted_and_filtered_in_a_browser(report: Path, tmp_path: Path) -> None:
    text = (report / "report.html").read_text()
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = tmp_path / "clicked.html"
    copy.write_text(without_policy.replace("</body>", _CLICK))
    title = re.search(r"<title>(.*?)</title>", dom(copy, tmp_path / "profile"))
    assert title is not None
    order, direction, n_shown = title.group(1).split(" | ")
    assert order.split()[0] == "identity" and order.split()[-1] == "vxm-sup"
    assert direction == "descending"
    assert int(n_shown) == 4 * text.count('data-name="results')
