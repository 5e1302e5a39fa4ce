"""Which files are kept: each kind of knowledge, and its opposite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.errors import InputError
from ringfence.harden.keep.application import keep_application
from ringfence.harden.keep.configuration import keep_named, keep_words
from ringfence.harden.keep.everything import keep_everything
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.named import keep_named_by_programs
from ringfence.harden.keep.node import keep_node
from ringfence.harden.keep.observed import keep_observed
from ringfence.harden.keep.python import keep_modules
from ringfence.harden.keep.shell import keep_scripts, with_interpreters
from ringfence.harden.keep.started import scripts_started
from ringfence.harden.keep.texts import keep_content, keep_texts
from ringfence.harden.observe.trace import Trace, Use
from ringfence.harden.packages import Packages
from ringfence.harden.service import Service
from ringfence.harden.tree import Tree
from tests.unit.harden.trees import planted


def others(tree: Tree, *paths: str) -> None:
    """Make paths another user's than the tree's, for whoever asks this tree."""
    plain = tree.status

    def status(path: str) -> os.stat_result | None:
        found = plain(path)
        if found is None or path not in paths:
            return found
        return os.stat_result((*found[:4], found.st_uid + 105, *found[5:10]))

    tree.status = status  # type: ignore[method-assign]


def seen(*paths: str, error: str = "") -> Trace:
    return Trace(uses={Use(path, "openat", error, False): None for path in paths})


def test_links_on_the_way_are_kept_with_the_file(tmp_path: Path) -> None:
    kept = Kept(
        planted(tmp_path, {"usr/lib/a.so.1": ""}, {"lib": "usr/lib", "usr/lib/a.so": "a.so.1"})
    )
    kept.add("/lib/a.so", "needed")
    assert set(kept.reasons) == {"lib", "usr/lib/a.so", "usr/lib/a.so.1"}


def test_shells_stay_out_unless_the_service_ran_them(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"bin/sh*": "", "usr/bin/dpkg*": ""})
    kept = Kept(tree)
    assert kept.add("bin/sh", "named") is None
    kept.tools = frozenset({"bin/sh"})
    assert kept.add("bin/sh", "ran") == "bin/sh"
    assert kept.add("usr/bin/dpkg", "named") is None


def test_what_is_dropped_wins_over_every_reason(tmp_path: Path) -> None:
    kept = Kept(planted(tmp_path, {"srv/a/b": "", "srv/c": ""}))
    kept.dropped = ("srv/a",)
    kept.add_below("srv", "named")
    assert kept.files() == ["srv/c"]


@pytest.mark.parametrize("word", ["/usr/sbin/served", "usr/sbin", "/usr"])
def test_the_service_itself_cannot_be_dropped(tmp_path: Path, word: str) -> None:
    tree = planted(tmp_path, {"usr/sbin/served*": "x", "usr/share/doc/a": ""}, {"sbin": "usr/sbin"})
    service = Service(("/sbin/served",))
    with pytest.raises(InputError, match="is the service's own program") as raised:
        keep_everything(tree, service, Trace(), Packages(tree), dropped=(word,))
    assert "/usr/sbin/served" in raised.value.line()
    kept = keep_everything(tree, service, Trace(), Packages(tree), dropped=("/usr/share",))
    assert "usr/sbin/served" in kept.reasons


def test_a_failed_open_keeps_nothing(tmp_path: Path) -> None:
    kept = Kept(planted(tmp_path, {"etc/a": "", "etc/b": ""}))
    keep_observed(kept, seen("/etc/a"))
    keep_observed(kept, seen("/etc/b", error="EACCES"))
    assert kept.files() == ["etc/a"]


def test_live_configuration_pulls_in_what_it_names_and_other_does_not(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "etc/web/web.conf": "root /srv/site;\ninclude extra/*.conf; # /srv/comment\n# /srv/no;",
            "etc/web/extra/a.conf": "load modules/a.so",
            "etc/web/available/b.conf": "load /srv/never",
            "etc/web/extra/modules/a.so": "",
            "srv/site/index.html": "",
            "srv/site/deep/page.html": "",
            "srv/never": "",
            "srv/no": "",
        },
    )
    kept = Kept(tree)
    keep_observed(kept, seen("/etc/web/web.conf"))
    kept.add("etc/web/available/b.conf", "conffile")
    fresh = kept.files()
    while fresh:
        fresh = keep_named(kept, fresh)
    files = set(kept.files())
    assert {"srv/site/index.html", "srv/site/deep/page.html", "etc/web/extra/a.conf"} <= files
    assert "etc/web/extra/modules/a.so" in files
    assert not {"srv/never", "srv/no"} & files


def test_shared_folders_are_not_content(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"etc/x.conf": "path /usr/bin /etc /var/lib", "usr/bin/tool*": ""})
    kept = Kept(tree)
    keep_observed(kept, seen("/etc/x.conf"))
    keep_named(kept, kept.files())
    assert kept.files() == ["etc/x.conf"]


def served(tree: Tree, configuration: str) -> Kept:
    """What is kept for a live file of configuration."""
    (Path(tree.root) / "etc").mkdir(exist_ok=True)
    (Path(tree.root) / "etc/x.conf").write_text(configuration)
    kept = Kept(tree)
    keep_observed(kept, seen("/etc/x.conf"))
    keep_named(kept, kept.files())
    return kept


CONTENT: dict[str, str | bytes] = {
    "srv/index.html": "", "srv/other/p.html": "", "srv/a.example/htdocs/i": "",
    "usr/share/al/a.txt": "", "usr/share/doc/a": "", "usr/local/www/a": "", "usr/bin/tool*": "",
    "home/ann/public_html/i": "", "home/ann/.ssh/key": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("server { root /srv; }", ("srv/index.html", "srv/other/p.html")),
        ("some-word=/srv", ("srv/index.html", "srv/other/p.html")),
        ("location /a/ { alias /usr/share/al/; autoindex on; }", ("usr/share/al/a.txt",)),
        ('DocumentRoot "/usr/local/www"', ("usr/local/www/a",)),
        ("root /srv/$host;", ("srv/other/p.html", "srv/a.example/htdocs/i")),
        ("alias /home/$1/public_html;", ("home/ann/public_html/i",)),
        ("VirtualDocumentRoot /home/%-1/public_html", ("home/ann/public_html/i",)),
    ],
)
def test_folders_that_configuration_names_as_content_are_kept_whole(
    tmp_path: Path, words: str, expected: tuple[str, ...]
) -> None:
    kept = served(planted(tmp_path, CONTENT), words)
    assert set(expected) <= set(kept.files())
    assert not {"usr/share/doc/a", "usr/bin/tool", "home/ann/.ssh/key"} & set(kept.files())
    assert not kept.passed_over


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("root /usr/share;", "usr/share"),
        ("DocumentRoot /home", "home"),
        ("server { listen 80; root /; }", ""),
        ("root /home/$user;", "home/ann"),
    ],
)
def test_folders_of_the_system_that_are_named_as_content_are_told(
    tmp_path: Path, words: str, place: str
) -> None:
    kept = served(planted(tmp_path, CONTENT), words)
    assert kept.files() == ["etc/x.conf"]
    assert kept.passed_over == {place: "named as content by /etc/x.conf"}


@pytest.mark.parametrize("words", ["<Directory /usr/share>", "# root /usr;", "root /none;",
                                   "root /$host/x;", "log_format '$root /usr';"])  # fmt: skip
def test_other_words_on_folders_of_the_system_are_not_told(tmp_path: Path, words: str) -> None:
    kept = served(planted(tmp_path, CONTENT), words)
    assert kept.files() == ["etc/x.conf"] and not kept.passed_over


def test_of_a_folder_of_many_what_everybody_may_read_is_content(tmp_path: Path) -> None:
    tree = planted(tmp_path, {"srv/a": "", "srv/key": "", "srv/closed/b": "", "srv/site/key": ""})
    for name in ("srv/key", "srv/site/key"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "srv/closed").chmod(0o700)
    assert set(served(tree, "root /srv;").files()) == {"etc/x.conf", "srv/a"}
    assert "srv/site/key" in served(tree, "root /srv/site;").files(), "its own folder is whole"


CLOSED = ("srv/db/key", "srv/site/key", "home/ann/public_html/config", "home/ann/public_html/.git")


@pytest.mark.parametrize(
    ("words", "expected", "told"),
    [
        ("root /srv/$host;", {"srv/site/a"}, {"srv/db", "srv/site"}),
        ("include /srv/*/;", {"srv/site/a"}, set[str]()),
        ("include /srv/*/*;", {"srv/site/a"}, set[str]()),
        ("alias /home/$1/public_html$2;", {"home/ann/public_html/a"}, {"home/ann/public_html"}),
        ("root /srv/site;", {"srv/site/a", "srv/site/key"}, set[str]()),
    ],
)
def test_of_what_a_variable_may_stand_for_what_everybody_may_read_is_content(
    tmp_path: Path, words: str, expected: set[str], told: set[str]
) -> None:
    tree = planted(tmp_path, {
        "srv/site/a": "", "srv/site/key": "", "srv/db/key": "", "srv/db/in/open": "",
        "home/ann/public_html/a": "", "home/ann/public_html/config": "",
        "home/ann/public_html/.git/credentials": "",
    }, {"srv/site/link": "../db/key", "srv/site/way": "../db/in/open"})  # fmt: skip
    for name in CLOSED:
        (tmp_path / name).chmod(0o640 if (tmp_path / name).is_file() else 0o700)
    (tmp_path / "srv/db").chmod(0o700)
    kept = served(tree, words)
    assert set(kept.files()) == {"etc/x.conf", *expected}
    assert set(kept.passed_over) == told


def test_a_link_out_of_a_kept_folder_carries_only_what_everybody_may_read(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {"srv/site/a": "", "data/open": "", "data/key": "", "data/in/b": "", "srv/site/own": ""},
        {"srv/site/1": "/data/open", "srv/site/2": "/data/key", "srv/site/3": "/data/in/4",
         "data/in/4": "../open", "srv/site/5": "own"},
    )  # fmt: skip
    for name in ("data/key", "srv/site/own"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "data/in").chmod(0o700)
    kept = Kept(tree)
    kept.add_below("srv/site", "named")
    assert set(kept.files()) == {"srv/site/a", "srv/site/own", "data/open"}
    assert "srv/site/5" in kept.reasons
    assert not {"srv/site/2", "srv/site/3"} & set(kept.reasons)


def test_words_of_the_command(tmp_path: Path) -> None:
    kept = Kept(planted(tmp_path, {"app/main.cfg": "", "www/a": "", "www/b/c": ""}))
    keep_words(kept, ("-c", "main.cfg", "--root=/www"), "/app")
    assert set(kept.files()) == {"app/main.cfg", "www/a", "www/b/c"}


def test_scripts_keep_their_shell_commands_and_files(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "www/cgi-bin/q*": "#!/bin/sh\n# /etc/comment\nX=1 date | wc -l\ncat /etc/list\n",
            "srv/other*": "#!/usr/bin/perl\n",
            "bin/sh*": "", "bin/date*": "", "bin/wc*": "", "bin/cat*": "", "bin/rm*": "",
            "etc/list": "", "etc/comment": "", "usr/bin/perl*": "",
        },
    )  # fmt: skip
    kept = Kept(tree)
    kept.tools = frozenset({"bin/sh"})
    keep_scripts(kept, ["www/cgi-bin/q", "srv/other"], ("bin", "usr/bin"))
    assert set(kept.files()) == {"bin/sh", "bin/date", "bin/wc", "bin/cat", "etc/list"}


def test_the_interpreter_of_an_executed_script_was_run_too(tmp_path: Path) -> None:
    """The kernel runs it in the script's place: no call names it. Of others none is kept."""
    tree = planted(
        tmp_path,
        {
            "usr/bin/start*": "#! /bin/sh -e\nexec served\n", "usr/bin/other*": "#!/bin/bash\n",
            "usr/bin/dash*": "", "usr/bin/bash*": "", "usr/bin/served*": "\x7fELF",
            "usr/bin/nested*": "#!/usr/bin/start\n", "usr/bin/round*": "#!/usr/bin/round\n",
            "usr/bin/void*": "#!/bin/none\n",
        },
        {"bin": "usr/bin", "usr/bin/sh": "dash"},
    )  # fmt: skip
    kept = keep_everything(tree, Service(("start",)), Trace(), Packages(tree))
    assert {"usr/bin/dash", "usr/bin/sh", "usr/bin/served"} <= set(kept.reasons)
    assert "usr/bin/bash" not in kept.reasons
    use = Use("/usr/bin/start", "execve", "", False)
    executed = Trace(uses={use: None}, programs={"/usr/bin/start": None})
    kept = keep_everything(tree, Service(("served",)), executed, Packages(tree))
    assert "usr/bin/dash" in kept.reasons
    kept = keep_everything(tree, Service(("served",)), seen("/usr/bin/start"), Packages(tree))
    assert "usr/bin/dash" not in kept.reasons
    assert with_interpreters(tree, ["/bin/nested", "bin/start"]) == [
        "usr/bin/nested", "usr/bin/start", "usr/bin/dash",
    ]  # fmt: skip
    assert with_interpreters(tree, ["bin/round"]) == ["usr/bin/round"]
    assert with_interpreters(tree, ["bin/void"]) == ["usr/bin/void"]


