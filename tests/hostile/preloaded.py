"""`ctl` whose registry in memory holds instances from the start: `python preloaded.py FILE serve ...`.

FILE is a pickle of them: to register very many over HTTP would take longer than the test, and none would be long gone.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from dbgpt_ctl.__main__ import main
from dbgpt_ctl.registry.embedded import registry

INSTANCES = pickle.loads(Path(sys.argv.pop(1)).read_bytes())


class Preloaded(registry.EmbeddedModelRegistry):
    """Holds the instances when it is opened."""

    async def open(self) -> None:
        for instance in INSTANCES:
            self._state.index.put(instance)
        await super().open()


registry.EmbeddedModelRegistry = Preloaded  # type: ignore[misc]
main()
