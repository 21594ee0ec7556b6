"""How much memory a run will take at its fullest and how many operations, before anything is loaded: arithmetic over the model's structure
and the lengths of the encoded rows. Nothing here imports torch.

    peak = process + weights + optimiser + best copy + max(training, judging)
    training = max(gradients carried + kept for the backward pass + workspace, all gradients)

Kept of one block for T tokens, Q of them queries (the last block computes only those asked for); h hidden size, n heads of size d, g heads
of keys and values, m width of the MLP, b bytes of a number in working precision; [·] where the layer's weights or adapters learn:
    norms      T (4h + [bh] + [bh]) + Q (4h + [bh] + [bh])                   the input in float32, its normalised form, the output
    attention  b (2 Q n d + 2 T g d) + b Q n K (short rows) or 4 Q n         queries, result, keys, values, shares of K keys
    MLP        b Q m (3 + [1])                                               gate, its activation, up, their product
    adapters   b r for each adapted layer and token
Workspace: the widest moment of one block's backward pass, and the loss, whose logits are made in chunks.
"""

from dataclasses import asdict, dataclass

from weitiao.config import RunConfig
from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.data.portions import heaviest
from weitiao.machine import Machine
from weitiao.model.structure import Structure
from weitiao.prepare import Prepared
from weitiao.records import SPLITS, Encoded, SplitName

Method = FullMethod | HeadMethod | LoraMethod
PROCESS_BYTES = 560_000_000
"""Python with torch, transformers, peft, scikit-learn and scipy loaded (Linux, CPU build: measured, docs/en/estimate.md)."""
KERNEL_BYTES = 100_000_000
"""What oneDNN keeps of its compiled kernels (bfloat16 on a CPU)."""
TOKEN_BYTES = 60
"""A token of an encoded row in Python's memory: its number and whether it is trained."""
CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 23, 256
"""Logits at a time, as in model/logprobs.py."""
SHORT_KEYS = 256
"""Rows up to this length have plain products for attention on a CPU, as in model/states.py."""


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
    judged_rows: int
    """Of the largest batch that is judged: its rows, tokens and positions whose logits are made."""
    judged_tokens: int
    judged_positions: int
    judged_width: int
    judged_before: int
    """Tokens that are judged before training."""
    judged_later: int
    """Tokens that are judged while training and after it."""
    held_tokens: int
    """Tokens that are held in memory for all splits."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the fullest moment by what they are for; ``judging`` counts only where it takes more than training."""

    process: int
    weights: int
    optimiser: int
    best: int
    gradients: int
    activations: int
    workspace: int
    judging: int

    @property
    def peak(self) -> int:
        """The most memory at a time."""
        training = self.gradients + self.activations + self.workspace
        return self.process + self.weights + self.optimiser + self.best + max(training, self.judging)

    def as_dict(self) -> dict[str, int]:
        """The parts and their peak."""
        return asdict(self) | {"peak": self.peak}


