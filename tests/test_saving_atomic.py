"""A save that fails or is killed leaves the old file, whole, and no temporary file.

A writing process is killed 200 times, or FASTRNN_KILLS times.
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
from tests.limits import HANG_SECONDS
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
contents = [(name, {"a": np.full(100_000, name, "f4"), "b": np.arange(50_000)}) for name in (1, 2)]
container.write(path, *contents[0])
random.seed(1)
seen, between, now = {1: 0, 2: 0}, 0, 1
for k in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            for content in contents[::-1] if now == 1 else contents:  # the other one first
                container.write(path, *content)
    time.sleep(random.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    between += any(n.startswith(".fastrnn-") for n in os.listdir(folder))
    found = container.read(path)
    assert (found.tensors["a"] == found.content).all()
    now = found.content
    seen[now] += 1
container.write(path, *contents[0])
print("kills", kills, "while writing", between, "files found", seen, "left over", sorted(os.listdir(folder)))
"""


@posix
def test_killed_while_saving_leaves_a_whole_file(tmp_path):
    kills = os.environ.get("FASTRNN_KILLS", "200")
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), kills],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
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
        timeout=HANG_SECONDS,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert "larger than this process may write" in done.stdout
    assert os.listdir(tmp_path) == ["m"]


REALLY_FULL = """
import os, subprocess, sys
import fastrnn
from tests.saved_files import small_model
folder = sys.argv[1]
path, filler = os.path.join(folder, "m"), os.path.join(folder, "filler")

def mount(*options):
    subprocess.run(["mount", *options, folder], check=True)

def attempts(target, model, expected):
    for save in (model.save, model.save_weights):
        try:
            save(target)
        except fastrnn.ModelFileError as error:
            assert expected in str(error), error
        else:
            raise AssertionError(f"saved to {target}")

mount("-t", "tmpfs", "-o", "size=256k,nr_inodes=100", "tmpfs")
small_model(0).save(path)
before, names = open(path, "rb").read(), ["filler", "m"]
large = small_model(1, units=96)  # 115 kB at least
for free_pages in range(0, 21, 4):
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - 4096 * free_pages))
    for target in (path, os.path.join(folder, "new")):
        attempts(target, large, "the disk is full")
        assert open(path, "rb").read() == before
        assert sorted(os.listdir(folder)) == names, os.listdir(folder)
os.unlink(filler)
large.save(path)  # there is room for both now
before = open(path, "rb").read()
mount("-o", "remount,nr_inodes=2")
attempts(path, small_model(0), "the disk is full")  # room for bytes, but not for another name
mount("-o", "remount,ro")
attempts(path, small_model(0), "read-only")
attempts(os.path.join(folder, "new"), small_model(0), "read-only")
assert open(path, "rb").read() == before and os.listdir(folder) == ["m"]
print("as promised")
"""


def test_full_and_read_only_file_systems_keep_the_old_file(tmp_path):
    """On a real file system of 256 kB, which a user may mount in a name space of its own."""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        subprocess.run(
            [*apart, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets no user mount a file system")
    done = subprocess.run(
        [*apart, sys.executable, "-c", REALLY_FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "as promised\n"


@pytest.mark.parametrize("room", [0, 1, 8, 1000, -1])
def test_disk_that_fills_while_writing_keeps_the_old_file(room, tmp_path, monkeypatch):
    """Each write takes only a part, as the system may do, until `room` bytes are written; -1 is all but one."""
    path = tmp_path / "m"
    small_model(1).save(path)
    left = [room + path.stat().st_size if room < 0 else room]
    small_model(0).save(path)
    before, write = path.read_bytes(), os.write

    def write_part(descriptor, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = write(descriptor, data[: min(100, left[0])])
        left[0] -= n
        return n

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "write", write_part)
        with pytest.raises(ModelFileError, match="the disk is full"):
            small_model(1).save(path)
    assert path.read_bytes() == before
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
