"""The model that a training leaves: weights with their card inside, the card beside them, and one to be read.

model.safetensors     the best weights; `methods.trained` makes a method of this file
card.json             everything about the training, and the sha256 of its files
MODEL_CARD.md         the same for people
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regbench.files.atomic import replaced

WEIGHTS, CARD, CARD_TEXT = "model.safetensors", "card.json", "MODEL_CARD.md"
_LISTED = 12


def write_model(folder: Path, weights: Mapping[str, Tensor], card: dict[str, Any]) -> Path:
    """Writes the three files and returns the path of the weights; StoreError if they cannot be written."""
    from safetensors.torch import save

    path = folder / WEIGHTS
    # Half precision: the field changes by far less than a hundredth of a voxel, and the file halves.
    halves = {name: (w.half() if w.is_floating_point() else w).cpu().contiguous() for name, w in weights.items()}
    with replaced(path) as temporary:
        temporary.write_bytes(save(halves, metadata={"regbench": json.dumps(card, sort_keys=True)}))
    names = (WEIGHTS, "recipe.json", "training.csv")
    card = {**card, "files": {name: file_hash(folder / name) for name in names if (folder / name).exists()}}
    for name, text in ((CARD, json.dumps(card, indent=2, sort_keys=True) + "\n"), (CARD_TEXT, card_text(card))):
        with replaced(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    trained, validation, network = card["trained_on"], card["validation"], card["network"]
    spacing = "x".join(f"{abs(card['grid']['affine'][i][i]):g}" for i in range(len(card["grid"]["shape"])))
    rows = {
        "Network": f"{network['kind']}, {network['transformation']}, {card['parameters']} parameters",
        "Grid": f"{'x'.join(map(str, card['grid']['shape']))} voxels of {spacing} mm",
        "Supervision": card["supervision"],
        "Trained on": f"{trained['dataset']}, {_names(trained.get('subjects', []))}",
        "With labels": _names(trained["labelled"]) if "labelled" in trained else "",
        "Validated on": f"{len(validation['pairs'])} pairs, {_names(validation['subjects'])}",
        "Steps": f"{card['steps']}, weights of step {card['best_step']}"
        + (card["stopped"] and f" ({card['stopped']})"),
        "Seed": str(card["seed"]),
        "Time": f"{card['seconds']} s on {card['hardware']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items() if version),
        "Licence": card.get("licence") or "not stated",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value)
    files = "\n".join(f"| {name} | `{digest}` |" for name, digest in card["files"].items())
    recipe = json.dumps(card["recipe"], indent=2)
    return (
        f"# {card['name']}\n\nA registration network that `regbench train` made. In a config:\n\n"
        f"```yaml\nmethods: [{{{card['name']}: {{weights: {WEIGHTS}}}}}]\n```\n\n"
        f"| | |\n|---|---|\n{table}\n\n## Validation\n\n{_scores(validation)}\n\n"
        f"## Files\n\n| file | sha256 |\n|---|---|\n{files}\n\n"
        f"Hashes of the data, and the card that it started from if any, are in {CARD}.\n\n"
        f"## Recipe\n\n```json\n{recipe}\n```\n"
    )


def _names(names: list[str]) -> str:
    if not names:
        return "no subjects"
    shown = ", ".join(names) if len(names) <= _LISTED else f"{', '.join(names[:3])} ... {names[-1]}"
    return f"{len(names)} subjects: {shown}"


def _scores(validation: Mapping[str, Any]) -> str:
    columns = list(dict.fromkeys(key for scores in validation["per_pair"].values() for key in scores))
    lines = [f"| pair | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, scores in {**validation["per_pair"], "mean": validation["scores"]}.items():
        lines.append(f"| {name} | " + " | ".join(f"{scores[c]:.4f}" if c in scores else "" for c in columns) + " |")
    return "\n".join(lines)
