"""Fault programmes: what goes wrong, how often, and whether the run that goes on equals the one that nothing disturbed.

PYTHONPATH=tests python tests/faults/programmes.py            # all programmes in full (make faults)
PYTHONPATH=tests python tests/faults/programmes.py kill 60 7  # one of them, so many faults, from this seed

Each prints its seed, its number of faults and its failures, and ends with 1 if there is one.
"""

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness import (
    BRIEF,
    ERRORS,
    KINDS,
    Dying,
    Failing,
    Scene,
    child,
    count_calls,
    finetune,
    kill_after,
    powered,
    save_windows,
    scratch,
    with_disk,
)
from hostile import all_cases
from hostile_run import BATCH, run_batch
from outside import outside
from tally import Tally, compare, go_on, is_complete

from weitiao import storage
from weitiao.saves import Saves
from weitiao.training import train as real_train


def kill(scene: Scene, faults: int, seed: int) -> Tally:
    """SIGKILL at a random time, or inside a save at a random call (half of them); up to three times in one run before it may finish."""
    tally, draw = Tally("kill", seed), random.Random(seed)
    kinds = list(KINDS)
    seconds, windows = {}, {}
    number = 0
    while tally.faults < faults:
        kind = kinds[number % len(kinds)]
        number += 1
        if kind not in windows:
            windows[kind] = save_windows(scene, kind, f"windows-{kind}")
            seconds[kind] = _seconds_of(scene, kind, f"timed-kill-{kind}")
            scene.reference(kind)
        name, history = f"kill-{number}", []
        for _ in range(draw.randint(1, 3)):
            if draw.random() < 0.55:
                at = draw.choice(windows[kind])
                history.append(f"call {at}")
                code = child(with_disk(Dying(at), lambda: finetune(scene.config(kind, name))))  # noqa: B023 - runs before the next turn
            else:
                after = draw.uniform(0, seconds[kind])
                history.append(f"{after:.3f} s")
                code = child(lambda: finetune(scene.config(kind, name)), kill_after(after))  # noqa: B023
            if code == 0:
                break
            if code != -signal.SIGKILL:
                tally.failures.append(f"{kind} {history}: ended with {code}")
                break
            tally.faults += 1
            tally.note("inside a save" if history[-1].startswith("call") else "at a random time")
            if is_complete(scene.folder / "runs" / name):
                tally.note("after it had finished")
                break
        if code == 0:
            compare(tally, scene, kind, name, f"{kind} {history}")
        elif code == -signal.SIGKILL:
            go_on(tally, scene, kind, name, f"{kind} {history}")
    return tally


def disk_errors(scene: Scene, faults: int, seed: int) -> Tally:
    """Each call that changes the disk fails once with each error: the run finishes all the same, or ends with an error and then goes on to
    the same result. Of 1,000 faults or fewer: a run of two steps; of 300 or fewer: one error."""
    tally = Tally("disk errors", seed)
    kinds, errors = list(KINDS) if faults > 1000 else BRIEF, ERRORS if faults > 300 else ERRORS[:1]
    for number, code in enumerate(errors):
        for kind in kinds:
            calls = count_calls(scene, kind, f"calls-{kind}-{number}")
            order = random.Random(seed + number).sample(range(calls), calls)
            for at in order:
                if tally.faults >= faults:
                    return tally
                name, what = f"disk-{code}-{kind}-{at}", f"{kind}: error {code} at call {at}"
                ended = child(with_disk(Failing(at, code), lambda: finetune(scene.config(kind, name))))  # noqa: B023
                tally.faults += 1
                tally.note(f"ended with {ended}")
                if ended == 0 or is_complete(scene.folder / "runs" / name):
                    # A checkpoint that could not be removed, or written after the last step, was reported; no number depends on it.
                    compare(tally, scene, kind, name, what, {"checkpoints", "best"})
                elif ended in (1, 2):
                    go_on(tally, scene, kind, name, what)
                else:
                    tally.failures.append(f"{what}: ended with {ended}")
    return tally


class _Silent:
    def say(self, text: str) -> None:
        """Nobody is told."""

    warn = say


