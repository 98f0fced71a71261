"""The import graph of src/andon, read from the source with `ast`; nothing is imported.

Counted: every import statement, also inside functions, and `import_module`/`__import__` of a
literal name. Not counted: what stands under `if TYPE_CHECKING:`, which never runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True, order=True)
class Import:
    """`where` (a dotted module name) imports `what`, at this line."""

    where: str
    what: str
    line: int

    def __str__(self) -> str:
        return f"{self.where}:{self.line} imports {self.what}"


def modules(top: Path = SOURCE) -> dict[str, Path]:
    """Every module below `top`: dotted name and file."""
    found = {}
    for path in sorted(top.rglob("*.py")):
        parts = list(path.relative_to(top).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    # A folder that has no __init__.py (yet) is a package all the same.
    for name in list(found):
        while "." in name:
            name = name.rpartition(".")[0]
            found.setdefault(name, top.joinpath(*name.split("."), "__init__.py"))
    return found


def imports(top: Path = SOURCE) -> list[Import]:
    """Every import in every module below `top`; `from package import module` names the module."""
    known = modules(top)
    found = []
    for where, path in known.items():
        if path.exists():
            tree = ast.parse(path.read_bytes(), filename=str(path))
            package = where if path.name == "__init__.py" else where.rpartition(".")[0]
            for node in _running(tree):
                for what in _named(node, package, known):
                    found.append(Import(where, what, node.lineno))
    return found


def _running(node: ast.AST) -> Iterator[ast.stmt | ast.expr]:
    """All statements and expressions below that can run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from _running(other)
            continue
        if isinstance(child, ast.stmt | ast.expr):
            yield child
        yield from _running(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _named(node: ast.AST, package: str, known: dict[str, Path]) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module, names, level):
            base = module or ""
            if level:
                above = package.split(".")[: len(package.split(".")) - level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base
        case ast.Call(ast.Name(function) | ast.Attribute(attr=function), [ast.Constant(name), *_]):
            if function in ("import_module", "__import__") and isinstance(name, str):
                yield name


def cycles(arrows: list[Import]) -> list[list[str]]:
    """Sets of modules that import one another, directly or around (Tarjan's components)."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        graph.setdefault(arrow.where, set()).add(arrow.what)
        graph.setdefault(arrow.what, set())
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            at = stack.index(module)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1 or module in graph[module]:
                found.append(sorted(component))

    for module in graph:
        if module not in number:
            visit(module)
    return sorted(found)