def test_commands_behind_a_word_of_the_shell_are_kept(tmp_path: Path) -> None:
    script = "#!/bin/sh\nif one; then A=1 two; fi\nexec env B=2 three\n# exec four\n"
    tools = {f"bin/{name}*": "" for name in ("sh", "one", "two", "three", "four", "env")}
    kept = Kept(planted(tmp_path, {"www/cgi-bin/q*": script, **tools}))
    kept.tools = frozenset({"bin/sh"})
    keep_scripts(kept, ["www/cgi-bin/q"], ("bin",))
    assert set(kept.files()) == {"bin/sh", "bin/one", "bin/two", "bin/three", "bin/env"}


def test_python_imports_are_followed(tmp_path: Path) -> None:
    lib, site = "usr/lib/python3.11", "usr/lib/python3.11/site-packages"
    tree = planted(
        tmp_path,
        {
            f"{lib}/encodings/__init__.py": "", f"{lib}/encodings/utf_8.py": "",
            f"{lib}/json/__init__.py": "from .decoder import x",
            f"{lib}/json/decoder.py": "import re\ndef f():\n    import doctest",
            f"{lib}/re.py": "", f"{lib}/doctest.py": "", f"{lib}/unused.py": "",
            f"{lib}/lib-dynload/_fast.cpython-311-x86_64-linux-gnu.so": "",
            f"{lib}/__pycache__/re.cpython-311.pyc": "",
            f"{site}/web/__init__.py": "", f"{site}/web/lazy.py": "import _fast",
            f"{site}/web/data.txt": "", f"{site}/pip/__init__.py": "",
            f"{site}/aside/__init__.py": "",
            "app/main.py": "import json, web\ndef late():\n    import pip, helper\n",
            "app/helper.py": "",
        },
    )  # fmt: skip
    kept = Kept(tree)
    keep_observed(
        kept, seen("/app/main.py", f"/{lib}/encodings/__init__.py", f"/{site}/web/__init__.py")
    )
    for _ in range(4):
        keep_modules(kept)
    files = set(kept.files())
    assert {f"{lib}/json/decoder.py", f"{lib}/re.py", "app/helper.py"} <= files
    assert {f"{site}/web/lazy.py", f"{site}/web/data.txt"} <= files, "distributions are kept whole"
    assert f"{lib}/lib-dynload/_fast.cpython-311-x86_64-linux-gnu.so" in files
    assert f"{lib}/__pycache__/re.cpython-311.pyc" in files
    assert not {f"{lib}/unused.py", f"{lib}/doctest.py", f"{site}/pip/__init__.py",
                f"{site}/aside/__init__.py"} & files  # fmt: skip


