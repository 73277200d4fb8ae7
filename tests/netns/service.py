"""How the unit runs gred: another user, two capabilities, mounts of its own, calls refused."""

from tests import require
from tests.netns import sandbox

NOBODY = 65534  # stands for user gred
_KEPT = "-all,+net_admin,+net_raw"
_DEVICE = "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200"


def as_service(*mounts: str) -> list[str]:
    """Return how to run the rest; *mounts*: commands of a shell that are run before, as root."""
    setpriv = require.program("setpriv", package="util-linux")
    unshare = require.program("unshare", package="util-linux")
    first = " && ".join((_DEVICE, *mounts))
    return [
        *(unshare, "--mount", "sh", "-c", f'{first} && exec "$@"', "sh"),
        *sandbox.wrapper(*sandbox.DOCKER),
        *(setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={_KEPT}", f"--ambient-caps={_KEPT}", f"--bounding-set={_KEPT}"),
    ]
