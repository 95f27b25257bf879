"""The worker process: loading, one loop, and what it drives.

Knows no HTTP and no settings.

`__main__` joins; `loading` loads; `loop` has the threads; `generating` and `embedding`
compute; `tokenizing/` prepares requests; `outputs/` makes events of tokens.
"""

import appliance.llama  # noqa: F401 - sets what libraries read when they are imported