def test_what_functions_of_the_library_import_is_kept_but_for_people_at_a_screen(
    tmp_path: Path,
) -> None:
    lib = "usr/lib/python3.11"
    tree = planted(
        tmp_path,
        {
            f"{lib}/encodings/__init__.py": "",
            f"{lib}/email/__init__.py": "def late():\n    from .generator import x\n    import pdb",
            f"{lib}/email/generator.py": "PARSERS = ['email.spare', 'json.other']",
            f"{lib}/email/spare.py": "", f"{lib}/pdb.py": "", f"{lib}/json/__init__.py": "",
            f"{lib}/mimetypes.py": "FILES = ['/etc/mime.types', '/usr/bin/tool', '/etc']",
            f"{lib}/sysconfig.py": "", f"{lib}/_sysconfigdata__x86.py": "",
            f"{lib}/zoneinfo/__init__.py": "import sysconfig",
            "usr/share/zoneinfo/Europe/Berlin": "", "etc/mime.types": "", "etc/aside": "",
            "usr/bin/tool*": "",
            "app/main.py": "import email, mimetypes\n",
            "app/zoned.py": "WANTED = 'zoneinfo.ZoneInfo'\n",
        },
    )  # fmt: skip
    kept = Kept(tree)
    keep_observed(kept, seen("/app/main.py", f"/{lib}/encodings/__init__.py"))
    keep_modules(kept)
    files = set(kept.files())
    assert {f"{lib}/email/generator.py", f"{lib}/email/spare.py", "etc/mime.types"} <= files
    assert not {f"{lib}/pdb.py", f"{lib}/json/__init__.py", "usr/bin/tool", "etc/aside",
                "usr/share/zoneinfo/Europe/Berlin"} & files  # fmt: skip
    keep_observed(kept, seen("/app/zoned.py"))
    keep_modules(kept)
    files = set(kept.files())
    assert {"usr/share/zoneinfo/Europe/Berlin", f"{lib}/_sysconfigdata__x86.py"} <= files