def demand(config: RunConfig, data: Prepared, answer_nodes: int) -> Demand:
    """What the data ask for. ``answer_nodes``: how many tokens the tree of a prompt's candidate answers has (0: they are not written)."""
    rows = sorted(data.rows, key=lambda row: -len(row.tokens))
    lengths = [len(row.tokens) for row in rows]
    settings = config.train
    first, number = heaviest(lengths, settings.batch_rows, settings.micro_batch_tokens)
    batch, width = rows[first : first + number], lengths[first]
    tokens = _shared(batch, width)
    most = max(row.num_targets for row in batch)
    per_epoch = -(-len(rows) // settings.batch_rows)
    steps = max(1, round(settings.epochs * per_epoch))
    steps = steps if settings.max_steps is None else min(steps, settings.max_steps)
    judged = {split: _judged_lengths(data, split, answer_nodes) for split in SPLITS[1:]}
    lists = [sorted(found, reverse=True) for found in judged.values() if found] or [[1]]
    at_once = [heaviest(found, len(found), config.evaluate.batch_tokens) for found in lists]
    largest = max(range(len(lists)), key=lambda i: at_once[i][1] * lists[i][at_once[i][0]])
    judged_rows, judged_width = at_once[largest][1], lists[largest][at_once[largest][0]]
    if data.task is None:
        positions = judged_rows * judged_width
    else:
        positions = judged_rows * (1 + answer_nodes) if config.method.kind != "head" else judged_rows
    validations = max(1, round(steps / max(1, settings.validate_every * per_epoch)))
    return Demand(
        number, width, tokens, min(tokens, number * most) if 2 * most <= width else tokens, sum(row.num_targets for row in batch),
        sum(lengths[: settings.batch_rows]) > settings.micro_batch_tokens, sum(lengths), sum(row.num_targets for row in rows),
        sum(lengths) / len(rows), steps / per_epoch,
        judged_rows, judged_rows * judged_width, positions, judged_width,
        sum(judged["test"]) * config.evaluate.before, sum(judged["test"]) + sum(judged["validation"]) * validations,
        sum(lengths) * 2 + sum(map(sum, judged.values())),
    )  # fmt: skip


def _judged_lengths(data: Prepared, split: SplitName, answer_nodes: int) -> list[int]:
    if data.task is not None:
        return [len(prompt.ids) + answer_nodes for prompt in data.prompts.get(split, [])]
    return [len(block.tokens) for passage in data.passages.get(split, []) for block in passage.blocks]


def _shared(batch: list[Encoded], width: int) -> int:
    """Tokens of a micro-batch where what all rows begin with stands once (data/layout.py; smaller groups are left out of account)."""
    low, high = min(row.tokens for row in batch), max(row.tokens for row in batch)
    common = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    before = min(next((i for i, learned in enumerate(row.trained) if learned and i), len(row.tokens)) - 1 for row in batch)
    common = max(0, min(common, before))
    shared = common + len(batch) * (width - common)
    return shared if shared < 0.9 * len(batch) * width else len(batch) * width


def memory(structure: Structure, method: Method, needs: Demand, machine: Machine, num_labels: int | None, process: int) -> Memory:
    """The estimate for one method. ``num_labels``: under a `score` head of so many labels; ``process``: bytes of the process without the
    model."""
    b, trained = machine.itemsize, structure.trained_elements(method, num_labels)
    masters = 4 * trained if b < 4 else 0
    gradients = 4 * trained if needs.several else 0
    kept = _kept(structure, method, needs, b, machine.device)
    head = _head_learns(method, num_labels)
    logits = _logits(needs.targets, structure.vocabulary, b, 12) if num_labels is None else 0
    loss = logits + ((4 + b) * structure.output_elements if head else 0)
    learns_trunk = _learning_blocks(structure, method) > 0
    block = needs.tokens * b * (3 * structure.inner + 2 * structure.hidden) if learns_trunk else _forward(structure, needs, b)
    at_end = (0 if b == 4 and needs.several else b * trained) + (b * structure.output_elements if head and structure.tied else 0)
    kept += b * structure.output_elements if head else 0
    training = max(kept + max(block, loss), at_end)
    return Memory(
        process=process + (KERNEL_BYTES if machine.device == "cpu" and b == 2 else 0),
        weights=b * structure.all_elements(method, num_labels),
        optimiser=masters + 8 * trained,
        best=b * trained,
        gradients=gradients,
        activations=min(kept, training),
        workspace=max(0, training - kept),
        judging=_judging(structure, needs, b, num_labels),
    )


def _logits(positions: int, vocabulary: int, b: int, several: int) -> int:
    """Bytes of one chunk of logits: in float32, once more inside logsumexp, and, where another chunk comes after it (``several`` bytes
    each), in working precision."""
    chunk = min(positions, max(CHUNK_ROWS, CHUNK_ELEMENTS // vocabulary))
    return chunk * vocabulary * (max(8, 4 + b) if chunk == positions else several)


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
    short = device == "cpu" and s.by_block and needs.width <= SHORT_KEYS
    attention = b * (2 * queries * wide + 2 * keys * narrow) + (b * queries * s.heads * needs.width if short else 4 * queries * s.heads)
    if shared and not short:
        attention += b * queries * needs.width  # the mask, in working precision
    if s.head_norms:
        attention += (4 + (b if full else 0)) * (queries * wide + tokens * narrow)
    mlp = b * queries * s.inner * (4 if full or "down_proj" in names else 3)
    rank = b * method.rank * queries * len(adapted) // s.blocks if isinstance(method, LoraMethod) else 0
    dropped = (b + 1) * queries * sum(a for _, a, _ in adapted) // s.blocks if isinstance(method, LoraMethod) and method.dropout else 0
    return first * tokens + second * queries + attention + mlp + rank + dropped


def _forward(structure: Structure, needs: Demand, b: int) -> int:
    """Workspace of a block whose forward pass alone runs."""
    return _widest(structure, needs.tokens, needs.width, b)


def _widest(s: Structure, tokens: int, width: int, b: int) -> int:
    """The widest moment of a block's forward pass: in the MLP, or the scores of attention over short rows."""
    scores = tokens * s.heads * width * (8 + b) if s.by_block and width <= SHORT_KEYS else 0
    attention = scores + b * tokens * (2 * s.hidden + 3 * s.heads * s.head_size + 2 * s.pairs * s.head_size)
    return max(attention, tokens * (3 * b * s.inner + 3 * b * s.hidden), tokens * s.hidden * (8 + 3 * b))


def _judging(structure: Structure, needs: Demand, b: int, num_labels: int | None) -> int:
    """The widest moment of a batch that is judged."""
    s, tokens = structure, needs.judged_tokens
    trunk = _widest(s, tokens, needs.judged_width, b)
    if num_labels is not None:
        return trunk
    logits = _logits(needs.judged_positions, s.vocabulary, b, 8 + b)
    cache = 2 * b * tokens * s.pairs * s.head_size * s.blocks
    return max(trunk + cache, logits + b * tokens * s.hidden + cache)


def process_bytes(needs: Demand) -> int:
    """What the process takes without the model, where it cannot be measured yet."""
    return PROCESS_BYTES + TOKEN_BYTES * needs.held_tokens


def operations(structure: Structure, method: Method, needs: Demand, num_labels: int | None) -> tuple[float, float]:
    """Floating-point operations of the training and of one token that is judged (cost.py has the formulas)."""
    wide = structure.heads * structure.head_size
    forward = 2.0 * sum(a * b for _, a, b in structure.linears) + 2.0 * structure.blocks * wide * needs.mean_length
    factor = 2.0 if isinstance(method, LoraMethod) else 1 + 2 * _learning_blocks(structure, method) / structure.blocks
    outputs = structure.vocabulary if num_labels is None else num_labels
    head = 6.0 * outputs * structure.hidden
    return needs.epochs * (forward * factor * needs.all_tokens + head * needs.all_targets), forward
