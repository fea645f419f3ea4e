"""Distributions laid out as an installer of wheels lays them out, without one."""

from __future__ import annotations

import hashlib
from pathlib import Path


def install(
    site: Path, distribution: str, module: str, text: str, points: dict[str, str], *, group: str
) -> None:
    """Lay a distribution of one module out in `site`, with entry points of a group."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    files = {
        site / f"{module}.py": text,
        info / "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        info / "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info / "INSTALLER": "tests\n",
        info / "entry_points.txt": f"[{group}]\n"
        + "".join(f"{name} = {named}\n" for name, named in points.items()),
    }
    info.mkdir(parents=True)
    record = []
    for path, content in files.items():
        path.write_text(content)
        record.append(f"{path.relative_to(site)},sha256={hashlib.sha256(content.encode()).hexdigest()},")
    (info / "RECORD").write_text("\n".join(record) + f"\n{info.name}/RECORD,,\n")
