"""A save that fails or is killed leaves the old file, whole, and no temporary file.

``FASTRNN_KILLS=200 python -m pytest tests/test_saving_atomic.py -k killed`` kills 200 times; the suite does so 25 times.
"""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fastrnn
from fastrnn import ModelFileError
from fastrnn.saving import files
from tests.saved_files import small_model

posix = pytest.mark.skipif(os.name == "nt", reason="needs fork, signals and limits of POSIX")


def leftovers(folder):
    return [p.name for p in Path(folder).iterdir() if p.name.startswith(files.PREFIX)]


KILLER = """
import os, random, signal, sys, time
from fastrnn.saving import container
import numpy as np
folder, kills = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "model")
contents = [(name, {"a": np.full(300_000, name, "f4"), "b": np.arange(50_000)}) for name in (1, 2)]
container.write(path, *contents[0])
random.seed(1)
seen, between = {1: 0, 2: 0}, 0
for k in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            for content in contents:
                container.write(path, *content)
    time.sleep(random.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    between += any(n.startswith(".fastrnn-") for n in os.listdir(folder))
    found = container.read(path)
    assert (found.tensors["a"] == found.content).all()
    seen[found.content] += 1
container.write(path, *contents[0])
print("kills", kills, "while writing", between, "files found", seen, "left over", sorted(os.listdir(folder)))
"""


@posix
def test_killed_while_saving_leaves_a_whole_file(tmp_path):
    kills = os.environ.get("FASTRNN_KILLS", "25")
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), kills],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert os.listdir(tmp_path) == ["model"]  # the save after the last kill removed what that one left


FULL = """
import resource, signal, sys
import fastrnn
from tests.saved_files import small_model
path = sys.argv[1]
small_model(0).save(path)
before = open(path, "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    small_model(1, units=40).save(path)
except fastrnn.ModelFileError as error:
    print(error)
assert open(path, "rb").read() == before
"""


@posix
def test_no_room_for_the_file_keeps_the_old_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "m")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert "larger than this process may write" in done.stdout
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(
    ("call", "code"), [("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EACCES)]
)
def test_failing_call_keeps_the_old_file(call, code, tmp_path, monkeypatch):
    path = tmp_path / "m"
    small_model(0).save(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, call, fail)
    if hasattr(files.fcntl, "F_FULLFSYNC"):
        monkeypatch.delattr(files.fcntl, "F_FULLFSYNC")
    with pytest.raises(ModelFileError, match="can't be written") as caught:
        small_model(1).save(path)
    assert caught.value.__cause__.errno == code
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    small_model(0).save(path)
    before = path.read_bytes()

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_model(1).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_read_only_file_is_kept(tmp_path):
    path = tmp_path / "m"
    small_model(0).save(path)
    path.chmod(0o444)
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="read-only"):
        small_model(1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]
    path.chmod(0o644)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ModelFileError, match="may not write"):
            small_model().save(tmp_path / "m")
    finally:
        tmp_path.chmod(0o755)


def test_names_at_the_limit_of_the_file_system(tmp_path):
    small_model().save(tmp_path / ("n" * 200))
    assert len(os.listdir(tmp_path)) == 1
    with pytest.raises(ModelFileError):
        small_model().save(tmp_path / ("n" * 2000))
    assert len(os.listdir(tmp_path)) == 1


@posix
def test_links_and_permissions_are_kept(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    small_model(0).save(real)
    real.chmod(0o640)
    link.symlink_to(real)
    small_model(1).save(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert (fastrnn.load(real).params == small_model(1).params).all()
    os.umask(mask := os.umask(0o022))
    small_model().save(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~mask


@posix
def test_what_is_no_ordinary_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for call in (small_model().save, fastrnn.load):
        with pytest.raises(ModelFileError, match="not a regular file"):
            call(tmp_path / "pipe")


def test_saving_from_many_threads_leaves_one_whole_file(tmp_path):
    """Each removes leftovers, and must take no other's file for one."""
    path, models, failures = tmp_path / "m", [small_model(seed) for seed in range(6)], []

    def work(model):
        try:
            for _ in range(20):
                model.save(path)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == ["m"]
    assert any((fastrnn.load(path).params == model.params).all() for model in models)
