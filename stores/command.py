"""How every command runs: options from a dataclass, faults as one sentence, an exit status that means something.

Exit status: 0 all done; 1 a check failed; 2 nothing usable or a mistake in the call; 3 done, but some input
was unusable; 130 interrupted (run the same command again to go on).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from stores.errors import SpectraBridgeError
from stores.location import Url, refuse_urls
from stores.lock import writing
from stores.mistake import parsed
from stores.processes import keeping_workers

Options = TypeVar("Options")

PARTIAL = 3
# faults of the machine or of a path, not of the package
TOLD = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


def run_command(
    options_type: type[Options],
    action: Callable[[Options], int | None],
    prog: str,
    go_on: str = "run the same command again to go on",
) -> None:
    """Parse the command line into `options_type`, call `action` with it, while no other run writes there, and exit."""
    import tyro

    try:
        options = parsed(lambda: tyro.cli(options_type, prog=prog, config=(tyro.conf.OmitArgPrefixes,)), prog)
        refuse_urls(options)
        with ExitStack() as held:
            for out in _outputs(options):
                held.enter_context(writing(out))
            held.enter_context(keeping_workers())
            status = action(options)
    except SpectraBridgeError as error:
        say(f"{prog}: {error}")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        say(f"{prog}: interrupted; {go_on}.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.errno not in TOLD:
            raise
        where = f" ('{error.filename}')" if error.filename else ""
        reason = os.strerror(error.errno)  # not error.strerror: pyarrow puts a text of its own there
        say(f"{prog}: {reason[0].lower()}{reason[1:]}{where}; mend that and {go_on}.")
        sys.exit(2)
    sys.exit(status or 0)


def _outputs(options: object) -> list[Path | Url]:
    """Where a command writes: what its options name as `outputs`, else their `out`, if they have one."""
    outputs = getattr(options, "outputs", (getattr(options, "out", None),))
    return [out for out in outputs if isinstance(out, Path | Url)]


def say(sentence: str) -> None:
    """Tell the user something on standard error, so that standard output stays data."""
    print(sentence, file=sys.stderr, flush=True)
