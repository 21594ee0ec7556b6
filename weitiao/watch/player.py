"""The playground's process: holds a run's model and its base model, and answers one sentence a line.

`python -m weitiao.watch.player RUN` reads JSON strings from standard input and writes one JSON object for each.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from weitiao.config_tasks import ClassificationTask
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


def answer(models: dict[str, Tuned], text: str) -> dict[str, Any]:
    """The label and all probabilities by each model, or why there are none."""
    try:
        return {name: predict(model, [text])[0].as_dict() for name, model in models.items()}
    except WeitiaoError as error:
        return {"problem": str(error)}


def main() -> None:
    """Load, say `{"ready": true}`, then answer until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand among the answers
    try:
        tuned = Tuned.load(Path(sys.argv[1]))
        if not isinstance(tuned.config.task, ClassificationTask):
            raise WeitiaoError(t("试玩只用于 classification 任务", "the playground is for the classification task"))
        models = {"tuned": tuned, "base": base_of(tuned)}
    except WeitiaoError as error:
        print(json.dumps({"problem": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(models, str(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