def test_files_that_own_scripts_name_are_kept(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "srv/web/a.js": "", "srv/web/public/deep/x.css": "", "srv/web/late.html": "",
            "srv/web/node_modules/m/index.js": "", "data/word": "", "usr/bin/tool*": "",
        },
    )  # fmt: skip
    texts = ("public", "late.html", "/data/word", "node_modules", "none", "/usr/bin", "a word")
    kept = Kept(tree)
    keep_texts(kept, "srv/web/a.js", texts, own=True)
    assert set(kept.files()) == {"srv/web/public/deep/x.css", "srv/web/late.html", "data/word"}
    kept = Kept(tree)
    keep_texts(kept, "srv/web/a.js", texts, own=False)
    assert kept.files() == ["data/word"]


def test_closed_files_that_own_scripts_name_are_not_kept(tmp_path: Path) -> None:
    tree = planted(tmp_path, {
        "srv/web/a.js": "", "srv/web/pages/x": "", "srv/web/pages/key": "", "data/in/pg/key": "",
        "data/in/open": "", "data/in/word": "", "home/ann/web/x": "",
    })  # fmt: skip
    for name in ("srv/web/pages/key", "data/in/pg/key", "data/in/word"):
        (tmp_path / name).chmod(0o600)
    texts = ("pages", "/data/in", "/data/in/word", "/home/ann")
    kept = Kept(tree)
    keep_texts(kept, "srv/web/a.js", texts, own=True)
    assert set(kept.files()) == {"srv/web/pages/x", "srv/web/pages/key", "data/in/open"}
    others(tree, "srv/web/pages/key")
    kept = Kept(tree)
    keep_texts(kept, "srv/web/a.js", texts, own=True)
    assert set(kept.files()) == {"srv/web/pages/x", "data/in/open"}