def damage(scene: Scene, faults: int, seed: int) -> Tally:
    """A bit flipped, a file cut, swapped, missing or too many, a link in a checkpoint: found every time, and the run goes on from an
    earlier one to the same result (each fiftieth is run to the end; all are checked by what the run would go on from)."""
    tally, draw = Tally("damage", seed), random.Random(seed)
    kind, name = "sft-lora", "damaged"
    child(with_disk(Dying(save_windows(scene, kind, "windows-damage")[-1]), lambda: finetune(scene.config(kind, name))))
    run = scene.folder / "runs" / name
    whole = scene.folder / "whole"
    shutil.copytree(run, whole)
    saves = Saves(run / "checkpoints", scene.config(kind, name).train.checkpoint, {}, _Silent())
    newest = saves.newest()
    assert newest is not None
    for number in range(faults):
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        what = _spoil(newest.folder, draw)
        tally.faults += 1
        tally.note(what.split()[0])
        point = saves.newest()
        if point is None or point.step >= newest.step:
            tally.failures.append(f"{what}: not found")
        elif number % 50 == 0:
            shutil.copytree(run, scene.folder / "runs" / "kept", dirs_exist_ok=True)
            go_on(tally, scene, kind, name, what)
            shutil.copytree(scene.folder / "runs" / "kept", run)
            shutil.rmtree(scene.folder / "runs" / "kept")
    return tally


def _spoil(folder: Path, draw: random.Random) -> str:
    files = sorted(path for path in folder.iterdir())
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    how = draw.choice(("flip", "cut", "swap", "missing", "extra", "link"))
    if how == "flip":
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "swap":
        other = draw.choice([p for p in files if p != path])
        path.write_bytes(other.read_bytes())
    elif how == "missing":
        path.unlink()
    elif how == "extra":
        (folder / "notes.bin").write_bytes(b"x")
    else:
        elsewhere = folder.parent.parent / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    if path.name == "manifest.json" and how in ("flip", "cut") and _means_the_same(folder):  # a blank, the last line end, another spelling
        return _spoil(folder, draw)
    return f"{how} {path.name}"


def _means_the_same(folder: Path) -> bool:
    try:
        storage.verify_folder(folder)
    except ValueError:
        return False
    return True


def power(scene: Scene, faults: int, seed: int) -> Tally:
    """The power fails at a call drawn from all saves of a run: what was not synced is torn or gone."""
    tally, draw = Tally("power loss", seed), random.Random(seed)
    kinds = list(KINDS)
    windows = {kind: save_windows(scene, kind, f"windows-power-{kind}") for kind in kinds}
    for number in range(faults):
        kind = kinds[number % len(kinds)]
        _lose_power(tally, scene, kind, f"power-{number}", draw.choice(windows[kind]), draw)
    return tally


def states(scene: Scene, faults: int, seed: int) -> Tally:
    """The power fails at one call of a save after the other, again and again with other draws of what is torn."""
    tally, draw, kind = Tally("power loss, every call of one save", seed), random.Random(seed), "sft-lora"
    calls = save_windows(scene, kind, "windows-states")
    end = next(i for i in range(1, len(calls)) if calls[i] != calls[i - 1] + 1)
    for number in range(faults):
        _lose_power(tally, scene, kind, f"state-{number}", calls[number % end], draw)
    tally.note(f"calls of the save: {end}")
    return tally


def _lose_power(tally: Tally, scene: Scene, kind: str, name: str, at: int, draw: random.Random) -> None:
    code = child(powered(scene, at, draw, lambda: finetune(scene.config(kind, name))))
    draw.random()  # the child drew from a copy
    tally.faults += 1
    if code != -signal.SIGKILL:
        tally.failures.append(f"{kind}: ended with {code} before call {at}")
    else:
        go_on(tally, scene, kind, name, f"{kind}: power lost at call {at}")


def terminate(scene: Scene, faults: int, seed: int) -> Tally:
    """SIGTERM at a random time of a run: it ends within 30 s (while training after the step in hand, saved; else at once), then goes on to
    the same result. A run that had finished before is no fault."""
    tally, draw = Tally("SIGTERM", seed), random.Random(seed)
    kinds, seconds = list(KINDS), {}
    number = 0
    while tally.faults < faults:
        kind, name = kinds[number % len(kinds)], f"term-{number}"
        number += 1
        if kind not in seconds:
            scene.reference(kind)
            seconds[kind] = _seconds_of(scene, kind, f"timed-term-{kind}")
        after = draw.uniform(0.02, seconds[kind])
        start = time.monotonic()

        def work(kind: str = kind, name: str = name) -> None:
            signal.signal(signal.SIGTERM, _raise_interrupt)
            finetune(scene.config(kind, name))

        code, what = child(work, kill_after(after, signal.SIGTERM)), f"{kind} after {after:.3f} s"
        if time.monotonic() - start > after + 30:
            tally.failures.append(f"{what}: took longer than 30 s")
        if code == 0:
            compare(tally, scene, kind, name, what)
            continue
        tally.faults += 1
        saved = any((scene.folder / "runs" / name / "checkpoints").glob("step-*"))
        tally.note("saved, gone on" if saved else "before there was anything to save")
        if code in (130, -signal.SIGTERM):
            go_on(tally, scene, kind, name, what)
        else:
            tally.failures.append(f"{what}: ended with {code}")
    return tally


