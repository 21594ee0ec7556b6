"""The playground's process: holds a run's model and its base model, and answers one sentence a line.

`python -m weitiao.watch.player RUN` reads JSON objects (``text``, ``context``) from standard input and writes one for each.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from weitiao.config_tasks import ClassificationTask, QaTask
from weitiao.data.render import ChatEncoder
from weitiao.errors import WeitiaoError
from weitiao.inference import Tuned, predict
from weitiao.language import t
from weitiao.model.load import choose_device, choose_precision, find_model, load_causal, load_tokenizer


def base_of(tuned: Tuned) -> Tuned:
    """The base model under the same task: what the run judged before training."""
    settings = tuned.config.model
    folder = find_model(settings)
    device = choose_device(settings)
    model = load_causal(folder, device, choose_precision(settings, device))
    encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
    return replace(tuned, model=model, encoder=encoder)


def answer(models: dict[str, Tuned], text: str, context: str = "") -> dict[str, Any]:
    """By each model the label with all probabilities, or its written reply; or why there is none. ``context``: the passage that a
    question is about (qa)."""
    try:
        return {
            name: predict(model, [text], contexts=[context] if isinstance(model.config.task, QaTask) else None)[0].as_dict()
            for name, model in models.items()
        }
    except WeitiaoError as error:
        return {"problem": str(error)}


def main() -> None:
    """Load, say `{"ready": true}`, then answer until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand among the answers
    try:
        tuned = Tuned.load(Path(sys.argv[1]))
        if not (isinstance(tuned.config.task, ClassificationTask) or tuned.config.task.writes):
            kind = tuned.config.task.kind
            raise WeitiaoError(t(f"{kind} 任务的结果不回答句子", f"a result of the {kind} task answers no sentences"))
        models = {"tuned": tuned, "base": base_of(tuned)}
    except WeitiaoError as error:
        print(json.dumps({"problem": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(models, **json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
