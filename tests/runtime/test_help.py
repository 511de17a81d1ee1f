"""--help is read from a command's source, before anything heavy is imported."""

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.help import first_line, help_of, source
from consistency_jax.runtime.shipped import shipped


@pytest.mark.parametrize("name", ["train", "evaluate", "pairs", "aot", "compare", "export"])
def test_it_tells_flags_and_configs(name):
    told = help_of(source(f"consistency_jax.{name}"), [])
    assert first_line(source(f"consistency_jax.{name}")) in told
    with_config = name not in ("compare", "export")
    assert ("  --config: " in told) == with_config
    assert ("  --num_processes: " in told) == (name not in ("aot", "compare"))
    for config, file in shipped().items():
        assert (f"  {config:<9} {first_line(file)}" in told) == with_config


def test_it_tells_what_a_config_takes(tmp_path):
    told = help_of(source("consistency_jax.train"), ["--config=custom:lora=1", "--workdir=x"])
    assert "`lora` is the rank of adapters" in told
    assert "configs that come along" not in told
    assert help_of(source("consistency_jax.train"), ["--config", "custom:lora=1"]).endswith(told[-200:])
    for content, message in (
        (b"x = (", r"broken.py:1: "),
        (b"\xe9", "broken.py: .*utf-8"),
        (b"\0", "broken.py:.* null bytes"),  # Python 3.11.2 names no line
    ):
        (tmp_path / "broken.py").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            help_of(source("consistency_jax.train"), [f"--config={tmp_path / 'broken.py'}"])
    with pytest.raises(ConfigError, match="there is no such file"):
        help_of(source("consistency_jax.train"), ["--config=nope"])
