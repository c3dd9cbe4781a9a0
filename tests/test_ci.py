"""The commands that .ci/run runs, with stand-ins for Python, and its reaction to their exit codes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the stand-ins are shell scripts, Windows cannot run them"
)

#: Runs what reads pyproject.toml, and makes environments whose `python` is this script again.
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then exec {real} "$@"; fi
echo "$0 $* FASTRNN_DATA=${{FASTRNN_DATA:-}} PYTEST_ADDOPTS=${{PYTEST_ADDOPTS:-}}" >> {log}
case "$*" in
    "-m venv "*) mkdir -p "$3/{bin}" && cp "$0" "$3/{bin}/python" ;;
    *"-m pytest"*)
        file="${{PYTEST_ADDOPTS##*=}}"
        if [ -n "$file" ]; then echo "{skipped}" > "$file"; fi
        {pytest} ;;
    *"-m pip install"*" -c "*) exit {constrained} ;;
    *"-m mypy"*) exit {mypy} ;;
    *"{fails}"*) exit 1 ;;
    *"-m pip list"*) printf 'fastrnn==0.1.0\nnumpy==2.4.0\npip==23.0\ntqdm==4.0\n' ;;
esac
case "$*" in
    *"-m pip_audit"*) printf '%s' '{audited}' > "${{@: -1}}"; exit {vulnerable} ;;
esac
"""


