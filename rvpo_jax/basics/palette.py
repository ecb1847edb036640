"""The colors of all figures and pages."""

# Okabe-Ito: told apart by colour-blind readers, on white and on dark.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#B59B00", "#888888")
