# `make repro` rebuilds everything that is outdated, `make test` runs the tests, `make help` lists the rest. A target builds
# the part of the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
DRIVE := $(VENV)/.ready-drive
DEMO := $(VENV)/.ready-demo
RAY := $(VENV)/.ready-ray
SERVE := $(VENV)/.ready-serve
LOAD := $(VENV)/.ready-load
DEV := $(VENV)/.ready-dev
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help env drive demo serve ray load repro quick test test-fast coverage finbert embedded distilbert-agnews results plots lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

repro: $(READY)  ## run the outdated stages
	dvc repro
	python -m fincompress results

quick: $(READY)  ## run the whole pipeline on a sample, in minutes, in the folder quick/
	python -m fincompress quick

# The home case; SET='-S key=value …' adds to it, such as the paths of local files. `make embedded` goes back.
finbert: $(READY)  ## FinBERT on Financial PhraseBank and FiQA-2018, downloaded
	dvc exp run -S prepare.source=financial -S teacher.checkpoint=ProsusAI/finbert \
		-S teacher.learning_rate=2e-5 -S student.init=minilm $(SET)
	python -m fincompress results

embedded: $(READY)  ## back to MiniLM on the embedded corpus
	dvc exp run -S prepare.source=embedded -S teacher.checkpoint=minilm \
		-S teacher.learning_rate=8e-5 -S student.init=teacher $(SET)

# The second recipe with what its name says; UNTIL=:baseline stops there, and SET adds as above (P is its params.yaml).
P := recipes/distilbert-agnews/params.yaml
distilbert-agnews: $(READY)  ## DistilBERT on AG News, downloaded
	dvc exp run recipes/distilbert-agnews/dvc.yaml$(UNTIL) -S $(P):prepare.path=null \
		-S $(P):baseline.checkpoint=distilbert/distilbert-base-uncased -S $(P):baseline.learning_rate=5e-5 $(SET)

results: $(READY)  ## bring the tables in README.md, docs/ and the recipe up to date with metrics/
	python -m fincompress results --write README.md
	python -m fincompress results --write docs/results.md
	cd recipes/distilbert-agnews && PYTHONPATH=../.. python -m fincompress results --write README.md

plots: $(READY)  ## one page with all plots, dvc_plots/index.html
	dvc plots show

demo: $(DEMO)  ## the teacher against its students, in the browser
	python -m fincompress demo

test: $(DEV)  ## all tests
	python -m pytest -n 2 --dist loadgroup

# Apart from `test`: tracing what every process imports makes the suite half as long again.
coverage: $(DEV)  ## all tests, and how much of the code they run
	python -m coverage erase
	python -m coverage run -m pytest -n 2 --dist loadgroup
	python -m coverage combine --quiet
	python -m coverage report

test-fast: $(DEV)  ## the tests that run no pipeline
	python -m pytest -n 2 --dist loadgroup -m "not e2e"

lint: $(DEV)  ## style, format and types
	ruff check .
	ruff format --check .
	python -m mypy

env: $(READY)  ## build the pipeline's environment only

drive: $(DRIVE)  ## install what a remote on Google Drive needs

ray: $(RAY)  ## install what `--engine ray` needs, of `fincompress predict` and `fincompress serve`

serve: $(SERVE)  ## install what `fincompress serve` needs

load: $(LOAD)  ## how much the server takes: ten minutes of too much load, on an idle machine
	python -m studies.load --write docs/results/load.md

clean:  ## remove the environment and what can be made again, but no data and no models
	rm -rf $(VENV) .scratch dvc_plots quick build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache

# On Linux the plain torch wheel brings gigabytes of CUDA. Without an NVIDIA GPU ask for the CPU build by its full
# version first, and take the plain one only where the package index has no other.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FinCompress needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	torch=$$(sed -n 's/^torch==//p' requirements.txt); \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		pip install --quiet "torch==$$torch+cpu" || pip install --quiet "torch==$$torch"; \
	else \
		pip install --quiet "torch==$$torch"; \
	fi
	pip install --quiet -r requirements.txt
	pip install --quiet --no-deps --editable .
	python -m fincompress.report.vega_page
	touch $@

# What is added later must leave the pipeline's packages at their versions.
$(RAY) $(LOAD): $(SERVE)
$(DRIVE) $(DEMO) $(SERVE) $(RAY) $(LOAD): $(VENV)/.ready-%: requirements-%.txt $(READY)
	pip install --quiet -r requirements-$*.txt -c requirements.txt
	touch $@

# The tests cover the extras too, and types are checked against all that is imported.
$(DEV): requirements-dev.txt $(DRIVE) $(DEMO) $(RAY) $(LOAD)
	pip install --quiet -r requirements-dev.txt -c requirements.txt
	touch $@