def test_content_beside_opened_content_is_kept(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "srv/web/a.py": "", "srv/web/texts/a.html": "", "srv/web/texts/b.html": "",
            "srv/web/other/c": "", "srv/web/bin/python*": "", "srv/web/bin/other*": "",
            "srv/web/lib/site-packages/m/data": "", "srv/web/lib/site-packages/n/data": "",
        },
    )  # fmt: skip
    kept = Kept(tree)
    keep_observed(kept, seen("/srv/web/texts/a.html", "/srv/web/bin/python",
                             "/srv/web/lib/site-packages/m/data"))  # fmt: skip
    assert keep_content(kept, ["srv/web/a.py"]) == ["srv/web/texts/b.html"]


def test_what_is_kept_for_its_place_is_no_opened_content(tmp_path: Path) -> None:
    tree = planted(tmp_path, {
        "usr/bin/node*": "", "srv/web/a.js": "", "srv/web/conf/note": "", "srv/web/conf/.env": "",
        "srv/web/conf/key": "",
    })  # fmt: skip
    (tmp_path / "srv/web/conf/key").chmod(0o600)
    others(tree, "srv/web/conf/key")
    for opened, more in (("/srv/web/a.js", set[str]()), ("/srv/web/conf/note", {".env"})):
        kept = Kept(tree)
        keep_observed(kept, seen(opened))
        keep_application(kept, Service(("node", "/srv/web/a.js")), "usr/bin/node")
        keep_content(kept, ["srv/web/a.js"])
        expected = {"srv/web/a.js", "srv/web/conf/note", *(f"srv/web/conf/{x}" for x in more)}
        assert set(kept.files()) == expected


