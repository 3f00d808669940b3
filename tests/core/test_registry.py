"""A further network is an entry, a section of params.yaml and a stage; a further runtime is an entry and its module."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, project_files

from fincompress.core.files import read_json, write_json

STAGE = """
  prune70:
    desc: Remove 70 % of the teacher's attention heads
    cmd: python -m stages.prune prune70
    params: [seed, prune70]
    deps:
      - data
      - models/${prune70.source}
      - fincompress/core
      - fincompress/data/prepared.py
      - fincompress/networks
      - fincompress/compress/fisher.py
      - fincompress/compress/importance.py
      - fincompress/compress/pruning.py
      - fincompress/compress/sparsity.py
      - stages/prune.py
    outs: [models/prune70]
    metrics: [metrics/training/prune70.json: {cache: false}]
    plots:
      - plots/pruning/prune70/rounds.csv: {cache: false, x: head_sparsity, y: val_macro_f1_recovered}
      - plots/pruning/prune70/importance.csv: {cache: false, template: scatter, x: head, y: importance}
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """The project's files, committed in a repository of their own."""
    for file in project_files():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tmp_path / file)
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "Start")):
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)
    return tmp_path


def touched(clone: Path) -> set[str]:
    """Files that differ from the commit."""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    return {line[3:] for line in status.stdout.splitlines()}


def python(clone: Path, code: str):
    """What `code` prints as JSON, run on the clone's library."""
    result = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def edit(file: Path, before: str, after: str) -> None:
    """Replace the one place where `before` stands."""
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, before
    file.write_text(text.replace(before, after), encoding="utf-8")


def add_network(clone: Path) -> None:
    registry = next(file for file in (clone / "fincompress/core").glob("*.py") if '"prune50"' in file.read_text())
    entry = 'Network("prune50", PruneParams, _PRUNED, stage="prune"),'
    edit(registry, entry, f"{entry}\n            {entry.replace('50', '70')}")
    params = (clone / "params.yaml").read_text(encoding="utf-8")
    section = re.search(r"^prune50:.*?(?=^\S)", params, re.MULTILINE | re.DOTALL)[0]
    further = section.replace("prune50:", "prune70:").replace("heads_fraction: 0.50", "heads_fraction: 0.70")
    edit(clone / "params.yaml", section, section + further)
    edit(clone / "dvc.yaml", "\n  qat:\n    desc", f"{STAGE}\n  qat:\n    desc")
    edit(
        clone / "dvc.yaml",
        "foreach: [teacher, kd, ikd, prune30, prune50, tiny]",
        "foreach: [teacher, kd, ikd, prune30, prune50, tiny, prune70]",
    )
    kept = ("models/prune70", "models/ptq/prune70_ov_int8", "models/ptq/prune70_ort_int8")
    text = (clone / "dvc.yaml").read_text(encoding="utf-8")
    lines = "".join(f"      - {path}\n" for path in kept)
    (clone / "dvc.yaml").write_text(
        text.replace("      - models/qat\n", f"      - models/qat\n{lines}"), encoding="utf-8"
    )


