"""What a data set of ours was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from resfit_rl.demonstrations.demonstration import DemonstrationsError

IDENTITY_FILE = Path("meta", "resfit.json")


@dataclass(frozen=True)
class DemonstrationsIdentity:
    """What a data set was made from; two of the same identity hold the same data.

    Attributes:
        task: name.
        implementation: of the task.
        expert: identity of the policy that acted, or of the file that was converted. Of a disturbed
            expert it ends in ':disturbed-SIZE'.
        image_size: (height, width), pixels.
        seed: of the first episode tried; the next ones count up.
        episodes: successful ones.
    """

    task: str
    implementation: str
    expert: str
    image_size: tuple[int, int]
    seed: int
    episodes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))

    def require(self, expected: DemonstrationsIdentity, root: Path) -> None:
        """DemonstrationsError naming each field that is not as expected."""
        theirs = asdict(self)
        wrong = [
            f"{name} {value}, found {theirs[name]}"
            for name, value in asdict(expected).items()
            if theirs[name] != value
        ]
        if wrong:
            raise DemonstrationsError(f"{root}: expected {'; '.join(wrong)}")


def is_own(root: Path) -> bool:
    """Whether the folder holds a data set that we wrote."""
    return (root / IDENTITY_FILE).exists()


def read_own_identity(root: Path) -> DemonstrationsIdentity:
    """Of our data set at `root`; DemonstrationsError when it has none that can be read."""
    path = root / IDENTITY_FILE
    try:
        return DemonstrationsIdentity(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DemonstrationsError(
            f"{path}: expected the identity of a resfit data set, found {error}"
        ) from None
