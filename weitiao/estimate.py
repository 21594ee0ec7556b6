"""How much memory a run will take at its fullest and how many operations, before anything is loaded: arithmetic over the model's structure
and the lengths of the encoded rows. Nothing here imports torch.

    peak = process + weights + optimiser + best copy + max(training, judging)
    training = gradients carried + 1.5 · max(kept for the backward pass + workspace, all gradients)      the half: holes on the heap

Kept of one block for T tokens, Q of them queries (the last block computes only those asked for); h hidden size, n heads of size d, g heads
of keys and values, m width of the MLP, b bytes of a number in working precision; [·] where the layer's weights or adapters learn:
    norms      T (4h + [bh] + [bh]) + Q (4h + [bh] + [bh])                   the input in float32, its normalised form, the output
    attention  b (2 Q n d + 2 T g d) + b Q n K (CPU, short rows)             queries, result, keys, values, shares of K keys
                                     or 4 Q n (GPU)
    MLP        b Q m (3 + [1])                                               gate, its activation, up, their product
    adapters   b r for each adapted layer and token
Workspace: the widest moment of one block's backward pass, or the loss, whose logits are made in chunks; and attention's scores on a CPU.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from weitiao.config import RunConfig
from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.data.packed import EncodedRows, row_lengths
from weitiao.data.portions import heaviest
from weitiao.machine import Machine
from weitiao.model.structure import Structure
from weitiao.prepare import Prepared
from weitiao.records import SPLITS, Encoded, SplitName, Tree
from weitiao.tasks.generation import Passages, passage_lengths

Method = FullMethod | HeadMethod | LoraMethod
PROCESS_BYTES = 540_000_000
"""Python with torch, transformers, peft, scikit-learn and scipy loaded (Linux, CPU build: measured, docs/en/estimate.md)."""
KERNEL_BYTES = 100_000_000
"""What oneDNN keeps of its compiled kernels (bfloat16 on a CPU)."""
TOKEN_BYTES, PACKED_BYTES = 60, 5
"""A token of an encoded row in Python's memory, its number and whether it is trained; and in a flat array."""
_SAMPLE = 1000
CHUNK_ELEMENTS, CHUNK_ROWS, CACHED_ELEMENTS = 1 << 23, 256, 1 << 19
"""Logits at a time, as in model/logprobs.py."""
SHORT_KEYS = 256
CACHED_SCORES = 1 << 19
"""On a CPU attention keeps its shares of up to so many keys, and makes so many scores at a time for each core, as in model/states.py."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the encoded rows ask for. Of the heaviest micro-batch: ``rows`` of ``width`` columns, ``tokens`` that are computed (what rows
    begin with in common once), ``queries`` of the last block and ``targets``."""

    rows: int
    width: int
    tokens: int
    queries: int
    targets: int
    several: bool
    """Whether a step may take more than one micro-batch."""
    all_tokens: int
    """Tokens of all training rows."""
    all_targets: int
    mean_length: float
    epochs: float
    """How often the rows are gone through."""
    judged_tokens: int
    """Of the largest batch that is judged: its tokens, the positions whose logits are made, and the longest row."""
    judged_positions: int
    judged_width: int
    judged_before: int
    """Tokens that are judged before training."""
    judged_later: int
    """Tokens that are judged while training and after it."""
    validated: int
    """Tokens of the validation rows."""
    held_bytes: int
    """What the encoded rows of all splits take."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the fullest moment by what they are for; ``judging`` counts only where it takes more than training.

    ``heap``: holes between tensors on the C library's heap, measured as about half of what lies there. ``mapped``: a file that is read as
    memory (what a frozen part gave for each row); the system can take its pages back.
    """

    process: int
    weights: int
    optimiser: int
    best: int
    gradients: int
    activations: int
    workspace: int
    judging: int
    heap: int
    mapped: int

    @property
    def peak(self) -> int:
        """The most memory at a time."""
        training = self.gradients + self.activations + self.workspace + self.heap
        return self.process + self.weights + self.optimiser + self.best + max(training, self.judging) + self.mapped

    def as_dict(self) -> dict[str, int]:
        """The parts and their peak."""
        return asdict(self) | {"peak": self.peak}


