"""Citations of cards and tables, which are plain text, as BibTeX entries with keys to cite them by.

A text such as "Vercauteren et al., NeuroImage 45 (2009) S61-S72" holds one publication or several, parted by
semicolons. Those in `regbench.reports.bibliography` have all their fields; of any other text the entry has what can
be read from it with certainty, and the whole text in `note`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from regbench.reports.bibliography import KNOWN
from regbench.reports.page_tables import latex_escaped

_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_AUTHORS = re.compile(r"^(?P<authors>[^\d,(]+?)(?P<more> et al\.?)?(?=,| \d| \()")
# Journal volume (year) pages.
_ARTICLE = re.compile(r"^(?P<journal>.+?)\s(?P<volume>\d+)\s\((?P<year>\d{4})\)\s(?P<pages>[A-Z]?\d+(?:-[A-Z]?\d+)?)$")
_ARXIV = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
# A short citation within words: "surface elements of Nikolov et al. 2021".
_SHORT = re.compile(r"\b([A-Z][a-z]+)(?: et al\.| and [A-Z][a-z]+)? (\d{4})\b")
_DOI = re.compile(r"\bdoi[: ]\s*(10\.\d{4,9}/[^\s,;]+)", re.IGNORECASE)
# What citation texts say besides publications.
_NO_PUBLICATION = ("", "none", "definition")
_NO_PUBLICATION_STARTS = ("measured by", "told by", "that of", "of the network")


@dataclass(frozen=True)
class Reference:
    """A publication: key, kind of entry, and fields in the order in which they are written."""

    key: str
    kind: str
    fields: dict[str, str] = field(default_factory=dict)

    def as_bibtex(self) -> str:
        """Returns the entry, ended by a newline."""
        lines = [f"  {name} = {{{_field(name, value)}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"]) + "\n"


def _field(name: str, value: str) -> str:
    # Braces keep capitals such as those of MR or SyN, which styles would lower.
    escaped = value if name == "doi" else _plain_dashes(latex_escaped(value))
    return f"{{{escaped}}}" if name == "title" else escaped


def _plain_dashes(text: str) -> str:
    return re.sub(r"(?<=\d)-(?=[A-Z]?\d)", "--", text) if "--" not in text else text


def references_in(text: str) -> list[Reference]:
    """Returns the publications that a citation text names."""
    return [reference for part in _parts(text) if (reference := _reference(part)) is not None]


def merged(references: Iterable[Reference]) -> list[Reference]:
    """Returns each publication once, by key; different ones that came to the same key get letters."""
    found: dict[str, Reference] = {}
    for reference in references:
        if reference in found.values():
            continue
        base, letter = reference.key, "b"
        key = base
        while key in found and found[key].fields != reference.fields:
            key, letter = f"{base}{letter}", chr(ord(letter) + 1)
        found.setdefault(key, Reference(key, reference.kind, reference.fields))
    return sorted(found.values(), key=lambda reference: reference.key)


def keys_of(text: str, references: Iterable[Reference]) -> list[str]:
    """Returns the keys, among merged references, of what a citation text names."""
    known = list(references)
    return [r.key for wanted in references_in(text) for r in known if r.fields == wanted.fields]


def _parts(text: str) -> Iterator[str]:
    """Yields the parts between semicolons that are not in brackets."""
    yield from (part.strip() for part in re.split(r";\s*(?![^()]*\))", text))


def _reference(text: str) -> Reference | None:
    if text in _NO_PUBLICATION or text.startswith(_NO_PUBLICATION_STARTS):
        return None
    for short in _SHORT.finditer(text):
        known = f"{short.group(1).lower()}{short.group(2)}"
        if known in KNOWN:
            return Reference(known, *KNOWN[known])
    # A remark at the end says what the publication is cited for: "(foreground)".
    text = re.sub(r"\s*\((?![^()]*\d{4})[^()]*\)$", "", text)
    authors = _AUTHORS.match(text)
    year = _YEAR.search(_ARXIV.sub("", text))
    number = year.group(1) if year else _arxiv_year(text)
    if authors is None or not number:
        return None
    known = f"{_surname(authors.group('authors'))}{number}"
    if known in KNOWN and _fits(known, text):
        return Reference(known, *KNOWN[known])
    return _read(known, text, authors, number)


def _fits(key: str, text: str) -> bool:
    """Returns whether a text means the known publication of that author and year, and no other one of theirs."""
    fields, rest = KNOWN[key][1], _after_authors(text)
    arxiv, article = _ARXIV.search(text), _ARTICLE.match(rest)
    if arxiv:
        return arxiv.group(1) in fields.get("howpublished", "")
    if article and "pages" in fields:
        return fields["pages"].startswith(article.group("pages").split("-")[0])
    title = re.match(r"([^,()]{25,}),", rest)
    return title is None or title.group(1)[:20].lower() in fields["title"].lower()


def _read(key: str, text: str, authors: re.Match[str], year: str) -> Reference:
    fields: dict[str, str] = {}
    names = authors.group("authors").strip()
    fields["author"] = f"{names} and others" if authors.group("more") else names
    rest = _after_authors(text)
    article = _ARTICLE.match(rest)
    kind = "misc"
    if article:
        kind, where = "article", article.group("journal")
        # "Title, journal": no journal of ours has a comma in its name but that of the IEEE on systems.
        title, comma, journal = where.rpartition(", ")
        if comma and len(title) > 25 and not title.startswith("IEEE"):
            fields |= {"title": title, "journal": journal}
        else:
            fields["journal"] = where
        fields |= {name: article.group(name) for name in ("volume", "pages")}
    elif (title := re.match(r"(?P<title>.{15,}?),\s(?P<where>[^,]*(?:\d{4}|arXiv[: ][\d.]+))$", rest)) is not None:
        fields |= {"title": title.group("title"), "howpublished": _ARXIV.sub(r"arXiv:\1", title.group("where"))}
    fields["year"] = year
    if doi := _DOI.search(text):
        fields["doi"] = doi.group(1)
    fields["note"] = text
    return Reference(key, kind, fields)


def _after_authors(text: str) -> str:
    found = _AUTHORS.match(text)
    return text[found.end() :].lstrip(", ") if found else text


def _arxiv_year(text: str) -> str:
    found = _ARXIV.search(text)
    return f"20{found.group(1)[:2]}" if found else ""


def _surname(authors: str) -> str:
    """Returns the surname of the first author in lower-case ASCII letters."""
    first = re.split(r" and |,", authors.strip())[0].split()
    plain = unicodedata.normalize("NFKD", first[0] if first else "").encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", plain.lower())