@pytest.fixture
def ci(tmp_path):
    """Runs .ci/run in a copy of the files that it reads; returns its exit code, its lines, and the commands that it ran."""
    home = tmp_path / "here" / "project"
    (home / ".ci").mkdir(parents=True)
    (home / "tests" / "release").mkdir(parents=True)
    read = (".ci/run", ".ci/constraints.txt", "README.md", "pyproject.toml", "tests/release/typed_use.py")
    for name in read:
        shutil.copy(ROOT / name, home / name)
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()

    def run(*stages, system="Linux", data=None, **answers):
        answers = {
            "pytest": 'echo "== 3 passed in 1.00s =="',
            "skipped": "a::b",
            "constrained": 0,
            "mypy": 0,
            "fails": "nothing",
            "audited": '{"dependencies": []}',
            "vulnerable": 0,
            **answers,
        }
        windows = system.startswith("MINGW")
        values = {
            "real": shutil.which("python3"),
            "log": log,
            "bin": "Scripts" if windows else "bin",
            **answers,
        }
        scripts = {"python3": PYTHON.format(**values), "uname": f"#!/bin/bash\necho {system}\n"}
        for name, text in scripts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        log.write_text("")
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("FASTRNN", "PYTEST"))
        }
        environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        if data:
            environment["FASTRNN_DATA"] = str(data)
        done = subprocess.run(
            ["bash", str(home / ".ci" / "run"), *stages],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.splitlines(), log.read_text().splitlines(), done.stderr

    return run


def of_stage(commands, words):
    return [line for line in commands if words in line]


def test_ci_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_runs_every_stage_and_ends_with_the_summary_of_pytest(ci):
    code, lines, commands, _ = ci()
    assert code == 0
    assert lines[-1] == "== 3 passed in 1.00s =="
    assert [line.partition(":")[0] for line in lines[-5:-1]] == ["tests", "peers", "oldest", "stock"]
    for check in ("ruff check .", "ruff format --check .", "mypy"):
        assert of_stage(commands, f"/venv/bin/python -m {check}")


def test_ci_runs_the_command_that_the_readme_shows(ci):
    _, lines, commands, _ = ci("tests")
    shown = re.search(r"<!-- command: tests -->\n```bash\n(.+)\n```", (ROOT / "README.md").read_text()).group(
        1
    )
    assert shown in lines[0]
    assert [re.sub(r"\S*/venv", "V", line.partition(" FASTRNN")[0]) for line in commands] == [
        re.sub(r"\S*/python3", str(commands[0].split()[0]), "x/python3 -m venv V"),
        "V/bin/python -m pip install -q -e .[test]",
        "V/bin/python -m pytest -n 2 --dist worksteal",
    ]
    assert "FASTRNN_DATA= PYTEST_ADDOPTS=--durations=10 --write-skipped=" in commands[-1]


def test_ci_gives_skipped_tests_to_the_environment_with_all_extras(ci, tmp_path):
    code, _, commands, _ = ci("tests", "peers", data=tmp_path)
    assert code == 0
    (install,) = of_stage(commands, "/peers/bin/python -m pip")
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"])
    assert f"-c .ci/constraints.txt -e .[{extras}]" in install
    (tests,) = of_stage(commands, "/peers/bin/python -m pytest")
    assert re.search(
        rf"--no-skips --durations=10 @\S+/skipped FASTRNN_DATA={re.escape(str(tmp_path))} ", tests
    )
    # Alone, the stage runs all tests.
    _, _, commands, _ = ci("peers")
    assert of_stage(commands, "-m pytest --no-skips --durations=10 FASTRNN_DATA= ")


def test_ci_finds_real_data_beside_the_repository(ci, tmp_path):
    (tmp_path / "here" / "shared" / "data").mkdir(parents=True)
    _, _, commands, _ = ci("tests", "peers")
    assert [re.search(r"FASTRNN_DATA=(\S*)", line).group(1) for line in of_stage(commands, "-m pytest")] == [
        "",
        str(tmp_path / "here" / "shared" / "data"),
    ]


def test_ci_installs_without_constraints_where_the_index_lacks_them(ci):
    code, _, commands, _ = ci("peers", constrained=1)
    assert code == 0
    with_them, without = of_stage(commands, "/peers/bin/python -m pip")
    assert "-c .ci/constraints.txt" in with_them
    assert "constraints" not in without


def test_ci_oldest_installs_exactly_the_lower_bounds(ci):
    code, lines, commands, _ = ci("oldest")
    if any("NOT RUN" in line for line in lines):
        assert code == 0
        return
    (install,) = of_stage(commands, "/oldest/bin/python -m pip")
    pins = re.search(r"-e \.\[test\] (.+) FASTRNN", install).group(1).split()
    assert [pin.partition("==")[0] for pin in pins] == ["numpy", "numba", "scikit-learn", "tqdm"]
    for pin, bound in zip(pins, PYPROJECT["project"]["dependencies"], strict=True):
        assert bound.split(",")[0] == pin.replace("==", ">=")
    (tests,) = of_stage(commands, "/oldest/bin/python -m pytest")
    assert " ".join(PYPROJECT["tool"]["fastrnn"]["compiled_tests"]) in tests


def test_ci_fails_and_says_so_last_where_tests_fail(ci):
    failing = 'case "$0" in */peers/*) echo "== 1 failed in 2.00s =="; exit 1 ;; esac; echo "== 3 passed in 1.00s =="'
    code, lines, _, _ = ci(pytest=failing)
    assert code == 1
    assert lines[-1] == "== 1 failed in 2.00s =="
    code, lines, _, _ = ci("tests", pytest="exit 3")
    assert code == 1
    assert lines[-1] == "pytest printed no summary"


def test_ci_fails_where_a_linter_does(ci):
    code, lines, _, _ = ci("tests", "lint", mypy=1)
    assert code == 1
    assert "lint: mypy failed" in lines
    assert ci("lint", mypy=1)[0] == 1
    assert ci("lint")[0] == 0


def test_ci_finds_the_programs_of_an_environment_on_windows(ci):
    code, lines, commands, _ = ci("tests", "lint", "peers", system="MINGW64_NT-10.0")
    assert code == 0, lines
    assert of_stage(commands, "/venv/Scripts/python -m pytest")
    assert of_stage(commands, "/peers/Scripts/python -m pytest")
    assert not of_stage(commands, "/bin/python")


def test_ci_runs_reliability_and_audit_where_they_are_named(ci):
    assert not of_stage(ci()[2], "benchmarks.reliability")
    code, _, commands, _ = ci("reliability", "audit")
    assert code == 0
    assert of_stage(commands, "/peers/bin/python -m benchmarks.reliability --short")
    assert of_stage(commands, "/audit/bin/python -m piplicenses --partial-match")
    assert of_stage(commands, "--packages fastrnn numpy tqdm ")
    assert of_stage(commands, "/audit/bin/python -m pip_audit --no-deps")
    assert not of_stage(commands, "-m pytest")
    for name in ("reliability", "piplicenses"):
        code, lines, _, _ = ci("reliability", "audit", fails=name)
        assert code == 1
        assert any("failed" in line and name in line for line in lines)


def test_ci_audit_fails_where_a_vulnerability_is_known(ci):
    code, lines, *_ = ci("audit", vulnerable=1)
    assert code == 1
    assert "audit: failed: known vulnerabilities" in lines


def test_ci_audit_names_what_it_could_not_check(ci):
    no_records = '{"dependencies": [{"name": "numpy", "skip_reason": "?"}, {"name": "tqdm", "vulns": []}]}'
    code, lines, *_ = ci("audit", audited=no_records)
    assert code == 0
    assert "audit: vulnerabilities NOT CHECKED, the package index has no records of: numpy" in lines
    code, lines, *_ = ci("audit", audited="", vulnerable=1)
    assert code == 0
    assert "audit: vulnerabilities NOT CHECKED, there is no answer from the package index" in lines


def test_ci_audit_is_not_run_without_a_package_index(ci):
    code, lines, commands, _ = ci("audit", fails="pip download")
    assert code == 0
    assert any(line.startswith("audit: NOT RUN") for line in lines)
    assert not of_stage(commands, "piplicenses")


def test_ci_builds_a_release_and_uses_it_where_nothing_else_is_installed(ci):
    assert not of_stage(ci()[2], "-m build")
    code, _, commands, _ = ci("release")
    assert code == 0
    assert of_stage(commands, "/build/bin/python -m build --outdir")
    assert of_stage(commands, "/build/bin/python -m twine check --strict")
    # The stand-in builds nothing, so that what is installed is the pattern itself.
    assert of_stage(commands, "-I tests/release/installed.py")
    assert of_stage(commands, "-m mypy --strict typed_use.py")
    for name, answers in (
        ("twine", {"fails": "twine check"}),
        ("installed.py", {"fails": "installed.py"}),
        ("typed_use.py", {"mypy": 1}),
    ):
        code, lines, _, _ = ci("release", **answers)
        assert code == 1
        assert any(line.startswith("release: failed") and name in line for line in lines)


def test_ci_makes_the_site_and_checks_its_links(ci):
    code, _, commands, _ = ci("docs")
    assert code == 0
    assert of_stage(commands, "/docs/bin/python -m sphinx -q -W --keep-going -b html .ci/site")
    assert of_stage(commands, "/docs/bin/python .ci/links.py")
    assert ci("docs", fails="links.py")[0] == 1


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.html").write_text(
        '<a id="x"></a><a href="deep/b.html#y">b</a><a href="https://python.org">p</a>'
    )
    (tmp_path / "deep" / "b.html").write_text(
        '<h1 id="y"></h1><a href="../a.html#x">a</a><a href="#y">here</a>'
    )
    check = [sys.executable, str(ROOT / ".ci" / "links.py"), str(tmp_path)]
    assert subprocess.run(check, check=False).returncode == 0
    (tmp_path / "c.html").write_text(
        '<a href="deep/b.html#z">b</a><img src="no.png"><a href="a.html#x">a</a>'
    )
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["c.html: deep/b.html#z", "c.html: no.png"]