def demand(config: RunConfig, data: Prepared, answer_nodes: int) -> Demand:
    """What the data ask for. ``answer_nodes``: how many tokens the tree of a prompt's candidate answers has (0: they are not written)."""
    given: Sequence[Encoded | Tree] = data.trees.get("train") or data.rows
    unsorted = row_lengths(given)
    order = sorted(range(len(unsorted)), key=lambda i: -unsorted[i])
    lengths = [unsorted[i] for i in order]
    settings, per_epoch = config.train, -(-len(lengths) // config.train.batch_rows)
    first, number = heaviest(lengths, settings.batch_rows, settings.micro_batch_tokens)
    rows = [given[i] for i in order[first : first + number]]  # all of them need not be taken apart
    width, tokens, targets = lengths[first], _shared(rows, lengths[first]), [_targets(row) for row in rows]
    seen = [_targets(given[i]) for i in order[:: -(-len(order) // _SAMPLE)]]
    most = max(targets)
    steps = max(1, round(settings.epochs * per_epoch))
    steps = steps if settings.max_steps is None else min(steps, settings.max_steps)
    scored = data.task is not None and config.method.kind == "head"
    nodes = 0 if scored else answer_nodes
    judged = {split: _judged(data, split, nodes) for split in SPLITS[1:]}
    batches = [_batch(lengths, common, config.evaluate.batch_tokens) for lengths, common in judged.values() if lengths]
    at_once, judged_tokens, judged_width = max(batches, key=lambda batch: batch[1], default=(0, 0, 0))
    sums = {split: sum(lengths) for split, (lengths, _) in judged.items()}
    validations = max(1, round(steps / max(1, settings.validate_every * per_epoch)))
    return Demand(
        rows=number, width=width, tokens=tokens, queries=min(tokens, number * most) if 2 * most <= width else tokens,
        targets=sum(targets), several=sum(lengths[: settings.batch_rows]) > settings.micro_batch_tokens,
        all_tokens=sum(lengths), all_targets=round(sum(seen) / len(seen) * len(lengths)),
        mean_length=sum(lengths) / len(lengths), epochs=steps / per_epoch,
        judged_tokens=judged_tokens, judged_positions=judged_tokens if data.task is None else at_once * (1 + nodes),
        judged_width=judged_width, judged_before=sums["test"] * config.evaluate.before,
        judged_later=sums["test"] + sums["validation"] * validations, validated=sums["validation"],
        held_bytes=(PACKED_BYTES if isinstance(given, EncodedRows) else TOKEN_BYTES) * (2 * sum(lengths) + sum(sums.values())),
    )  # fmt: skip


def _targets(row: Encoded | Tree) -> int:
    return row.num_targets if isinstance(row, Encoded) else sum(branch.num_targets for branch in row.branches)


def _judged(data: Prepared, split: SplitName, nodes: int) -> tuple[list[int], int]:
    """Lengths of the rows of a split that are judged, longest first, and how much all of them begin with in common."""
    if data.task is not None:
        rows = [prompt.ids for prompt in data.prompts.get(split, [])]
        return sorted((len(ids) + nodes for ids in rows), reverse=True), _common(rows)
    passages = data.passages.get(split, [])
    if isinstance(passages, Passages):
        return sorted(passage_lengths(passages), reverse=True), 0
    return sorted((len(block.tokens) for passage in passages for block in passage.blocks), reverse=True), 0


def _batch(lengths: list[int], common: int, most_tokens: int) -> tuple[int, int, int]:
    """Rows, tokens (what is common once) and longest row of the largest batch that is judged."""
    rest = [length - common for length in lengths]
    first, number = heaviest(rest, len(rest), max(1, most_tokens - common))
    return number, common + number * rest[first], lengths[first]


def _common(rows: Sequence[tuple[int, ...]]) -> int:
    """Number of tokens that all rows begin with, not the whole of any."""
    low, high = min(rows, default=()), max(rows, default=())
    differ = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return max(0, min(differ, min(map(len, rows), default=0) - 1))


def _shared(batch: Sequence[Encoded | Tree], width: int) -> int:
    """Tokens of a micro-batch where what all rows begin with stands once (data/layout.py; smaller groups are left out of account)."""
    rows = [row for row in batch if isinstance(row, Encoded)]  # in a tree the prompt stands once already
    before = min((next((i for i, learned in enumerate(row.trained) if learned and i), len(row.tokens)) - 1 for row in rows), default=0)
    common = min(before, _common([row.tokens for row in rows]))
    shared = common + len(batch) * (width - common)
    return shared if shared < 0.9 * len(batch) * width else len(batch) * width


def memory(structure: Structure, method: Method, needs: Demand, machine: Machine, num_labels: int | None, process: int) -> Memory:
    """The estimate for one method. ``num_labels``: under a `score` head of so many labels; ``process``: bytes of the process without the
    model."""
    b, trained = machine.itemsize, structure.trained_elements(method, num_labels)
    masters = 4 * trained if b < 4 else 0
    gradients = 4 * trained if needs.several else 0
    kept = _kept(structure, method, needs, b, machine.device)
    scores = _scores(structure, needs.tokens, needs.width, machine, 8 + 3 * b)
    head = _head_learns(method, num_labels)
    logits = _logits(needs.targets, structure.vocabulary, machine) if num_labels is None else 0
    loss = logits + ((4 + b) * structure.output_elements if head else 0)
    learns_trunk = _learning_blocks(structure, method) > 0
    block = needs.tokens * b * (3 * structure.inner + 2 * structure.hidden) if learns_trunk else _widest(structure, needs.tokens, b)
    at_end = (0 if b == 4 and needs.several else b * trained) + (b * structure.output_elements if head and structure.tied else 0)
    kept += b * structure.output_elements if head else 0
    training = max(kept + max(block, loss), at_end) + scores
    return Memory(
        process=process + (KERNEL_BYTES if machine.device == "cpu" and b == 2 else 0),
        weights=b * structure.all_elements(method, num_labels),
        optimiser=masters + 8 * trained,
        best=b * trained,
        gradients=gradients,
        activations=min(kept, training),
        workspace=max(0, training - kept),
        judging=_judging(structure, needs, machine, num_labels),
        heap=training // 2 if machine.device == "cpu" else 0,
        mapped=_mapped(structure, method, needs, b),
    )


def _mapped(structure: Structure, method: Method, needs: Demand, b: int) -> int:
    """What model/frozen.py keeps: below trained last blocks every token's state, else those that are asked for."""
    if not isinstance(method, HeadMethod) or needs.epochs <= 1:
        return 0
    return b * structure.hidden * (needs.all_tokens + needs.validated if method.last_blocks else needs.all_targets)


def _logits(positions: int, vocabulary: int, machine: Machine) -> int:
    """Bytes of one chunk of logits: in working precision, and in float32 twice, on a CPU piece by piece."""
    chunk = min(positions, max(CHUNK_ROWS, CHUNK_ELEMENTS // vocabulary)) * vocabulary
    return machine.itemsize * chunk + 8 * (min(chunk, CACHED_ELEMENTS) if machine.device == "cpu" else chunk)


def _head_learns(method: Method, num_labels: int | None) -> bool:
    """Whether the matrix that makes logits gets a gradient."""
    return num_labels is None and not isinstance(method, LoraMethod)


def _learning_blocks(structure: Structure, method: Method) -> int:
    """Blocks, counted from the last, that a gradient passes."""
    return method.last_blocks if isinstance(method, HeadMethod) else structure.blocks


def _kept(structure: Structure, method: Method, needs: Demand, b: int, device: str) -> int:
    """What all blocks keep for the backward pass."""
    learning = _learning_blocks(structure, method)
    if not learning:
        return 0
    queries = needs.queries if structure.by_block else needs.tokens
    whole = _kept_by_block(structure, method, needs, needs.tokens, b, device)
    return (learning - 1) * whole + _kept_by_block(structure, method, needs, queries, b, device)


def _kept_by_block(structure: Structure, method: Method, needs: Demand, queries: int, b: int, device: str) -> int:
    s, tokens = structure, needs.tokens
    lora = isinstance(method, LoraMethod)
    adapted = [entry for entry in s.linears if lora and (method.targets is None or entry[0] in method.targets)]  # type: ignore[union-attr]
    names = {name for name, _, _ in adapted}
    full = not lora
    norm = 4 * s.hidden + (b * s.hidden if full else 0)
    first = norm + (b * s.hidden if full or names & {"q_proj", "k_proj", "v_proj"} else 0)
    second = norm + (b * s.hidden if full or names & {"gate_proj", "up_proj"} else 0)
    wide, narrow = s.heads * s.head_size, s.pairs * s.head_size
    shared = tokens < needs.rows * needs.width
    keys = needs.rows * needs.width if shared else tokens
    plain = device == "cpu" and s.by_block
    attention = b * (2 * queries * wide + 2 * keys * narrow)
    if not plain:
        attention += 4 * queries * s.heads + (b * queries * needs.width if shared else 0)  # the mask, in working precision
    elif needs.width <= SHORT_KEYS:
        attention += b * queries * s.heads * needs.width
    if s.head_norms:
        attention += (4 + (b if full else 0)) * (queries * wide + tokens * narrow)
    mlp = b * queries * s.inner * (4 if full or "down_proj" in names else 3)
    rank = b * method.rank * queries * len(adapted) // s.blocks if isinstance(method, LoraMethod) else 0
    dropped = (b + 1) * queries * sum(a for _, a, _ in adapted) // s.blocks if isinstance(method, LoraMethod) and method.dropout else 0
    return first * tokens + second * queries + attention + mlp + rank + dropped


def _scores(s: Structure, tokens: int, width: int, machine: Machine, each: int) -> int:
    """What attention over rows of this width has of its scores at a time, so many bytes each: room that is never given back."""
    if machine.device != "cpu" or not s.by_block:
        return 0
    return each * s.heads * min(tokens * width, max(CACHED_SCORES * machine.cores // s.heads, 16 * width))


def _widest(s: Structure, tokens: int, b: int) -> int:
    """The widest moment of a block's forward pass: in attention or the MLP."""
    attention = b * tokens * (2 * s.hidden + 3 * s.heads * s.head_size + 2 * s.pairs * s.head_size)
    return max(attention, tokens * (3 * b * s.inner + 3 * b * s.hidden), tokens * s.hidden * (8 + 3 * b))


def _judging(structure: Structure, needs: Demand, machine: Machine, num_labels: int | None) -> int:
    """The widest moment of a batch that is judged."""
    s, tokens, b = structure, needs.judged_tokens, machine.itemsize
    scores = _scores(s, tokens, needs.judged_width, machine, 8 + b)
    trunk = _widest(s, tokens, b) + scores
    if num_labels is not None:
        return trunk
    logits = _logits(needs.judged_positions, s.vocabulary, machine)
    return max(trunk, logits + b * tokens * s.hidden + scores)


def process_bytes(needs: Demand) -> int:
    """What the process takes without the model, where it cannot be measured yet."""
    return PROCESS_BYTES + needs.held_bytes


def operations(structure: Structure, method: Method, needs: Demand, num_labels: int | None) -> tuple[float, float]:
    """Floating-point operations of the training and of one token that is judged (cost.py has the formulas)."""
    wide = structure.heads * structure.head_size
    forward = 2.0 * sum(a * b for _, a, b in structure.linears) + 2.0 * structure.blocks * wide * needs.mean_length
    if isinstance(method, HeadMethod):  # the frozen part runs once
        passes = min(1.0, needs.epochs) + 3 * needs.epochs * method.last_blocks / structure.blocks
    else:
        passes = needs.epochs * (2 if isinstance(method, LoraMethod) else 3)
    outputs = structure.vocabulary if num_labels is None else num_labels
    head = 6.0 * outputs * structure.hidden
    return passes * forward * needs.all_tokens + needs.epochs * head * needs.all_targets, forward
