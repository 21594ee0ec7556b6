"""Classification: give each text one label out of a set, the same for all rows or a row's own candidates.

The label is a name from beginning to end. A language model answers with the label's text; a `score` head with its index in ``labels``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weitiao.config_data import DataConfig
from weitiao.config_tasks import ClassificationTask
from weitiao.data.render import ChatEncoder
from weitiao.records import Encoded, Example, Message

TEMPLATES = {
    "zh": "请判断下面的文本属于哪个类别，只回答类别名称。\n类别：{labels}\n文本：{text}",
    "en": "Which category does the text below belong to? Answer with the name of the category only.\nCategories: {labels}\nText: {text}",
}
_SEPARATORS = {"zh": "、", "en": ", "}


@dataclass(frozen=True)
class Classification:
    """The task with its label names settled."""

    config: ClassificationTask
    labels: tuple[str, ...]

    def prompt(self, document: str, candidates: Sequence[str] = ()) -> tuple[Message, ...]:
        """The chat up to the answer. ``candidates``: the row's own labels, else all."""
        template = self.config.template or TEMPLATES[self.config.language]
        options = _SEPARATORS[self.config.language].join(candidates or self.labels)
        before, after = template.split("{text}")
        user = before.replace("{labels}", options) + document + after.replace("{labels}", options)
        system = (Message("system", self.config.system),) if self.config.system is not None else ()
        return (*system, Message("user", user))

    def choices(self, example: Example) -> tuple[str, ...]:
        """The labels that this example may get."""
        return example.candidates or self.labels

    def encode_prompts(
        self, encoder: ChatEncoder, examples: Sequence[Example], most_tokens: int, data: DataConfig
    ) -> list["Prompt | None"]:
        """The prompts' ids, their document shortened where prompt and longest answer would pass ``most_tokens``. None: not even
        one token of the document fits, or ``data.shorten`` is none."""
        answer_tokens = {label: len(encoder.text(label)) + 1 for label in {c for e in examples for c in self.choices(e)} | set(self.labels)}
        prompts: list[Prompt | None] = []
        for example, ids in zip(examples, encoder.chats([e.prompt for e in examples]), strict=True):
            room = most_tokens - max(answer_tokens[label] for label in self.choices(example))
            prompts.append(Prompt(example, ids, len(ids)) if len(ids) <= room else self._shortened(encoder, example, ids, room, data))
        return prompts

    def _shortened(self, encoder: ChatEncoder, example: Example, ids: tuple[int, ...], room: int, data: DataConfig) -> "Prompt | None":
        if data.shorten == "none":
            return None
        keep = len(encoder.text(example.document)) - (len(ids) - room)
        while keep >= 1:
            document = encoder.shorten(example.document, keep, data.shorten)
            shorter = replace(example, document=document, prompt=self.prompt(document, example.candidates))
            shorter_ids = encoder.chat(shorter.prompt)
            if len(shorter_ids) <= room:
                return Prompt(shorter, shorter_ids, len(ids))
            keep = min(keep - 1, keep - (len(shorter_ids) - room))
        return None

    def encode_rows(self, encoder: ChatEncoder, prompts: Sequence["Prompt"]) -> list[Encoded]:
        """Training rows for a language model: the prompt, then the trained answer and its end token."""
        rows = []
        for prompt in prompts:
            answer = (*encoder.text(prompt.example.targets[0]), encoder.end_of_answer)
            rows.append(Encoded(prompt.example.id, prompt.ids + answer, (False,) * len(prompt.ids) + (True,) * len(answer)))
        return rows

    def encode_for_score_head(self, prompts: Sequence["Prompt"]) -> list[Encoded]:
        """Training rows for a `score` head: the prompt; the last token's hidden state decides."""
        number = {label: i for i, label in enumerate(self.labels)}
        return [
            Encoded(
                p.example.id, p.ids, (False,) * len(p.ids), number[p.example.targets[0]], tuple(number[c] for c in p.example.candidates)
            )
            for p in prompts
        ]


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt; ``example`` holds the text as it is shown to the model, ``tokens_before`` its length before shortening."""

    example: Example
    ids: tuple[int, ...]
    tokens_before: int

    @property
    def was_shortened(self) -> bool:
        """Whether part of the document was left out."""
        return self.tokens_before > len(self.ids)