def test_data_that_a_program_names_is_kept_when_its_package_depends_on_it(tmp_path: Path) -> None:
    stanza = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n{}\n"
    depends = "Depends: libc6 (>= 2), zones | other\n"
    tree = planted(
        tmp_path,
        {
            "usr/bin/base*": b"\0/usr/share/zones\0/usr/share/aside\0",
            "usr/share/zones/Berlin": "", "usr/share/aside/x": "",
            "var/lib/dpkg/status": stanza.format("base", depends)
            + stanza.format("zones", "") + stanza.format("aside", ""),
            "var/lib/dpkg/info/base.list": "/usr/bin/base\n",
            "var/lib/dpkg/info/zones.list": "/usr/share/zones\n/usr/share/zones/Berlin\n",
            "var/lib/dpkg/info/aside.list": "/usr/share/aside\n/usr/share/aside/x\n",
        },
    )  # fmt: skip
    kept = Kept(tree)
    keep_named_by_programs(kept, ["usr/bin/base"], Packages(tree))
    assert kept.files() == ["usr/share/zones/Berlin"]


def test_documents_that_a_program_of_no_package_names_are_kept(tmp_path: Path) -> None:
    text = b"\0/www\0/srv/site\0/usr/share/aside\0/etc\0"
    files: dict[str, str | bytes] = {
        "bin/own*": text, "www/deep/a": "", "srv/site/b": "", "usr/share/aside/x": "", "etc/y": "",
    }  # fmt: skip
    kept = Kept(planted(tmp_path, {**files, "www/key": "", "www/closed/a": ""}))
    (tmp_path / "www/key").chmod(0o640)
    (tmp_path / "www/closed").chmod(0o700)
    keep_named_by_programs(kept, ["bin/own"], Packages(kept.tree))
    assert set(kept.files()) == {"www/deep/a", "srv/site/b"}
    files["var/lib/dpkg/status"] = (
        "Package: own\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
    )
    files["var/lib/dpkg/info/own.list"] = "/bin/own\n"
    kept = Kept(planted(tmp_path, files))
    keep_named_by_programs(kept, ["bin/own"], Packages(kept.tree))
    assert kept.files() == []


APPLICATION: dict[str, str | bytes] = {
    "usr/bin/python3.11*": "\x7fELF", "usr/bin/own*": "\x7fELF", "etc/x.cfg": "",
    "srv/web/app.py": "", "srv/web/templates/late.html": "", "srv/web/plugins/one.py": "",
    "srv/web/.git/config": "", "srv/web/env/pyvenv.cfg": "", "srv/web/env/lib/m.py": "",
    "srv/web/node_modules/m/index.js": "", "srv/other/a": "", "app.py": "", "home/ann/app.py": "",
    "usr/lib/tool/run.py": "", "usr/lib/tool/other": "", "home/ann/notes": "",
    "usr/bin/gunicorn*": "#!/usr/bin/python3\n",
}  # fmt: skip
WHOLE = {"srv/web/app.py", "srv/web/templates/late.html", "srv/web/plugins/one.py"}


def applied(place: Path, *command: str, folder: str = "/", opened: tuple[str, ...] = ()) -> Kept:
    """What is kept of the application that a command starts."""
    tree = planted(place, APPLICATION, {"usr/bin/python3": "python3.11"})
    kept = Kept(tree)
    keep_observed(kept, seen(*opened))
    keep_application(kept, Service(command, folder=folder), f"usr/bin/{command[0]}")
    return kept


def test_the_folder_of_the_script_that_the_service_starts_with_is_kept_whole(
    tmp_path: Path,
) -> None:
    assert set(applied(tmp_path / "a", "python3", "-u", "/srv/web/app.py").files()) == WHOLE
    started = applied(tmp_path / "b", "python3", "app.py", "/etc/x.cfg", folder="/srv/web")
    assert set(started.files()) == WHOLE
    served = ("gunicorn", "app:app")
    started = applied(tmp_path / "c", *served, folder="/srv/web", opened=("/srv/web/app.py",))
    assert set(started.files()) == WHOLE
    assert not started.passed_over


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("node -r /agent/a.js /app/s.js", ["app/s.js"]),
        ("node --require /agent/a.js --import=/agent/a.js /app/s.js /agent/a.js", ["app/s.js"]),
        ("node --enable-source-maps /app/s.js", ["app/s.js"]),
        ("node -e 1 /app/s.js", []),
        ("python3 -uW /agent/a.js -Xdev /app/s.js", ["app/s.js"]),
        ("python3 -m web /app/s.js", []),
        ("ruby -r /agent/a.js -- /app/s.js", ["app/s.js"]),
        ("perl -I /agent/a.js -MPOSIX /app/s.js", ["app/s.js"]),
        ("sh -eo pipefail /app/s.js", ["app/s.js"]),
        ("entry sh -e /app/s.js", ["usr/bin/entry", "app/s.js"]),
        ("entry node -r /agent/a.js s.js", ["usr/bin/entry", "app/s.js"]),
        ("sh /usr/bin/entry ./run.sh", ["usr/bin/entry", "app/run.sh"]),
        ("busybox sh /app/s.js", ["app/s.js"]),
        ("node --unknown word /app/s.js", ["app/s.js"]),
        ("entry served /app/s.js", ["usr/bin/entry"]),
        ("plain sh /app/s.js", ["usr/bin/plain"]),
        ("entry", ["usr/bin/entry"]),
        ("served /app/s.js", []),
    ],
)
def test_the_script_is_found_behind_options_and_wrappers(
    tmp_path: Path, words: str, expected: list[str]
) -> None:
    runners = ("busybox", "node", "python3", "ruby", "perl", "sh", "served")
    tree = planted(tmp_path, {
        **{f"usr/bin/{name}*": "\x7fELF" for name in runners}, "agent/a.js": "", "app/s.js": "",
        "usr/bin/entry*": '#!/bin/sh\nset -e\nexec "$@"\n', "app/run.sh*": "#!/bin/sh\n",
        "usr/bin/plain*": '#!/bin/sh\n# exec "$@"\necho $# args\n',
    })  # fmt: skip
    command = tuple(words.split())
    service = Service(command, folder="/app")
    assert scripts_started(tree, service, f"usr/bin/{command[0]}") == expected