@pytest.mark.e2e
def test_a_further_network_is_an_entry_a_section_and_a_stage(clone):
    add_network(clone)
    assert touched(clone) == {"fincompress/core/registry.py", "params.yaml", "dvc.yaml"}
    found = python(
        clone,
        """
import json
from pathlib import Path
from fincompress.benchmark.seeds import STAGES
from fincompress.core.params import checked_params, current_pipeline
from fincompress.core.variants import measured_variants, network_of
from fincompress.report.figures.style import colours
from stages.prune import Needs, load_params

names = [variant.name for variant in measured_variants(Path("models"), Path("made"), current_pipeline())]
print(json.dumps({
    "variants": [name for name in names if "70" in name],
    "fraction": load_params(Needs, "prune70").own.heads_fraction,
    "stages": [name for name in STAGES if "70" in name],
    "colours": len({colours(names)[name] for name in names if name == network_of(name)}),
    "networks": len({network_of(name) for name in names}),
    "made_by": current_pipeline().network("prune70").made_by,
}))
""",
    )
    assert found["variants"] == ["prune70", "prune70_ort_int8", "prune70_ov_int8"]
    assert found["fraction"] == 0.7 and found["stages"] == ["prune70", "ptq@prune70"]
    assert found["colours"] == found["networks"], "a colour each"
    assert "attention heads" in found["made_by"]
    declared = ["tests/pipeline/test_project.py", "-q", "-k", "deps or params or registry or runs_the_module"]
    result = subprocess.run([sys.executable, "-m", "pytest", *declared], cwd=clone, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


MIRROR = '''
"""A runtime for tests: the checkpoint's logits, the labels' order turned round."""

import shutil

from fincompress.core.files import atomic_folder
from fincompress.runtimes.pytorch import TorchClassifier


class MirrorClassifier(TorchClassifier):
    """The checkpoint in PyTorch, its outputs in reverse."""

    def logits(self, inputs):
        return super().logits(inputs)[:, ::-1]


def to_mirror(checkpoint, out, params, texts):
    """Write `out` for this runtime."""
    with atomic_folder(out) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        (folder / "mirror.txt").write_text(str(len(texts)))
'''

ENTRY = """        Runtime(
            name="mirror",
            title="Mirror",
            marker="*",
            files=("mirror.txt", *_CHECKPOINT),
            classifier="fincompress.runtimes.mirror:MirrorClassifier",
            key="mirror",
            to_int8="fincompress.runtimes.mirror:to_mirror",
        ),
"""


def test_a_further_runtime_is_an_entry_and_its_module(clone, checkpoint):
    registry = next(
        file for file in (clone / "fincompress/core").glob("*.py") if 'name="onnxruntime"' in file.read_text()
    )
    first = '        Runtime(\n            name="onnxruntime",\n'
    edit(registry, first, ENTRY + first)
    (clone / "fincompress/runtimes/mirror.py").write_text(MIRROR, encoding="utf-8")
    assert touched(clone) == {registry.relative_to(clone).as_posix(), "fincompress/runtimes/mirror.py"}
    shutil.copytree(checkpoint, clone / "models/kd")
    settings = clone / "models/kd/tokenizer_config.json"
    write_json(settings, read_json(settings) | {"model_max_length": 48})
    shutil.copytree(ROOT / "metrics", clone / "measured")
    found = python(
        clone,
        """
import json
from pathlib import Path
from fincompress.core.params import current_pipeline
from fincompress.core.runtimes import RUNTIMES, load_object
from fincompress.core.variants import runtime_of_variant, saved_variants
from fincompress.core.files import read_json
from fincompress.report.tables import default_int8
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.registry import open_classifier, runtime_of
load_object(RUNTIMES["mirror"].to_int8)(Path("models/kd"), Path("models/ptq/kd_mirror_int8"), None, ["one"])
folder = Path("models/ptq/kd_mirror_int8")
logits = [
    predict_logits(open_classifier(path, runtime_of(path), 1), ["Profit rose."]).round(4).tolist()[0]
    for path in (Path("models/kd"), folder)
]
records = {path.stem: read_json(path) for path in Path("measured/variants").glob("*.json")}
for network in ("teacher", "kd"):
    ort = records[f"{network}_ort_int8"]
    records[f"{network}_mirror_int8"] = ort | {"latency_ms": ort["latency_ms"] | {"p50": 0.1}}
print(json.dumps({
    "runtime": runtime_of(folder),
    "logits": logits,
    "kept": [variant.name for variant in saved_variants(Path("models"), current_pipeline()) if variant.network == "kd"],
    "marker": runtime_of_variant("kd_mirror_int8").marker,
    "default": default_int8(records),
}))
""",
    )
    assert found["runtime"] == "mirror" and found["marker"] == "*"
    assert found["logits"][0] == found["logits"][1][::-1]
    assert found["kept"] == ["kd", "kd_mirror_int8", "kd_ort_int8", "kd_ov_int8"]
    assert "Int8 ships in **Mirror** by default" in found["default"] and "for 2 of 2 networks" in found["default"]
