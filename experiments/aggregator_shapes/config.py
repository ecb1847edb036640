"""What is drawn and measured: coefficients, grids, random rows."""

import numpy as np

RISK_COEFS = (0.5, 1.0, 4.0)
# The Taylor view is drawn at k = 1; its error over k, on rows of unit normal scores.
TAYLOR_COEFS = tuple(float(k) for k in np.geomspace(0.01, 10, 13))
ROWS = 1000
CHANNELS = 17
ROW_SEED = 0
# Float32 error: k from nearly the mean to nearly the minimum.
NUMERIC_COEFS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
GRID = 121
SMOKE_GRID = 11
SMOKE_ROWS = 20