def test_folders_that_are_not_an_applications_are_not_kept_whole(tmp_path: Path) -> None:
    assert applied(tmp_path / "a", "own", "/srv/web/app.py").files() == []
    assert applied(tmp_path / "b", "gunicorn", "app:app", folder="/srv/web").files() == []
    packaged = applied(tmp_path / "c", "python3", "/usr/lib/tool/run.py")
    assert packaged.files() == [] and not packaged.passed_over
    for name, folder in (("app.py", ""), ("home/ann/app.py", "home/ann")):
        told = applied(tmp_path / f"{name}.d", "python3", f"/{name}")
        assert told.files() == [] and told.passed_over == {folder: f"where /{name} lies"}


def test_other_peoples_closed_files_are_not_an_applications(tmp_path: Path) -> None:
    tree = planted(tmp_path, {
        "usr/bin/python3*": "", "srv/a.py": "", "srv/key": "", "srv/open": "", "app/a.py": "",
        "app/own": "", "home/ann/web/a.py": "", "home/ann/web/key": "", "home/ann/web/open": "",
    })  # fmt: skip
    for name in ("srv/key", "app/own", "home/ann/web/key"):
        (tmp_path / name).chmod(0o600)
    kept = Kept(tree)
    for script in ("/srv/a.py", "/app/a.py", "/home/ann/web/a.py"):
        keep_application(kept, Service(("python3", script)), "usr/bin/python3")
    assert set(kept.files()) == {"srv/a.py", "srv/open", "app/a.py", "app/own",
                                 "home/ann/web/a.py", "home/ann/web/open"}  # fmt: skip


def test_closed_files_and_folders_of_others_in_an_application_are_not_its_own(
    tmp_path: Path,
) -> None:
    tree = planted(tmp_path, {
        "usr/bin/python3*": "", "app/a.py": "", "app/group": "", "app/theirs": "",
        "app/own/x": "", "app/pg/dump": "", "app/open/x": "",
    }, {"app/dump": "pg/dump", "app/x": "own/x"})  # fmt: skip
    for name in ("app/group", "app/theirs"):
        (tmp_path / name).chmod(0o640)
    for name in ("app/own", "app/pg"):
        (tmp_path / name).chmod(0o700)
    others(tree, "app/theirs", "app/pg", "app/pg/dump", "app/open", "app/open/x")
    kept = Kept(tree)
    keep_application(kept, Service(("python3", "/app/a.py")), "usr/bin/python3")
    assert set(kept.files()) == {"app/a.py", "app/group", "app/own/x", "app/open/x"}
    assert "app/x" in kept.reasons and "app/dump" not in kept.reasons