def _seconds_of(scene: Scene, kind: str, name: str) -> float:
    """How long a whole run takes, one of this name."""
    start = time.perf_counter()
    count_calls(scene, kind, name)
    return time.perf_counter() - start


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def not_finite(scene: Scene, faults: int, seed: int) -> Tally:
    """NaN or infinity in a weight, gradient or loss at a random step: stopped within one step, nothing published; each tenth run then goes
    on, without it, to the same result."""
    import weitiao.training as training

    tally, draw = Tally("NaN and infinity", seed), random.Random(seed)
    kinds = list(KINDS)
    for number in range(faults):
        kind, name = kinds[number % len(kinds)], f"nan-{number}"
        steps = scene.reference(kind)["training"]["steps"]
        step, place = draw.randrange(1, steps), draw.choice(("loss", "gradient", "weight"))
        value = draw.choice((float("nan"), float("inf"), float("-inf")))

        def work(kind: str = kind, name: str = name, step: int = step, place: str = place, value: float = value) -> None:
            training.train = _poisoned(step, place, value)  # in the child only
            finetune(scene.config(kind, name))

        what = f"{kind}: {value} in a {place} at step {step + 1}"
        code = child(work)
        tally.faults += 1
        tally.note(place)
        run = scene.folder / "runs" / name
        text = (run / "run.json").read_text(encoding="utf-8")
        logged = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"type": "step"' in line]
        if code != 1 or '"type": "NonFiniteError"' not in text or (run / "model").exists():
            tally.failures.append(f"{what}: ended with {code}")
        elif len(logged) > step + 1:
            tally.failures.append(f"{what}: {len(logged)} steps were done")
        elif place != "weight" and not any(f"train:{line}" in text for line in range(1, 60)):
            tally.failures.append(f"{what}: no row is named")
        elif number % 10 == 0:
            go_on(tally, scene, kind, name, what)
        else:
            shutil.rmtree(run)
    return tally


def _poisoned(step: int, place: str, value: float) -> Callable:
    """The training loop with a bad number slipped in before step ``step`` (from 0)."""

    def train(model, objective, plan, optimizer, first_step=0):
        def bad_objective(model, batch):
            loss = objective(model, batch)
            return loss if seen[0] != step else loss._replace(total=loss.total * value)

        seen = [first_step]
        if place == "gradient":
            accumulate = optimizer.accumulate

            def bad_accumulate():
                accumulate()
                if seen[0] == step:
                    master = next(m for m in optimizer.masters if (m.grad is not None))
                    master.grad.view(-1)[0] = value

            optimizer.accumulate = bad_accumulate
        for done in real_train(model, bad_objective if place == "loss" else objective, plan, optimizer, first_step):
            seen[0] = done.number
            if place == "weight" and done.number == step:
                optimizer.working[0].data.view(-1)[0] = value
                optimizer.masters[0].data.view(-1)[0] = value
            yield done

    return train


def hostile(scene: Scene, faults: int, seed: int) -> Tally:
    """Folders of models, adapters and runs that somebody prepared: each is refused with a reason or loaded harmlessly."""
    tally = Tally("hostile folders", seed)
    cases = random.Random(seed).sample(all_cases(), min(faults, len(all_cases())))
    for start in range(0, len(cases), BATCH):
        for seen in run_batch(cases[start : start + BATCH], scene):
            tally.faults += 1
            tally.note("refused" if any(seen["codes"]) else "loaded")
            tally.failures += [f"{seen['name']}: {fault}" for fault in seen["faults"]]
    return tally


PROGRAMMES: dict[str, tuple[Callable[[Scene, int, int], Tally], int]] = {
    "kill": (kill, 1000),
    "disk": (disk_errors, 12_000),
    "outside": (outside, 500),
    "damage": (damage, 5000),
    "power": (power, 1000),
    "states": (states, 500),
    "term": (terminate, 100),
    "nan": (not_finite, 1000),
    "hostile": (hostile, 1000),
}
"""Each with the number of faults of `make faults` (``disk``: at most; it ends when every call has failed with every error)."""


def main(arguments: list[str]) -> int:
    """Run one programme or all of them."""
    chosen = [arguments[0]] if arguments else list(PROGRAMMES)
    seed = int(arguments[2]) if len(arguments) > 2 else 0
    bad = 0
    for name in chosen:
        programme, faults = PROGRAMMES[name]
        folder = scratch()
        start = time.monotonic()
        tally = programme(Scene(folder), int(arguments[1]) if len(arguments) > 1 else faults, seed)
        print(f"{tally}, {time.monotonic() - start:.0f} s", flush=True)
        for failure in tally.failures:
            print(f"  {failure}", flush=True)
        bad += len(tally.failures)
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
