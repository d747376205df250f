"""What no module may do, found in its syntax tree: run what it is sent, or listen to the world by default."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("embodied", "envs", "policies", "scripts", "world_models")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "msgpack_numpy", "pickle", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
LOADS_ARRAYS = {"np.load", "numpy.load"}
EVERYWHERE = {"0.0.0.0", "::"}


def forbidden(source: str) -> list[str]:
    """`line: what` for every forbidden thing in a module."""
    tree = ast.parse(source)
    return [f"{line}: {what}" for node in ast.walk(tree) for line, what in _found(node)]


def _found(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import(names=names):
            yield from ((node.lineno, f"import {a.name}") for a in names if a.name.split(".")[0] in MODULES)
        case ast.ImportFrom(module=str(module), names=names):
            if module.split(".")[0] in MODULES:
                yield node.lineno, f"from {module} import"
            for alias in names:
                if f"{module}.{alias.name}" in LOADERS:
                    yield node.lineno, f"from {module} import {alias.name}"
        case ast.Call():
            yield from _found_in_call(node)
        case ast.Constant(value=str(text)) if text in EVERYWHERE:
            yield node.lineno, f"{text!r}"


def _found_in_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    called = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in BUILTINS or called in {f"builtins.{name}" for name in BUILTINS}:
        yield node.lineno, f"{called}()"
    if called in LOADERS:
        yield node.lineno, f"{called}()"
    if keywords.get("trust_remote_code", "False") != "False":
        yield node.lineno, "trust_remote_code"
    if called in LOADS_ARRAYS and keywords.get("allow_pickle", "False") != "False":
        yield node.lineno, "allow_pickle"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_forbidden(path: Path) -> None:
    assert forbidden(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, pickle as harmless",
        "def f():\n    from pickle import loads",
        "from torch import load",
        "import torch\ntorch.load('x', weights_only=True)",
        "eval('1')",
        "import builtins\nbuiltins.eval('1')",
        "exec('x = 1')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=trusted)",
        "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "def serve(host='0.0.0.0'): ...",
        "HOST: str = '::'",
    ],
)
def test_it_finds_what_is_forbidden(source: str) -> None:
    assert len(forbidden(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Never pickle, torch.load, eval() or 0.0.0.0 in here."""',
        "policy.eval()",
        "re.compile('x')",
        "model.load('x')",
        "AutoModel.from_pretrained('x', trust_remote_code=False)",
        "host = '127.0.0.1'",
    ],
)
def test_it_lets_pass_what_only_sounds_alike(source: str) -> None:
    assert forbidden(source) == []
