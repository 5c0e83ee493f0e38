"""Table 2: six architectures; early against late fusion, wider against deeper.

python -m experiments.architectures run --workdir W --records FOLDER
python -m experiments.architectures gather --workdir W
"""

import sys

from experiments.paper import TABLE_2, minus
from experiments.sweep import Comparison, Sweep, networks
from experiments.sweep_command import main

COMPARED = (
    ("late-4000-256", "early-4000-256", "late above early"),
    ("late-4000-1024-256", "early-4000-1024-256", "late above early"),
    ("early-4000-256", "early-2560-256", "wider helps"),
    ("early-4000-256", "early-4000-512-256", "shallow above deep"),
    ("early-4000-256", "early-4000-1024-256", "shallow above deep"),
    ("late-4000-256", "late-4000-1024-256", "shallow above deep"),
)
sweep = Sweep(
    name="architectures",
    title="Table 2: architectures",
    claim="Late above early at equal widths; 4000 above 2560; a second hidden layer does not help.",
    points=lambda base: networks(base, *TABLE_2),
    comparisons=[Comparison(*row, minus(TABLE_2[row[0]], TABLE_2[row[1]])) for row in COMPARED],
)

if __name__ == "__main__":
    sys.exit(main(sweep))
