"""What a fault programme did, and whether a run ended as the undisturbed one."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from harness import Scene, child, finetune, result


@dataclass
class Tally:
    """What a programme did."""

    name: str
    seed: int
    faults: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.notes[what] = self.notes.get(what, 0) + 1

    def __str__(self) -> str:
        rate = "" if self.failures or not self.faults else f", rate < {3 / self.faults:.2g} at 95 %"
        notes = ", ".join(f"{key} {value}" for key, value in sorted(self.notes.items()))
        return f"{self.name}: {self.faults} faults, {len(self.failures)} failures{rate} (seed {self.seed}; {notes})"


def compare(tally: Tally, scene: Scene, kind: str, name: str, what: str, may_differ: Collection[str] = (), has_room: bool = True) -> None:
    """The run must have ended as the undisturbed one did."""
    got, wanted = result(scene.folder / "runs" / name), scene.reference(kind, has_room)
    different = [key for key in wanted if got[key] != wanted[key] and key not in may_differ]
    if different:
        tally.failures.append(f"{what}: {', '.join(different)} differ")
    shutil.rmtree(scene.folder / "runs" / name)


def is_complete(run: Path) -> bool:
    """Whether a run is finished and has its report: nothing is left to go on with."""
    state = run / "run.json"
    return state.is_file() and '"state": "finished"' in state.read_text() and (run / "report.html").is_file()


def go_on(tally: Tally, scene: Scene, kind: str, name: str, what: str) -> None:
    """Run until finished, without further faults, and compare."""
    code = 0 if is_complete(scene.folder / "runs" / name) else child(lambda: finetune(scene.config(kind, name)))
    if code:
        tally.failures.append(f"{what}: going on ended with {code}")
    else:
        compare(tally, scene, kind, name, what)
