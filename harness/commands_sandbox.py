"""The commands that look after sandboxes: clean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.errors import InfrastructureError, MissingExtra
from pivotgym.harness.commands import OUT, write_figures


@dataclass
class Clean:
    """Remove what killed runs left behind: folders, containers, images. What belongs to a living run stays.

    Every run does this when it starts its first sandbox; this does it now.
    """

    json: Path | None = None
    """also write what was removed here"""

    def run(self) -> bool:
        """Cleans every backend this machine has."""
        from pivotgym.envs.sandbox import BACKENDS, get_backend

        found: dict[str, dict[str, object]] = {}
        for name in BACKENDS:
            try:
                done = get_backend(name).clean()
            except (InfrastructureError, MissingExtra) as error:
                OUT.print(f"{name}: not here ({error})", highlight=False, markup=False)
                continue
            found[name] = vars(done)
            parts = [
                f"{count} {what if count != 1 else what[:-1]}"
                for what, count in (
                    ("folders", done.folders),
                    ("containers", done.containers),
                    ("images", done.images),
                    ("processes", done.processes),
                )
                if count
            ]
            size = f" ({done.bytes / 1e6:.1f} MB)" if done.bytes else ""
            OUT.print(f"{name}: {'removed ' + ', '.join(parts) + size if parts else 'nothing left behind'}")
            for note in done.notes:
                OUT.print(f"  {note}", highlight=False, markup=False)
        write_figures(self.json, found)
        return True
