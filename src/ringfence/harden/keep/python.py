"""Python modules that kept modules import, found by reading the import statements (ast).

The module path is taken from what was observed: the standard library is where `encodings` lies,
and site-packages (or dist-packages) are the folders of that name. Installed distributions are
kept whole, since they load their parts by name. Of the standard library what its modules import
is kept, too, without the parts for people at a screen that it imports inside functions. Modules
and files that a source names in its texts count as well.
"""

from __future__ import annotations

import ast
import re
import warnings

from ringfence.harden.keep.configuration import keep_path
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.texts import keep_content, keep_texts

_SITE = re.compile(r"(.*/(?:site|dist)-packages)/([^/]+)")
MOST_SOURCE = 4 << 20
TOOLS = ("pip", "setuptools", "pkg_resources", "wheel", "_distutils_hack")
"""Package managers and their parts: kept only where the service was seen to load them."""
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3")
"""Parts of the standard library for people at a screen, or for its own tests."""
SCREEN = ("bdb", "cmd", "code", "codeop", "curses", "doctest", "pdb", "pydoc", "rlcompleter",
          "unittest", "webbrowser")  # fmt: skip
"""The same, where a function of the standard library imports them: another may need them."""
COMPUTED = {
    "sysconfig.py": ("{library}/_sysconfigdata_*.py",),
    "zoneinfo/__init__.py": ("usr/share/zoneinfo",),
}
"""What modules of the standard library look for by a name that they put together."""
_PROGRAM = re.compile(r"(?:^|/)s?bin/[^/]+\Z")
IN_MEMORY = {
    "tempfile": "tmp",
    "multiprocessing": "dev/shm",
    "concurrent.futures.ProcessPoolExecutor": "dev/shm",
}
"""Modules of the standard library -> the folder that they write."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def keep_modules(kept: Kept) -> list[str]:
    """What the kept Python modules import, in turn; the new files."""
    finder = _Finder(kept)
    if not finder.library:
        return []
    added = finder.whole_distributions()
    added += kept.add_below(f"{finder.library}/encodings", "codecs are looked up by their name")
    waiting = [path for path in kept.files() if path.endswith(".py")]
    while waiting:
        path = waiting.pop()
        if path in kept.parsed:
            continue
        kept.parsed.add(path)
        source = finder.parsed(path)
        more = keep_texts(kept, path, _texts(source), own=finder.is_own(path))
        names = finder.imports(path, source)
        if finder.is_own(path) and not _PROGRAM.search(path):
            _note_memory(kept, path, names)
        for name in names:
            for file in finder.fresh_files_of(name, path):
                new = kept.add(file, f"imported by {path} (import {name})")
                more += [new] if new is not None else []
        added += more
        waiting += [new for new in more if new.endswith(".py")]
    own = [path for path in kept.files() if path.endswith(".py") and finder.is_own(path)]
    return added + keep_content(kept, own) + finder.computed() + finder.compiled()


def _note_memory(kept: Kept, path: str, names: list[str]) -> None:
    """What the modules that a script of the service's own imports write, when they are used."""
    for module, folder in IN_MEMORY.items():
        if any(name == module or name.startswith(f"{module}.") for name in names):
            kept.memory.setdefault(folder, f"/{path} imports {module}")


