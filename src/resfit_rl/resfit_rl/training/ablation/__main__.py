"""python -m resfit_rl.training.ablation"""

import sys

# Inside: processes that are spawned import this file, and need not all that the command does.
if __name__ == "__main__":
    from resfit_rl.training.ablation.command import main

    sys.exit(main())
