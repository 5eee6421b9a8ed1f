"""Where `capsule-run` and `python -m capsule_run` begin.

The native launcher runs this very file with `-I -S`, so that neither `site` nor any `.pth` file is paid for; then the
package is not importable yet. Its parent goes to the *end* of the path: nothing installed beside us can take the place
of a standard module.
"""

import gc
import posix
import sys

gc.disable()  # one short run makes no garbage that is worth looking for

if not __package__:
    sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from capsule_run import _bundle  # noqa: E402  # the path is ready only now

bundle = _bundle.use()

from capsule_run.cli import main  # noqa: E402  # the path is ready only now

if __name__ == "__main__":
    status = main()
    _bundle.keep(bundle)
    # everything is written and closed: skip the interpreter's own clearing up, which costs a millisecond
    posix._exit(status)  # noqa: SLF001  # its documented name
