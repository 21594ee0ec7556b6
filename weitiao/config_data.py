"""The base model, the data and their audit in the configuration."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from weitiao.config_base import Column, Name, Part, Share, Whole
from weitiao.hub.names import checked_revision


class ModelConfig(Part):
    """The base model."""

    path: Name = "builtin"
    """`builtin` (the small Chinese model inside this package), a local folder in the transformers format, or the name of a model on a hub:
    `owner/name`, `ms://owner/name` (ModelScope), `hf://owner/name` (Hugging Face). A path that exists is that path."""
    revision: Annotated[Name, AfterValidator(checked_revision)] | None = None
    """Branch, tag or commit of a model on a hub. Absent: what is in the cache, else the newest; the run records the commit."""
    hub: Literal["modelscope", "huggingface"] = "modelscope"
    """Which hub to ask first for a name without a prefix; the other one is asked when this one does not give it."""
    offline: bool = False
    """Ask no hub, for the model or for data: only what is here already counts."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Working precision of the weights. `auto`: bfloat16 with float32 master weights where the processor computes in bfloat16, else
    float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU when there is one."""


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
    "preference_turns", "preference", "preference_messages", "preference_last", "messages", "sharegpt", "prompt_completion", "alpaca",
    "query_response", "question_answers",
]  # fmt: skip


class DataConfig(Part):
    """The data files and how rows become tokens."""

    train: Name = "builtin"
    """A data file; a folder with files named train, validation (dev, valid, val) and test; an entry `…/dataset_info.json#name` of
    LLaMA-Factory; `builtin` (paragraphs of LibreOffice's Chinese help with their topics, questions on them for qa, names in them as
    JSON for generation, with their own splits); or a data set on a hub, `ms://owner/name` or
    `hf://owner/name`, with `/FILE` behind it where the files' names do not tell the splits. Only files are fetched, no script is run."""
    validation: Name | None = None
    """A file; absent: split off from `train` by `validation_share`."""
    test: Name | None = None
    """A file; absent: split off from `train` by `test_share`."""
    shape: ShapeName | None = None
    """The shape of the chats, where their columns fit several (generation)."""
    columns: ColumnsConfig = ColumnsConfig()
    validation_share: Share = 0.1
    """Share of the rows split off for validation when no file is given: by `seed`, stratified by label, duplicates kept together."""
    test_share: Share = 0.1
    """Share of the rows split off for the test when no file is given."""
    max_tokens: Annotated[Whole, Field(ge=8)] | None = None
    """Longest row in tokens, prompt and answer together. Absent: what the base model was trained for, or less where a row of that length
    would not fit into the machine's memory."""
    shorten: Literal["tail", "head", "middle", "none"] = "tail"
    """Which end of the *document* is left out when a row is too long; the instruction, the options and the answer are never touched.
    `none`: such rows are rejected."""
    limit: Annotated[Whole, Field(ge=1)] | None = None
    """Use only this many training rows (drawn by `seed`); counted in the ledger."""
    deduplicate: Literal["none", "exact", "near"] = "none"
    """Keep the first of the rows with one text and label (`near`: texts that differ in a tenth of their characters at most), and no
    training row that is also in a given validation or test file; the rejected rows are in the ledger. Given validation and test files stay
    whole."""
    balance: Literal["none", "oversample"] = "none"
    """`oversample`: repeat training rows of the rarer labels until all labels have as many (classification); counted in the audit."""


class CheckConfig(Part):
    """The audit of the data, before every run and in `weitiao check`."""

    fail_on: tuple[Name, ...] = ("error",)
    """Which findings stop a run: severities (`error`, `warning`, `notice`) and names of checks, such as `[error, conflicting_labels]`."""
    memory: Literal["stop", "ignore"] = "stop"
    """`stop`: refuse to train where the estimate says that the run clearly cannot fit into the memory that is free. `ignore`: try all the
    same."""