class _Finder:
    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        files = kept.files()
        self.library = next(
            (path.rpartition("/encodings/")[0] for path in files if "/encodings/__init__." in path
             and "__pycache__" not in path), ""
        )  # fmt: skip
        sites = dict.fromkeys(match[1] for path in files if (match := _SITE.match(path)))
        own = dict.fromkeys(
            path.rpartition("/")[0] for path in files
            if path.endswith(".py") and not path.startswith(f"{self.library}/")
            and not _SITE.match(path)
        )  # fmt: skip
        self.folders = [*sites, *own, self.library, f"{self.library}/lib-dynload"]
        self.sites = tuple(sites)
        self.asked: set[tuple[str, str]] = set()
        self.whole: set[str] = set()

    def whole_distributions(self) -> list[str]:
        """Every top-level package of site-packages of which some file is kept."""
        tops = dict.fromkeys(match[0] for path in self.kept.files() if (match := _SITE.match(path)))
        added = []
        for top in tops:
            if self.kept.tree.is_folder(top) and top.rpartition("/")[2] not in TOOLS:
                added += self.kept.add_below(top, "the distribution is kept whole")
        return added

    def of_library(self, path: str) -> bool:
        """Whether a file is of the standard library."""
        return path.startswith(f"{self.library}/") and not path.startswith(self.sites)

    def is_own(self, path: str) -> bool:
        """Whether a file is the service's own: neither the library's nor a distribution's."""
        return not path.startswith(f"{self.library}/") and not _SITE.match(path)

    def parsed(self, path: str) -> ast.Module:
        """A source file's tree; an empty one for what Python would not read."""
        source = self.kept.tree.read(path, MOST_SOURCE)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other people's invalid escapes
                return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return ast.Module([], [])

    def imports(self, path: str, tree: ast.Module) -> list[str]:
        """Absolute names of modules that a source file imports, or names in a text."""
        within = self._imported(path, list(ast.walk(tree)))
        named = [text for text in _texts(tree) if _DOTTED.fullmatch(text)]
        if not self.of_library(path):
            return list(dict.fromkeys([*within, *named]))
        package = path[len(self.library) + 1 :].partition("/")[0]
        beside = [name for name in named if name.startswith(f"{package}.")]
        at_top = self._imported(path, _top(tree))
        wanted = [name for name in [*within, *beside] if name.partition(".")[0] not in SCREEN]
        found = dict.fromkeys([*at_top, *wanted])
        return [name for name in found if name.partition(".")[0] not in LEFT_OUT]

    def _imported(self, path: str, nodes: list[ast.AST]) -> list[str]:
        found: list[str] = []
        for node in nodes:
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(path, node)
                found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        return [name for name in found if name]

    def _base(self, path: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        folder = next((part for part in self.folders if path.startswith(f"{part}/")), "")
        parts = path[len(folder) + 1 :].split("/")[: -node.level]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def fresh_files_of(self, name: str, importer: str) -> list[str]:
        """Files of a module that was not asked for before from the same folder."""
        beside = importer.rpartition("/")[0]
        if (beside, name) in self.asked or name.partition(".")[0] in TOOLS:
            return []
        self.asked.add((beside, name))
        return self._files_of(name, beside)

    def _files_of(self, name: str, beside: str) -> list[str]:
        """Files of a module and of the packages that hold it."""
        parts = name.split(".")
        for folder in dict.fromkeys((beside, *self.folders)):
            found: list[str] = []
            place = folder
            for part in parts:
                here = self._module(place, part)
                found += here
                place = f"{place}/{part}"
                if not here:
                    break
            if found:
                top = f"{folder}/{parts[0]}"
                if folder in self.sites and top not in self.whole:
                    self.whole.add(top)
                    found += list(self.kept.tree.below(top))
                return found
        return []

    def _module(self, folder: str, name: str) -> list[str]:
        tree = self.kept.tree
        if tree.is_file(f"{folder}/{name}/__init__.py"):
            return [f"{folder}/{name}/__init__.py"]
        if tree.is_file(f"{folder}/{name}.py"):
            return [f"{folder}/{name}.py"]
        return [
            f"{folder}/{file}"
            for file in tree.names(folder)
            if file.startswith(f"{name}.") and file.endswith(".so")
        ]

    def computed(self) -> list[str]:
        """What kept modules find by names that are not in their texts."""
        added: list[str] = []
        for module, patterns in COMPUTED.items():
            if f"{self.library}/{module}" not in self.kept.reasons:
                continue
            for pattern in patterns:
                for path in self.kept.tree.matching(pattern.format(library=self.library)):
                    added += keep_path(self.kept, path, f"looked for by {module}")
        return added

    def compiled(self) -> list[str]:
        """Byte code of kept sources, where the tree has it: a read-only root cannot write it."""
        added = []
        for path in self.kept.files():
            folder, _, name = path.rpartition("/")
            if not name.endswith(".py"):
                continue
            for file in self.kept.tree.names(f"{folder}/__pycache__"):
                if file.startswith(f"{name[:-3]}.") and file.endswith(".pyc"):
                    new = self.kept.add(f"{folder}/__pycache__/{file}", f"byte code of {path}")
                    added += [new] if new is not None else []
        return added


def _texts(tree: ast.Module) -> list[str]:
    """The strings of a source."""
    return [
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]  # fmt: skip


def _top(tree: ast.Module) -> list[ast.AST]:
    """Statements outside functions: what runs when the module is loaded."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found