def test_a_link_out_of_an_application_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    tree = planted(
        tmp_path,
        {
            "usr/bin/python3*": "", "opt/app/a.py": "", "home/ann/.ssh/id": "", "lib/x": "",
            "var/lib/other/secret": "", "home/ann/.netrc": "", "opt/shared/p/about": "",
            "opt/shared/p/key": "", "opt/shared/p/.git": "", "var/log/app/log": "",
            "opt/app/.old/1/page": "", "opt/app/.old/2/page": "",
        },
        {
            "opt/app/rsa": "/home/ann/.ssh/id", "opt/app/secret": "/var/lib/other/secret",
            "opt/app/rc": "/home/ann/.netrc", "opt/app/x": "/lib/x", "opt/app/p": "../shared/p",
            "opt/app/logs": "/var/log/app", "opt/app/all": "..", "opt/shared/p/round": "../../app",
            "opt/app/root": "/", "opt/app/now": ".old/1",
        },
    )  # fmt: skip
    for name in ("home/ann/.ssh/id", "opt/shared/p/key"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "var/lib/other").chmod(0o700)
    tmp_path.chmod(0o755)
    kept = Kept(tree)
    keep_application(kept, Service(("python3", "/opt/app/a.py")), "usr/bin/python3")
    assert set(kept.files()) == {"opt/app/a.py", "lib/x", "opt/shared/p/about",
                                 "opt/app/.old/1/page"}  # fmt: skip
    assert {"opt/app/p", "opt/app/x"} <= set(kept.reasons)
    assert not {"opt/app/rsa", "opt/app/secret", "opt/app/rc"} & set(kept.reasons)
    assert kept.passed_over == {"var/log/app": "where /opt/app/logs leads",
                                "opt": "where /opt/app/all leads",
                                "": "where /opt/app/root leads"}  # fmt: skip


def test_memory_that_own_scripts_may_want_is_noted(tmp_path: Path) -> None:
    lib = "usr/lib/python3.11"
    tree = planted(tmp_path, {
        f"{lib}/encodings/__init__.py": "", f"{lib}/tempfile.py": "",
        f"{lib}/shutil.py": "import tempfile", "app/a.py": "import shutil",
        "app/bin/tool.py": "import tempfile",
        "app/b.py": "import tempfile\nfrom concurrent.futures import ProcessPoolExecutor",
    })  # fmt: skip
    kept = Kept(tree)
    keep_observed(kept, seen("/app/a.py", "/app/bin/tool.py", f"/{lib}/encodings/__init__.py"))
    keep_modules(kept)
    assert not kept.memory
    keep_observed(kept, seen("/app/b.py"))
    keep_modules(kept)
    assert kept.memory == {
        "tmp": "/app/b.py imports tempfile",
        "dev/shm": "/app/b.py imports concurrent.futures.ProcessPoolExecutor",
    }


def test_node_packages_come_whole_with_their_dependencies(tmp_path: Path) -> None:
    modules = "app/node_modules"
    tree = planted(
        tmp_path,
        {
            "app/app.js": "const e = require('web'); require('./lib/own')",
            "app/lib/own.js": "import x from '@scope/thing'",
            f"{modules}/web/package.json": '{"name": "web", "dependencies": {"deep": "1"}}',
            f"{modules}/web/late.js": "", f"{modules}/deep/package.json": '{"name":"deep"}',
            f"{modules}/@scope/thing/package.json": "{}", f"{modules}/unused/package.json": "{}",
        },
    )  # fmt: skip
    kept = Kept(tree)
    keep_observed(kept, seen("/app/app.js"))
    keep_node(kept)
    files = set(kept.files())
    assert {f"{modules}/web/late.js", f"{modules}/deep/package.json", "app/lib/own.js"} <= files
    assert f"{modules}/@scope/thing/package.json" in files
    assert f"{modules}/unused/package.json" not in files


def test_of_a_node_package_others_closed_files_are_not_kept(tmp_path: Path) -> None:
    modules = "app/node_modules"
    tree = planted(
        tmp_path,
        {
            "app/app.js": "require('web'); require('linked')", f"{modules}/web/package.json": "{}",
            f"{modules}/web/own": "", f"{modules}/web/key": "", "home/ann/keys/id": "",
            "home/ann/keys/open": "",
        },
        {f"{modules}/linked": "/home/ann/keys", f"{modules}/web/id": "/home/ann/keys/id"},
    )  # fmt: skip
    for name in (f"{modules}/web/own", f"{modules}/web/key", "home/ann/keys/id"):
        (tmp_path / name).chmod(0o600)
    others(tree, f"{modules}/web/key")
    kept = Kept(tree)
    keep_observed(kept, seen("/app/app.js"))
    keep_node(kept)
    assert set(kept.files()) == {"app/app.js", f"{modules}/web/package.json", f"{modules}/web/own",
                                 "home/ann/keys/open"}  # fmt: skip
