"""Checkpoints: what is read is what was written, the newest are kept, and what cannot be read is named."""

import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.errors import CheckpointError
from consistency_jax.training.checkpoints import UNFINISHED, Checkpointer

# Orbax leaves futures of a failed read to the garbage collector, which reports them whenever it comes by.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state(step: int) -> dict:
    return {
        "params": {"kernel": jnp.full((2, 3), step, jnp.bfloat16)},
        "progress": {"count": jnp.int32(step), "mu": jnp.arange(3.0) * step},
    }


def test_parts_are_read_apart_and_the_newest_are_kept(tmp_path):
    with Checkpointer(tmp_path / "c", keep=2) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.steps) == (None, [])
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
        checkpoints.save(3, state(9))  # is there already
        checkpoints.wait()
        assert (checkpoints.latest_step, checkpoints.steps) == (3, [2, 3])
    with Checkpointer(tmp_path / "c") as again:
        found = again.restore(2, {"params": state(0)["params"]})
        assert set(found) == {"params"}
        np.testing.assert_array_equal(found["params"]["kernel"], state(2)["params"]["kernel"])
        whole = again.restore(3, state(0))
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(state(3)), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_one_more_than_is_kept_goes_when_asked(tmp_path):
    with Checkpointer(tmp_path / "c", keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
    with Checkpointer(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.steps == [1, 2, 3]
        (tmp_path / "c" / f"4{UNFINISHED}-1764" / "params").mkdir(
            parents=True
        )  # of a process that was killed
        checkpoints.prune()
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["2", "3"]
        assert checkpoints.steps == [2, 3]
    with Checkpointer(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.steps == [2, 3]
        checkpoints.prune()


def test_a_step_that_is_not_there_and_a_folder_that_cannot_be_are_told(tmp_path):
    with Checkpointer(tmp_path / "c") as checkpoints:
        checkpoints.save(4, state(4))
        checkpoints.wait()
        with pytest.raises(CheckpointError, match="c has no checkpoint of step 5; it has: \\[4\\]"):
            checkpoints.restore(5, state(0))
        other = state(0) | {"params": {"kernel": jnp.zeros((2, 4), jnp.bfloat16), "more": jnp.zeros(2)}}
        with pytest.raises(CheckpointError, match="c/4 cannot be read.*Delete that folder to start afresh"):
            checkpoints.restore(4, other)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot make the checkpoint folder"):
        Checkpointer(tmp_path / "file" / "c")


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    with Checkpointer(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()

        def refused(*arguments, **options):
            raise PermissionError(errno.EACCES, "Permission denied", "x")

        monkeypatch.setattr(checkpoints._manager, "restore", refused)
        with pytest.raises(
            CheckpointError, match="c/1 cannot be read: Permission denied; mend that"
        ) as caught:
            checkpoints.restore(1, state(0))
        assert "Delete" not in str(caught.value)


def test_a_bit_that_flipped_is_told_with_the_array_and_the_way_on(tmp_path):
    """In the files as they are: whatever still can be read is compared with what was written."""
    rng, told = np.random.default_rng(0), set()
    with Checkpointer(tmp_path / "whole") as checkpoints:
        for step in (1, 2):
            noise = {"kernel": jnp.asarray(rng.normal(size=(64, 65)), jnp.float32)}
            checkpoints.save(step, {"params": noise, "progress": {"count": jnp.int32(step)}})
    files = [
        path
        for path in (tmp_path / "whole" / "2").rglob("*")
        if path.stat().st_size > 8000 and path.is_file()
    ]
    assert len(files) == 1  # the kernel's values
    for trial in range(12):
        copy = shutil.copytree(tmp_path / "whole", tmp_path / str(trial))
        path = copy / files[0].relative_to(tmp_path / "whole")
        data = bytearray(path.read_bytes())
        data[rng.integers(200, len(data) - 200)] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        like = {"params": {"kernel": jnp.zeros((64, 65))}}
        with Checkpointer(copy) as checkpoints:
            with pytest.raises(
                CheckpointError, match="2 .*Delete that folder to resume from step 1"
            ) as error:
                checkpoints.restore(2, like)
            told.add("is damaged: params/kernel is not as it was written" in str(error.value))
            assert checkpoints.restore(1, like)["params"]["kernel"].any()
    assert True in told


def test_a_checkpoint_of_a_version_without_sums_is_read(tmp_path):
    with Checkpointer(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state(1))
    metadata = tmp_path / "c" / "1" / "_CHECKPOINT_METADATA"
    text = json.loads(metadata.read_text())
    assert text["custom_metadata"].pop("sums")["params"]["kernel"]
    metadata.write_text(json.dumps(text))
    with Checkpointer(tmp_path / "c") as checkpoints:
        assert checkpoints.restore(1, state(0))["params"]["kernel"].all()
