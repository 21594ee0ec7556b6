"""The parts of the configuration about columns and chats."""

from typing import Literal

from weitiao.config_base import Column, Part, Text


class ColumnsConfig(Part):
    """Which columns of the files mean what. What is absent is recognised from the column names."""

    text: Column | None = None
    """The document."""
    label: Column | None = None
    """The right label (classification)."""
    candidates: Column | None = None
    """The labels that this row may get: a list, or a string separated by commas (classification)."""
    prompt: Column | None = None
    """The instruction or question (generation, as all below)."""
    input: Column | None = None
    """The document that the instruction or question is about; the only part that is shortened."""
    answer: Column | None = None
    """The answer: a text, a list of texts (the first is trained), or SQuAD's object."""
    history: Column | None = None
    """Earlier turns: pairs of question and answer, or messages."""
    system: Column | None = None
    messages: Column | None = None
    """The turns of a whole chat."""
    tools: Column | None = None
    """What the assistant may call, given to the chat template as it is."""
    chosen: Column | None = None
    """The better answer of a preference: the one that is trained."""
    rejected: Column | None = None


ShapeName = Literal[
    "preference_turns", "preference", "preference_messages", "messages", "sharegpt", "prompt_completion", "alpaca", "query_response",
    "question_answers",
]  # fmt: skip


class GenerationTask(Part):
    """Answer as the chats of the data do: the assistant's turns are learned."""

    kind: Literal["generation"] = "generation"
    train_on: Literal["all", "last"] = "all"
    """Which of the assistant's turns are trained."""
    system: Text | None = None
    """System prompt for chats that have none; absent: none."""
