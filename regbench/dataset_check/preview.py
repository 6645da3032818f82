"""A page with a slice of every scan and the outlines of its labels, to look through; one HTML file, opens offline."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np

from regbench.dataset_check.check import Checked
from regbench.dataset_check.survey import Surveyed
from regbench.files.atomic import replaced

_PIXELS = 160
_OUTLINE = (255, 200, 40)
_STYLE = (
    "body{font:14px sans-serif;margin:2em}figure{display:inline-block;margin:4px;text-align:center}"
    "img{width:160px;height:160px;object-fit:contain;background:#000;image-rendering:pixelated}"
    "figcaption{font-size:11px;max-width:160px;overflow:hidden}.error{color:#b00}.warning{color:#a60}"
)


def write_preview(path: Path, title: str, checked: Checked) -> None:
    """Writes the page; StoreError if that is impossible."""
    facts = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(v)}" for k, v in checked.facts.items() if v)
    found = "".join(
        f'<li class="{finding.severity}">{finding.severity}: {html.escape(finding.sentence)}'
        for finding in checked.findings
    )
    figures = "".join(_figure(scan) for scan in checked.scans if scan.planes is not None)
    page = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><table>{facts}</table><ul>{found}</ul>{figures}\n"
    )
    with replaced(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _figure(scan: Surveyed) -> str:
    assert scan.planes is not None
    source = base64.b64encode(picture(*scan.planes)).decode()
    caption = html.escape(scan.name)
    return f'<figure><img alt="{caption}" src="data:image/png;base64,{source}"><figcaption>{caption}</figure>'


def picture(image: np.ndarray, labels: np.ndarray | None) -> bytes:
    """A slice as PNG, its 1st to 99th percentile from black to white, with the borders of labels drawn on it."""
    from matplotlib.image import imsave

    low, high = np.percentile(image, [1, 99])
    grey = np.clip((image - low) / max(float(high - low), 1e-12), 0, 1) * 255
    colours = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    factor = max(1, -(-_PIXELS // max(image.shape)))
    colours = colours.repeat(factor, axis=0).repeat(factor, axis=1)
    if labels is not None:
        colours[borders(labels.repeat(factor, axis=0).repeat(factor, axis=1))] = _OUTLINE
    stream = io.BytesIO()
    # Array axes point to the right and upwards.
    imsave(stream, np.ascontiguousarray(colours.transpose(1, 0, 2)[::-1]), format="png")
    return stream.getvalue()


def borders(labels: np.ndarray) -> np.ndarray:
    """Where a label meets another one along an axis, bool, drawn on the side of the higher index."""
    found = np.zeros(labels.shape, bool)
    found[1:] |= labels[1:] != labels[:-1]
    found[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return found
