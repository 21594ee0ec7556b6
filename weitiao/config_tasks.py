"""The tasks in the configuration: what a row means and what a good answer is."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from weitiao.config_base import Name, Part, Text, Whole
from weitiao.language import t


class Task(Part):
    """What the other parts of a run ask of its task; most tasks answer as here."""

    objectives: ClassVar[tuple[str, ...]] = ("sft", "grpo")
    """What it can be learned by."""
    judged_by: ClassVar[tuple[str, ...]] = ("loss",)
    """The validation metrics that can decide which weights are kept, and the one that usually does."""
    best_by: ClassVar[str] = "loss"
    columns: ClassVar[frozenset[str] | None] = None
    """The columns of its texts; None: its rows are chats."""
    has_head: ClassVar[bool] = False
    """Whether the last layer alone can learn it (a reward model's always can)."""
    writes: ClassVar[bool] = False
    """Whether the answers are written freely, and judged as such."""


class ClassificationTask(Task):
    """Give each text one label out of a set."""

    judged_by = ("accuracy", "macro_f1", "loss")
    best_by = "macro_f1"
    columns = frozenset({"text", "label", "candidates"})
    has_head = True
    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[Name, ...], Field(min_length=2)] | None = None
    """The label names. Absent: those of the training rows. They stay as written: yes, 010, 1e-4 are names."""
    system: Text | None = None
    """System prompt; absent: none."""
    template: Text | None = None
    """The user's turn, with the places {text} and {labels}. Absent: a Chinese or English one, by `language`."""
    language: Literal["zh", "en"] = "zh"
    """Language of the built-in template."""

    @model_validator(mode="after")
    def _check(self) -> "ClassificationTask":
        if self.template is not None and self.template.count("{text}") != 1:
            raise ValueError(t("模板里必须恰好出现一次 {text}", "the template must contain {text} exactly once"))
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError(t("标签有重复", "a label is listed twice"))
        return self


class GenerationTask(Task):
    """Answer as the chats of the data do: the assistant's turns are learned."""

    writes = True
    kind: Literal["generation"] = "generation"
    train_on: Literal["all", "last"] = "all"
    """Which of the assistant's turns are trained."""
    system: Text | None = None
    """System prompt for chats that have none; absent: none."""
    json_schema: Name | None = None
    """A file with the JSON Schema of the answers. Rows whose answer does not keep to it are rejected, and the share of written answers that
    do is measured."""


class QaTask(Task):
    """Answer a question in few words, from a passage or from memory."""

    writes = True
    train_on: ClassVar[Literal["last"]] = "last"
    kind: Literal["qa"] = "qa"
    system: Text | None = None
    """System prompt; absent: none."""
    template: Text | None = None
    """The user's turn, with the places {question} and {context} (empty for a row without a passage). Absent: a Chinese or English one, by
    `language`."""
    language: Literal["zh", "en"] = "zh"
    """Language of the built-in template."""
    unanswerable: Annotated[Text, Field(min_length=1)] | None = None
    """What to answer where the passage does not hold the answer: rows whose list of answers is empty learn it, and abstaining is scored.
    Absent: such rows are rejected."""

    @model_validator(mode="after")
    def _check(self) -> "QaTask":
        if self.template is not None and (self.template.count("{question}") != 1 or self.template.count("{context}") > 1):
            raise ValueError(
                t(
                    "模板里必须恰好出现一次 {question}，至多一次 {context}",
                    "the template must contain {question} exactly once, and {context} once at most",
                )
            )
        return self


class PreferenceTask(Task):
    """Tell the better of two answers to one prompt (`chosen`) from the worse one (`rejected`), and write such as the better one."""

    objectives = ("dpo", "orpo", "simpo", "reward")
    judged_by = ("accuracy", "loss")
    kind: Literal["preference"] = "preference"
    system: Text | None = None
    """System prompt for pairs that have none; absent: none."""


class TextTask(Task):
    """Learn the language of a text (self-supervised): predict each next token."""

    objectives = ("pretrain",)
    columns = frozenset({"text"})
    has_head = True
    kind: Literal["text"] = "text"
    block_tokens: Annotated[Whole, Field(ge=8)] = 512
    """Documents are joined with the end-of-text token and cut into blocks of this many tokens."""


TaskConfig = Annotated[ClassificationTask | QaTask | GenerationTask | PreferenceTask | TextTask, Field(discriminator="kind")]
