# `make repro` rebuilds everything that is outdated; `make test` runs the tests. Both build the environment first.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: env repro test finbert embedded distilbert-agnews results plots lint clean

repro: $(READY)  ## run the outdated stages
	dvc repro
	python -m fincompress results

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

test: $(READY)  ## run the tests
	python -m pytest -n 2 --dist loadfile

env: $(READY)  ## build the environment only

results: $(READY)  ## bring the tables in README.md, docs/ and the recipe up to date with metrics/
	python -m fincompress results --write README.md
	python -m fincompress results --write docs/results.md
	cd recipes/distilbert-agnews && PYTHONPATH=../.. python -m fincompress results --write README.md

plots: $(READY)  ## one page with all plots, dvc_plots/index.html
	dvc plots show

lint: $(READY)
	ruff check .
	ruff format --check .

clean:
	rm -rf $(VENV) .scratch dvc_plots

# On Linux the plain torch wheel brings gigabytes of CUDA. Without an NVIDIA GPU ask for the CPU build by its full
# version first, and take the plain one only where the package index has no other.
$(READY): requirements.txt requirements-demo.txt requirements-ray.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FinCompress needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	torch=$$(sed -n 's/^torch==//p' requirements.txt); \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		pip install --quiet "torch==$$torch+cpu" || pip install --quiet "torch==$$torch"; \
	else \
		pip install --quiet "torch==$$torch"; \
	fi
	pip install --quiet -r requirements.txt -r requirements-demo.txt -r requirements-ray.txt -r requirements-dev.txt
	pip install --quiet --no-deps --editable .
	python -m fincompress.report.vega_page
	touch $@