def test_parts_of_pages_that_need_the_network_are_found(tmp_path):
    check = [sys.executable, str(ROOT / ".ci" / "links.py"), str(tmp_path)]
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.org/m.js"></script><img src="data:image/png;base64,AA==">'
    )
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["a.html: https://cdn.org/m.js is taken from the network"]


def test_ci_runs_all_tests_of_the_stock_path_in_the_environment_of_the_tests(ci):
    assert of_stage(ci()[2], "tests/test_stock_path.py")
    code, _, commands, _ = ci("stock")
    assert code == 0
    (tests,) = of_stage(commands, "-m pytest")
    assert "/venv/bin/python -m pytest" in tests
    assert "-m slow or not slow tests/test_stock_path.py" in tests


def test_ci_refuses_a_stage_that_it_does_not_have(ci):
    code, _, commands, said = ci("test")
    assert code == 2
    assert (
        "no stage 'test'; there are tests, lint, peers, oldest, stock, docs, release, reliability and audit"
        in said
    )
    assert not commands


def test_workflow_runs_ci_on_each_system():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    job = workflow["jobs"]["check"]
    legs = job["strategy"]["matrix"]["include"]
    systems = [leg["os"] for leg in legs]
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
    assert any(name.endswith("-arm") for name in systems)
    assert {stage for leg in legs for stage in leg["stages"].split()} <= {
        "tests",
        "lint",
        "peers",
        "oldest",
        "stock",
    }
    assert "" in [leg["stages"] for leg in legs]
    declared = [c.rpartition(" ")[2] for c in PYPROJECT["project"]["classifiers"] if "Python :: 3." in c]
    assert set(declared) == {leg["python"] for leg in legs}
    assert job["steps"][-1]["run"] == "bash .ci/run ${{ matrix.stages }}"
    assert workflow["jobs"]["trust"]["steps"][-1]["run"] == "bash .ci/run docs release reliability audit"


def test_pre_commit_runs_the_linters_of_ci():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    linters = re.findall(r'"(ruff[^"]*|mypy)"', (ROOT / ".ci" / "run").read_text("utf-8"))
    assert len(linters) == 3
    for linter in linters:
        assert any(entry.startswith(f"python -m {linter.removesuffix(' .')}") for entry in entries), linter
