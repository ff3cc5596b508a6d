from pathlib import Path

import pytest

from sparring.core.errors import ConfigError
from sparring.core.files import require_writable


def test_room_is_made_for_a_file_that_comes_last_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "one.png"
    require_writable(path, "plot")
    assert list(tmp_path.rglob("*")) == [path.parent]


def test_a_place_below_a_file_and_a_directory_are_refused_with_the_option_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/one.png cannot be written \(.*\); give plot another place."):
        require_writable(tmp_path / "file" / "one.png", "plot")
    with pytest.raises(ConfigError, match=r"is a directory; give save the name of a file\."):
        require_writable(tmp_path, "save")
