"""The one error that bad user input raises, and which errors of the system mean that a disk is full.

The command line prints a UserError's single line and exits with code 2; a full disk it treats likewise.
"""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, quota used up, file larger than the file system or a limit allows."""


class UserError(ValueError):
    """Input that cannot be used. The message is one line: the value found and what was expected."""
